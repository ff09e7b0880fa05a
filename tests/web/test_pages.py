"""Pages, the JSON API and static files over HTTP, without a browser."""

from __future__ import annotations

import html
import re
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

import anyio
import httpx
import pytest

from groundswell import limits
from groundswell.errors import InvalidInput, SnapshotGone, Unavailable
from groundswell.web.app import build_app
from groundswell.web.ports import DeadLetter, ExperimentSummary, Overview
from groundswell.web.render import assets, scorecard_html

pytestmark = pytest.mark.anyio

PAGES = ["/", "/experiments", "/experiments/new_checkout", "/experiments/broken_split", "/dead-letters"]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def client(ports: Any, clock: Any) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(build_app(ports, clock), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://pages") as asking:
        yield asking


@pytest.mark.parametrize("path", PAGES)
async def test_a_page_is_whole_and_may_run_only_our_own_files(client: httpx.AsyncClient, path: str):
    page = await client.get(path)

    assert page.status_code == 200
    assert page.text.startswith("<!doctype html>")
    policy = page.headers["content-security-policy"]
    assert "script-src 'self'" in policy
    assert "unsafe" not in policy
    assert page.headers["x-content-type-options"] == "nosniff"
    assert page.headers["cache-control"] == "no-store"
    assert not re.search(r"<script(?![^>]*\bsrc=)|\son\w+=|\sstyle=|javascript:|https?://", page.text)


@pytest.mark.parametrize(
    "path", ["/fragments/overview", "/fragments/experiments", "/fragments/experiments/new_checkout"]
)
async def test_a_fragment_is_what_its_page_holds(client: httpx.AsyncClient, path: str):
    fragment = (await client.get(path)).text
    whole = (await client.get(path.removeprefix("/fragments").replace("overview", ""))).text

    assert "<html" not in fragment
    assert fragment.strip() in whole


async def test_refreshing_can_be_paused(client: httpx.AsyncClient):
    for path in ("/", "/experiments", "/experiments/new_checkout"):
        assert "hx-trigger" in (await client.get(path)).text
        paused = (await client.get(f"{path}?live=off")).text
        assert "hx-trigger" not in paused
        assert "Refresh again" in paused


async def test_a_scorecard_that_will_not_change_is_not_refreshed(client: httpx.AsyncClient):
    assert "hx-trigger" not in (await client.get("/experiments/old_paywall")).text


async def test_a_draft_says_what_to_do(client: httpx.AsyncClient):
    page = await client.get("/experiments/dance_tab")
    answer = await client.get("/v1/experiments/dance_tab/scorecard")

    assert (page.status_code, "give it a start" in page.text) == (200, True)
    assert (answer.status_code, answer.json()["error"]["reason"]) == (409, "not_computable")


@pytest.mark.parametrize(
    ("error", "status", "reason"),
    [
        (Unavailable("the lake is locked"), 503, "unavailable"),
        (SnapshotGone("snapshot 7 is gone"), 410, "snapshot_gone"),
        (InvalidInput("cursor", "x", "must be known"), 400, "invalid_input"),
    ],
)
async def test_an_error_is_told_in_the_form_that_was_asked_for(
    client: httpx.AsyncClient, ports: Any, error: Exception, status: int, reason: str
):
    ports.overview_value = error

    page, answer, fragment = [await client.get(path) for path in ("/", "/v1/overview", "/fragments/overview")]

    assert (page.status_code, answer.status_code, fragment.status_code) == (status, status, status)
    assert answer.json() == {"error": {"reason": reason, "message": str(error)}}
    assert "Traceback" not in page.text
    assert ("retry-after" in page.headers) == (status == 503)


async def test_a_bug_shows_no_traceback(client: httpx.AsyncClient, ports: Any, monkeypatch: pytest.MonkeyPatch):
    def broken() -> Overview:
        raise ZeroDivisionError("secret detail")

    monkeypatch.setattr(ports, "overview", broken)
    page, answer = await client.get("/"), await client.get("/v1/overview")

    assert (page.status_code, answer.status_code) == (500, 500)
    assert "secret" not in page.text + answer.text
    assert answer.json()["error"]["reason"] == "failed"


@pytest.mark.parametrize(
    "path", ["/nope", "/experiments/nope", "/static/nope.js", "/static/../app.py", "/experiments/a/b"]
)
async def test_what_is_not_there_is_not_found(client: httpx.AsyncClient, path: str):
    page = await client.get(path)

    assert page.status_code == 404
    assert "<h1>" in page.text


async def test_the_api_names_what_it_does_not_know(client: httpx.AsyncClient):
    answer = await client.get("/v1/experiments/nope/scorecard")

    assert answer.json() == {"error": {"reason": "not_found", "message": "no experiment is named 'nope'"}}


async def test_only_reading_is_possible(client: httpx.AsyncClient):
    for method in ("POST", "PUT", "DELETE"):
        answer = await client.request(method, "/experiments")

        assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD")
    assert (await client.head("/experiments")).status_code == 200
    assert (await client.post("/v1/overview")).json()["error"]["reason"] == "bad_method"


@pytest.mark.parametrize(
    "address",
    [
        "/v1/experiments/new_checkout/scorecard?snapshot=1",
        "/v1/experiments/new_checkout/scorecard?definitions=3",
        "/v1/overview?limit=x",
        "/v1/experiments?limit=x",
        "/dead-letters?limit=x",
        "/dead-letters?reason=wrong_type&Reason=x",
    ],
)
async def test_a_query_parameter_that_would_be_passed_over_is_refused(client: httpx.AsyncClient, address: str):
    answer = await client.get(address)

    name = address.rpartition("&")[2].rpartition("?")[2].partition("=")[0]
    assert answer.status_code == 400
    assert f"query parameter {name} ==" in html.unescape(answer.text)
    if address.startswith("/v1/"):
        assert answer.json()["error"]["reason"] == "invalid_input"


async def test_the_api_gives_moments_as_text(client: httpx.AsyncClient):
    overview = (await client.get("/v1/overview")).json()
    experiments = (await client.get("/v1/experiments")).json()["experiments"]

    assert overview["data_to"] == "2026-01-17T14:05:00Z"
    assert overview["last_commit"]["committed_at"] == "2026-01-17T14:07:29.600000Z"
    assert overview["sources"][0]["lake"]["committed"] == 8_312_412
    assert experiments[0]["start"] == "2026-01-05T00:00:00Z"
    assert experiments[4]["start"] is None


async def test_the_api_gives_the_scorecard_as_it_is(client: httpx.AsyncClient, ports: Any):
    answer = await client.get("/v1/experiments/new_checkout/scorecard")

    assert answer.json() == ports.scorecards["new_checkout"]


async def test_every_answered_path_is_described_and_every_reference_leads_somewhere(client: httpx.AsyncClient):
    document = (await client.get("/openapi.json")).json()

    described = set(document["paths"])
    assert {"/v1/events", "/v1/overview", "/v1/experiments", "/v1/experiments/{name}/scorecard"} <= described
    assert {"/ofrep/v1/evaluate/flags", "/ofrep/v1/evaluate/flags/{key}", "/openapi.json"} <= described
    references = set(re.findall(r'"#/components/schemas/([^"]+)"', (await client.get("/openapi.json")).text))
    assert references <= set(document["components"]["schemas"])
    operations = [one["operationId"] for path in document["paths"].values() for one in path.values()]
    assert len(operations) == len(set(operations))


async def test_answers_have_the_keys_that_the_document_describes(client: httpx.AsyncClient):
    schemas = (await client.get("/openapi.json")).json()["components"]["schemas"]
    overview = (await client.get("/v1/overview")).json()
    card = (await client.get("/v1/experiments/new_checkout/scorecard")).json()

    assert set(overview) == set(schemas["Overview"]["properties"])
    assert set(overview["sources"][0]) == set(schemas["SourceLedger"]["properties"])
    assert set(card) <= set(schemas["Card"]["properties"])
    assert set(card["results"][0]) <= set(schemas["Result"]["properties"])


async def test_a_static_file_is_kept_for_ever_only_under_its_digest(client: httpx.AsyncClient):
    address = re.search(r"/static/card\.css\?v=\w+", (await client.get("/")).text)
    assert address is not None

    kept, bare = await client.get(address[0]), await client.get("/static/card.css")

    assert "immutable" in kept.headers["cache-control"]
    assert bare.headers["cache-control"] == "no-cache"
    assert kept.content == bare.content == assets()["card.css"].content


async def test_flags_are_answered_beside_the_pages(client: httpx.AsyncClient):
    body = {"context": {"targetingKey": "user-1"}}
    answer = await client.post("/ofrep/v1/evaluate/flags/new_checkout", json=body)

    assert answer.json()["reason"] == "SPLIT"


async def test_too_many_readers_are_asked_to_come_back(ports: Any, clock: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(limits, "page_waiting_max", 2)
    release = anyio.Event()
    overview = ports.overview()

    def slow() -> Overview:
        anyio.from_thread.run(release.wait)
        return overview

    monkeypatch.setattr(ports, "overview", slow)
    transport = httpx.ASGITransport(build_app(ports, clock))
    statuses: list[int] = []
    async with (
        httpx.AsyncClient(transport=transport, base_url="http://pages") as asking,
        anyio.create_task_group() as group,
    ):

        async def ask() -> None:
            answer = await asking.get("/v1/overview")
            statuses.append(answer.status_code)
            if answer.status_code == 503:
                release.set()

        for _ in range(limits.page_readers_max + 3):
            group.start_soon(ask)

    assert sorted(statuses) == [*[200] * (limits.page_readers_max + 2), 503]


async def test_pages_work_while_there_is_nothing_to_show(client: httpx.AsyncClient, ports: Any):
    ports.overview_value = Overview(at_us=0)
    ports.experiment_list = ()
    ports.letters = ()

    texts = [(await client.get(path)).text for path in ("/", "/experiments", "/dead-letters", "/experiments/empty")]

    assert "Waiting for the first event" in texts[0]
    assert "groundswell apply" in texts[1]
    assert "No dead letters wait" in texts[2]
    assert "no unit was exposed yet" in texts[3]


async def test_dead_letters_are_filtered_and_paged(
    client: httpx.AsyncClient, ports: Any, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(limits, "page_rows", 4)

    first = (await client.get("/dead-letters?reason=wrong_type")).text
    older = re.search(r'href="(/dead-letters\?[^"]*cursor=4)"', first)
    assert older is not None
    second = (await client.get(older[1].replace("&amp;", "&"))).text
    broken = await client.get("/dead-letters?cursor=x'--")

    assert first.count("<details") == second.count("<details") == 4
    assert "unknown type" not in re.sub(r"(?s)<nav.*?</nav>", "", first)
    assert broken.status_code == 400


async def test_hostile_text_stays_text_everywhere(client: httpx.AsyncClient, ports: Any, cards: Any):
    hostile = cards["hostile"]["experiment"]
    ports.experiment_list = (
        ExperimentSummary(name=hostile, state="running", unit=hostile, variants={hostile: 1}, description=hostile,
                          metrics=(hostile,)),
    )  # fmt: skip
    letter: dict[str, str] = dict.fromkeys(
        ("id", "source", "reason", "field", "message", "event_id", "type", "content"), hostile
    )
    ports.letters = (DeadLetter(received_at_us=0, **letter),)
    ports.overview_value = Overview(at_us=0, dead_letters={hostile: 1}, refused={hostile: 1}, problems=(hostile,))

    pages = [
        (await client.get(path)).text
        for path in (
            "/",
            "/experiments",
            "/dead-letters",
            "/experiments/hostile",
            f"/{quote(hostile)}",
        )
    ]

    for page in [*pages, scorecard_html(cards["hostile"])]:
        assert "<script>window" not in page
        assert "<img" not in page
    assert all("&lt;script&gt;" in page for page in pages[:4])


def test_a_scorecard_stands_alone(cards: Any):
    for card in cards.values():
        page = scorecard_html(card)
        tags = re.sub(r'"[^"]*"', '""', re.sub(r"(?s)<style>.*?</style>", "", page))
        sheet = re.search(r"(?s)<style>(.*?)</style>", page)

        assert page.startswith("<!doctype html>")
        assert not re.search(r"<script|<link|<[^>]*\s(src|href|style|on\w+)=", tags)
        assert sheet is not None
        assert not re.search(r"@import|url\(|<", sheet[1])


def test_a_name_breaks_after_underscores_and_stays_itself(cards: Any):
    page = scorecard_html(cards["running"])

    assert "new_<wbr>checkout" in page
    assert "<title>new_checkout" in page
