"""OFREP: answers, failures, caching, admission; then an unmodified client against a real server."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
import yaml
from openfeature import api
from openfeature.client import OpenFeatureClient
from openfeature.contrib.provider.ofrep import OFREPProvider
from openfeature.evaluation_context import EvaluationContext
from openfeature.exception import ErrorCode
from openfeature.flag_evaluation import Reason

from groundswell import limits
from groundswell.allocation.assign import assign
from groundswell.errors import Unavailable
from groundswell.model.clock import parse_us
from groundswell.model.definitions import Definitions, ExperimentDef
from groundswell.web.ofrep import OFREP_PREFIX, build_ofrep

SPEC = Path(__file__).parents[2].parent / "shared" / "data" / "peers" / "ofrep" / "openapi.yaml"
ONE = OFREP_PREFIX + "/new_checkout"
USER = {"context": {"targetingKey": "user-1"}}

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def client(ports: Any, clock: Any) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(build_ofrep(ports, clock))
    async with httpx.AsyncClient(transport=transport, base_url="http://flags") as asking:
        yield asking


async def test_a_running_experiment_answers_with_the_units_variant(client: httpx.AsyncClient, ports: Any):
    answer = await client.post(ONE, json=USER)

    variant = assign("new_checkout", ports.defined.experiments["new_checkout"], "user-1")
    assert answer.status_code == 200
    assert answer.json() == {
        "key": "new_checkout",
        "value": variant,
        "reason": "SPLIT",
        "variant": variant,
        "metadata": {"definitions_version": 12, "unit": "user_id", "state": "running"},
    }


@pytest.mark.parametrize(
    ("key", "baseline", "state"),
    [("dance_tab", "control", "draft"), ("spring_banner", "off", "scheduled"), ("old_paywall", "control", "ended")],
)
async def test_an_experiment_that_does_not_run_answers_with_its_baseline(
    client: httpx.AsyncClient, key: str, baseline: str, state: str
):
    for user in ("user-1", "user-2", "user-3", "user-4"):
        answer = await client.post(f"{OFREP_PREFIX}/{key}", json={"context": {"targetingKey": user}})

        assert (answer.json()["value"], answer.json()["reason"]) == (baseline, "DISABLED")
        assert answer.json()["metadata"]["state"] == state


async def test_an_experiment_starts_and_ends_on_time(client: httpx.AsyncClient, clock: Any):
    reasons: list[str] = []
    for moment in ("2026-01-04T23:59:59Z", "2026-01-05T00:00:00Z"):
        clock.set_us(parse_us("now", moment))
        reasons.append((await client.post(ONE, json=USER)).json()["reason"])

    assert reasons == ["DISABLED", "SPLIT"]


async def test_the_attribute_named_as_the_unit_goes_before_the_targeting_key(client: httpx.AsyncClient, ports: Any):
    experiment = ports.defined.experiments["feed_ranking"]
    given = {"by key": {"targetingKey": "k"}, "by unit": {"targetingKey": "k", "device_id": "d7", "user_id": "u"}}

    answers = {
        case: (await client.post(f"{OFREP_PREFIX}/feed_ranking", json={"context": context})).json()["value"]
        for case, context in given.items()
    }

    assert answers == {
        "by key": assign("feed_ranking", experiment, "k"),
        "by unit": assign("feed_ranking", experiment, "d7"),
    }
    assert answers["by key"] != answers["by unit"]


async def test_bulk_answers_every_experiment_and_repeats_nothing_unchanged(client: httpx.AsyncClient, ports: Any):
    first = await client.post(OFREP_PREFIX, json=USER)
    again = await client.post(OFREP_PREFIX, json=USER, headers={"If-None-Match": first.headers["etag"]})
    other = await client.post(
        OFREP_PREFIX, json={"context": {"targetingKey": "user-2"}}, headers={"If-None-Match": first.headers["etag"]}
    )

    assert [flag["key"] for flag in first.json()["flags"]] == list(ports.defined.experiments)
    assert first.json()["metadata"] == {"definitions_version": 12}
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", first.headers["etag"])
    assert other.status_code == 200


async def test_a_weak_tag_in_a_list_and_a_star_match_too(client: httpx.AsyncClient):
    etag = (await client.post(OFREP_PREFIX, json=USER)).headers["etag"]

    for header in (f'"other", W/{etag}', "*"):
        assert (await client.post(OFREP_PREFIX, json=USER, headers={"If-None-Match": header})).status_code == 304


async def test_bulk_changes_its_tag_when_an_experiment_ends(client: httpx.AsyncClient, ports: Any, clock: Any):
    etag = (await client.post(OFREP_PREFIX, json=USER)).headers["etag"]
    ports.defined = Definitions(version=13, experiments=ports.defined.experiments)
    newer = await client.post(OFREP_PREFIX, json=USER, headers={"If-None-Match": etag})
    clock.set_us(parse_us("now", "2026-02-01"))
    later = await client.post(OFREP_PREFIX, json=USER, headers={"If-None-Match": newer.headers["etag"]})

    assert (newer.status_code, newer.json()["metadata"]["definitions_version"]) == (200, 13)
    assert (later.status_code, later.json()["flags"][3]["reason"]) == (200, "SPLIT")


async def test_bulk_names_the_flags_whose_unit_is_missing(client: httpx.AsyncClient):
    answer = await client.post(OFREP_PREFIX, json={"context": {"device_id": "d7"}})

    by_key = {flag["key"]: flag for flag in answer.json()["flags"]}
    assert answer.status_code == 200
    assert by_key["feed_ranking"]["reason"] == "SPLIT"
    assert by_key["new_checkout"]["errorCode"] == "TARGETING_KEY_MISSING"
    assert "user_id" in by_key["new_checkout"]["errorDetails"]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "PARSE_ERROR"),
        (b"not json", "PARSE_ERROR"),
        (b'{"context": {"targetingKey": "a"}', "PARSE_ERROR"),
        (b'{"context": {"targetingKey": "\\ud800"}}', "PARSE_ERROR"),
        (b'{"context": {"targetingKey": "\xff"}}', "PARSE_ERROR"),
        (b'{"context": {"targetingKey": NaN}}', "PARSE_ERROR"),
        (b'{"context": {"deep": ' + b"[" * 10_000 + b"]" * 10_000 + b"}}", "PARSE_ERROR"),
        (b"[]", "INVALID_CONTEXT"),
        (b"{}", "INVALID_CONTEXT"),
        (b'{"context": null}', "INVALID_CONTEXT"),
        (b'{"context": "user-1"}', "INVALID_CONTEXT"),
        (b'{"context": {"targetingKey": 7}}', "INVALID_CONTEXT"),
        (b'{"context": {"targetingKey": ""}}', "INVALID_CONTEXT"),
        (b'{"context": {"user_id": ["a"]}}', "INVALID_CONTEXT"),
        (b'{"context": {"targetingKey": "' + b"x" * 1_025 + b'"}}', "INVALID_CONTEXT"),
        (b'{"context": {}}', "TARGETING_KEY_MISSING"),
        (b'{"context": {"targetingKey": null}}', "TARGETING_KEY_MISSING"),
        (b'{"context": {"plan": "free"}}', "TARGETING_KEY_MISSING"),
    ],
)
async def test_a_context_that_cannot_be_used_is_told_why(client: httpx.AsyncClient, body: bytes, code: str):
    answer = await client.post(ONE, content=body)

    assert (answer.status_code, answer.json()["key"], answer.json()["errorCode"]) == (400, "new_checkout", code)
    assert "; send " in answer.json()["errorDetails"]
    assert not re.search(r"Traceback|Input data|codec|malformed|Expected `|\$\.context|\bNone\b", answer.text)


@pytest.mark.parametrize("body", [b"nonsense", b"{}", b'{"context": {}}'])
async def test_bulk_without_a_usable_context_fails_whole(client: httpx.AsyncClient, body: bytes):
    answer = await client.post(OFREP_PREFIX, content=body)

    assert answer.status_code == 400
    assert set(answer.json()) == {"errorCode", "errorDetails"}


@pytest.mark.parametrize("key", ["nope", "new_checkout/", "a/b", "%00", "<script>", "é"])
async def test_an_unknown_flag_is_not_found(client: httpx.AsyncClient, key: str):
    answer = await client.post(f"{OFREP_PREFIX}/{key}", json=USER)

    assert (answer.status_code, answer.json()["errorCode"]) == (404, "FLAG_NOT_FOUND")


async def test_one_experiment_that_cannot_be_read_spoils_no_other(client: httpx.AsyncClient, ports: Any):
    broken = ExperimentDef(variants={"a": 0})
    ports.defined = Definitions(version=1, experiments={"broken": broken, **ports.defined.experiments})

    answer = (await client.post(OFREP_PREFIX, json=USER)).json()

    assert (answer["flags"][0]["key"], answer["flags"][0]["errorCode"]) == ("broken", "GENERAL")
    assert answer["flags"][1]["reason"] == "SPLIT"


async def test_a_body_past_the_limit_is_not_read(client: httpx.AsyncClient):
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(1_000):
            yield b" " * 1_024

    announced = await client.post(ONE, content=b" " * (limits.flag_body_bytes_max + 1))
    chunked = await client.post(ONE, content=endless())

    assert (announced.status_code, chunked.status_code) == (413, 413)


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
async def test_other_methods_are_told_which_to_use(client: httpx.AsyncClient, method: str):
    answer = await client.request(method, ONE)

    assert (answer.status_code, answer.headers["allow"]) == (405, "POST, OPTIONS")
    assert answer.json()["errorCode"] == "GENERAL"


async def test_a_browser_may_ask_from_any_origin(client: httpx.AsyncClient):
    preflight = await client.options(ONE, headers={"Origin": "https://shop.example", "X-API-Key": "no"})

    assert preflight.status_code == 204
    assert preflight.headers["access-control-allow-origin"] == "*"
    assert "Authorization" in preflight.headers["access-control-allow-headers"]


@pytest.mark.parametrize(
    "headers", [{}, {"Authorization": "Bearer no"}, {"Authorization": "Basic k"}, {"X-API-Key": ""}]
)
async def test_a_wrong_key_is_unauthorized(client: httpx.AsyncClient, ports: Any, headers: dict[str, str]):
    ports.key = "k"

    answer = await client.post(ONE, json=USER, headers=headers)

    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
    assert "ask whoever runs this server for a key" in answer.text


@pytest.mark.parametrize("headers", [{"Authorization": "bearer k"}, {"X-API-Key": "k"}])
async def test_either_header_carries_the_key(client: httpx.AsyncClient, ports: Any, headers: dict[str, str]):
    ports.key = "k"

    assert (await client.post(ONE, json=USER, headers=headers)).status_code == 200


async def test_a_key_that_asks_too_often_waits_and_others_do_not(ports: Any, clock: Any):
    app = build_ofrep(ports, clock, requests_per_s_max=2)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://flags") as asking:
        mine = {"X-API-Key": "mine"}
        statuses = [(await asking.post(ONE, json=USER, headers=mine)).status_code for _ in range(6)]
        refused = await asking.post(ONE, json=USER, headers=mine)
        other = await asking.post(ONE, json=USER, headers={"X-API-Key": "theirs"})
        clock.advance(0.5)
        later = [(await asking.post(ONE, json=USER, headers=mine)).status_code for _ in range(2)]

    assert statuses == [200, 200, 200, 200, 429, 429]
    assert refused.headers["retry-after"] == "1"
    assert other.status_code == 200
    assert later == [200, 429]


async def test_a_store_that_is_away_is_not_the_askers_fault(client: httpx.AsyncClient, ports: Any, monkeypatch: Any):
    def away() -> Definitions:
        raise Unavailable("the control store is locked")

    monkeypatch.setattr(ports, "definitions", away)
    answer = await client.post(ONE, json=USER)

    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert "locked" not in answer.text


async def test_a_body_that_never_begins_is_given_up(ports: Any, clock: Any):
    app = build_ofrep(ports, clock, body_s_max=0.05)
    sent: list[Any] = []

    async def receive() -> Any:
        await anyio.sleep(3600)

    async def send(message: Any) -> None:
        sent.append(message)

    await app({"type": "http", "method": "POST", "path": ONE, "headers": [(b"content-length", b"9")]}, receive, send)

    assert sent[0]["status"] == 408
    assert b'"errorCode":"GENERAL"' in sent[1]["body"]


async def test_a_body_that_is_broken_off_is_no_context(ports: Any, clock: Any):
    sent: list[Any] = []
    arriving = [
        {"type": "http.request", "body": b'{"context": {"targetingKey": "u"}}', "more_body": True},
        {"type": "http.disconnect"},
    ]

    async def receive() -> Any:
        return arriving.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    await build_ofrep(ports, clock)({"type": "http", "method": "POST", "path": ONE, "headers": []}, receive, send)

    assert sent[0]["status"] == 400
    assert b"broken off" in sent[1]["body"]


@pytest.mark.parametrize("empty", ["", None])
async def test_an_empty_attribute_names_nobody_as_in_an_event(client: httpx.AsyncClient, empty: str | None):
    plain = await client.post(ONE, json=USER)
    beside = await client.post(ONE, json={"context": {"targetingKey": "user-1", "user_id": empty}})
    alone = await client.post(ONE, json={"context": {"user_id": empty}})
    bulk = await client.post(OFREP_PREFIX, json={"context": {"user_id": empty}})

    assert (beside.status_code, beside.json()) == (200, plain.json())
    for nobody in (alone, bulk):
        assert (nobody.status_code, nobody.json()["errorCode"]) == (400, "TARGETING_KEY_MISSING")


@pytest.mark.skipif(not SPEC.is_file(), reason="the protocol's OpenAPI file is not on this machine")
async def test_answers_fit_the_protocols_own_schema(client: httpx.AsyncClient):
    schemas: dict[str, Any] = yaml.safe_load(SPEC.read_text())["components"]["schemas"]
    reasons = schemas["evaluationSuccess"]["allOf"][0]["properties"]["reason"]["enum"]
    codes = [*schemas["evaluationFailure"]["properties"]["errorCode"]["enum"], "FLAG_NOT_FOUND"]
    bulk = (await client.post(OFREP_PREFIX, json={"context": {"device_id": "d7"}})).json()

    for flag in bulk["flags"]:
        assert flag.get("reason", "SPLIT") in reasons
        assert flag.get("errorCode", "GENERAL") in codes
        assert ("value" in flag) != ("errorCode" in flag)
        assert all(isinstance(value, str | int) for value in flag.get("metadata", {}).values())


@pytest.fixture
def asking(ports: Any, clock: Any, serve: Callable[..., Any]) -> Iterator[OpenFeatureClient]:
    ports.key = "k"
    with serve(build_ofrep(ports, clock)) as url:
        provider = OFREPProvider(url, headers_factory=lambda: {"Authorization": f"Bearer {ports.key_sent}"})
        ports.key_sent = "k"
        api.set_provider(provider)
        try:
            yield api.get_client()
        finally:
            api.shutdown()
            provider.session.close()


def test_an_unmodified_client_sees_variants_reasons_and_errors(asking: OpenFeatureClient, ports: Any):
    user = EvaluationContext("user-1", {"plan": "free"})

    running = asking.get_string_details("new_checkout", "fallback", user)
    ended = asking.get_string_details("old_paywall", "fallback", user)
    unknown = asking.get_string_details("nope", "fallback", user)
    nobody = asking.get_string_details("new_checkout", "fallback", EvaluationContext(None, {"plan": "free"}))
    unusable = asking.get_string_details("new_checkout", "fallback", EvaluationContext("u", {"user_id": 7}))
    mistyped = asking.get_boolean_details("new_checkout", default_value=True, evaluation_context=user)
    ports.key_sent = "revoked"
    locked_out = asking.get_string_details("new_checkout", "fallback", user)

    variant = assign("new_checkout", ports.defined.experiments["new_checkout"], "user-1")
    assert (running.value, running.variant, running.reason) == (variant, variant, Reason.SPLIT)
    assert running.flag_metadata["definitions_version"] == 12
    assert (ended.value, ended.reason) == ("control", Reason.DISABLED)
    assert (unknown.value, unknown.error_code) == ("fallback", ErrorCode.FLAG_NOT_FOUND)
    assert (nobody.value, nobody.error_code) == ("fallback", ErrorCode.TARGETING_KEY_MISSING)
    assert unusable.error_code == ErrorCode.INVALID_CONTEXT
    assert (mistyped.value, mistyped.error_code) == (True, ErrorCode.TYPE_MISMATCH)
    assert (locked_out.value, locked_out.error_message) == ("fallback", "unauthorized")


def test_an_unmodified_client_backs_off_when_told_to(ports: Any, clock: Any, serve: Callable[..., Any]):
    with serve(build_ofrep(ports, clock, requests_per_s_max=0.5)) as url:
        provider = OFREPProvider(url)
        api.set_provider(provider)
        asking = api.get_client()
        user = EvaluationContext("user-1")

        first, second, third = (asking.get_string_details("new_checkout", "fallback", user) for _ in range(3))
        api.shutdown()
        provider.session.close()

    assert first.error_code is None
    assert "Rate limited" in str(second.error_message)
    assert "paused" in str(third.error_message)
