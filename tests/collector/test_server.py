"""Real processes, real HTTP, a real log: hostile bodies, naughty texts, stops and kills."""

from __future__ import annotations

import gzip
import itertools
import json
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from groundswell import limits

KEY = {"x-write-key": "gsw_good"}

# as in the Big List of Naughty Strings: what breaks parsers, shells, queries, pages, and programs that count characters
NAUGHTY = [
    "", " ", "\t\n\r", "\0", "a\0b", "\x7f\x1b[31m", "\\", '"', "'", '\\"', "\\u0041", "%00", "%s%d", "{0}",
    "${HOME}", "{{7*7}}", "null", "NULL", "None", "undefined", "true", "NaN", "Infinity", "-0", "1e400", "0x1F",
    "1/0", "[]", "'; DROP TABLE events; --", "1' OR '1'='1", "<script>alert(1)</script>", "<!--", "]]>", "&lt;",
    "../../../etc/passwd", "C:\\CON", "$(reboot)", "`id`", "|| true", "=1+1", "@SUM(1)", "\r\nSet-Cookie: a=b",
    "田中さん", "사회과학원", "Ω≈ç√∫˜µ≤≥÷", "ÅÍÎÏ˝ÓÔÒÚÆ☃", "ثم نفس سقطت", "\u2066test\u2069", "\u202etest\u202e",
    "\u200b\u200c\u200d\ufeff", "\u00ad", "Z\u032e\u0320A\u0355\u0317L\u0347\u0353G\u033bO\u032d", "🇩🇪🇫🇷", "👾 🙅",
    "👩\u200d👩\u200d👧\u200d👦", "𝕋𝕙𝕖 𝕢𝕦𝕚𝕔𝕜", "\U0010ffff", "\ue000", "\ufffe\uffff", "\ufffd", "\u2028\u2029\u0085",
    "é", "e\u0301", "ﬀ", "ß", "ı", "İ", "ǆ", "ﷺ", "𐐷", "x" * 5000, "\\ud83d", "\b\f\v", "\u3000", "\uff0c", "１２３",
]  # fmt: skip


BLANK = {" ", "\t\n\r", "\0", "\u200b\u200c\u200d\ufeff", "\u00ad", "\u2028\u2029\u0085", "\b\f\v", "\u3000"}


def event(number: Any, **properties: Any) -> dict[str, Any]:
    return {"event_id": str(number), "type": "view", "user_id": f"u{number}", "properties": properties}


def post(served: Any, content: bytes, **headers: str) -> httpx.Response:
    named = KEY | {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.post(served.url + "/v1/events", content=content, headers=named, timeout=30)


def test_naughty_texts_go_in_and_come_out_unchanged(served: Any) -> None:
    escaped = [event(f"a{i}", title=text) for i, text in enumerate(NAUGHTY)]
    plain = [event(f"p{i}", title=text) for i, text in enumerate(NAUGHTY)]
    ids = [
        {"event_id": text, "type": "view", "user_id": text, "context": text}
        for text in NAUGHTY
        if 0 < len(text) < 256 and text not in BLANK
    ]

    answers = [
        post(served, json.dumps(escaped).encode()),
        post(served, "\n".join(json.dumps(one, ensure_ascii=False) for one in plain).encode()),
        post(served, gzip.compress(json.dumps(ids).encode()), content_encoding="gzip"),
    ]

    assert [answer.json()["accepted"] for answer in answers] == [len(escaped), len(plain), len(ids)]
    rows = {row["event_id"]: row for row in served.read().rows()}
    for number, text in enumerate(NAUGHTY):
        assert rows[f"a{number}"]["title"] == text
        assert rows[f"p{number}"]["title"] == text
    for sent in ids:
        assert rows[sent["event_id"]]["user_id"] == sent["user_id"]
        assert json.loads(rows[sent["event_id"]]["extra"]) == {"_envelope": {"context": sent["context"]}}


@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [
        (b"\0" * 1000, 400, "not_json"),
        (b"\xff\xfe" * 1000, 400, "invalid_utf8"),
        (b"[" * 1_000_000, 400, "too_deep"),
        (b'{"a":' * 500_000, 400, "too_large"),
        (b'[{"event_id":"1","type":"view","x":' + b"[" * 10_000 + b"]" * 10_000 + b"}]", 400, "too_deep"),
        (b'{"event_id":"' + b"x" * 7_000_000 + b'"}', 400, "too_large"),
        (b"[" + b"1," * 2_000_000 + b"1]", 413, "too_many_events"),
        (b"\n" * 8_000_000, 400, "empty"),
        (b'{"event_id":"1","type":"view","properties":{"watch_ms":1e-999999999999999999999}}', 200, "out_of_range"),
        (b'{"event_id":"1","type":"view","properties":{"watch_ms":' + b"9" * 200_000 + b"}}", 200, "out_of_range"),
        (b'"' + b'\\"' * 100_000 + b"\n" + b'{"', 400, "not_json"),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_hostile_bodies_are_answered_soon_and_harm_nobody(served: Any, body: bytes, status: int, reason: str) -> None:
    began = time.monotonic()

    answer = post(served, body)

    assert answer.status_code == status
    assert answer.json()["verdicts"][0]["reason"] == reason
    assert time.monotonic() - began < 5
    assert post(served, json.dumps(event(1)).encode()).json()["accepted"] == 1


def test_a_body_of_100_mb_is_refused_without_being_held(served: Any) -> None:
    before = resident_bytes(served)

    def chunks() -> Any:
        yield from itertools.repeat(b"x" * 65_536, 1600)

    statuses: list[int] = []
    for content in (chunks(), bytes(100 * 1024 * 1024)):
        try:
            statuses.append(httpx.post(served.url + "/v1/events", content=content, headers=KEY, timeout=30).status_code)
        except httpx.TransportError:  # it hung up on us before we had sent all
            statuses.append(413)

    assert statuses == [413, 413]
    assert resident_bytes(served) - before < 80 * 1024 * 1024
    assert post(served, json.dumps(event(1)).encode()).status_code == 200


def resident_bytes(served: Any) -> int:
    pages = [int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]) for pid in served.workers()]
    return sum(pages) * 4096


def test_broken_chunks_are_the_senders_fault(served: Any) -> None:
    head = b"POST /v1/events HTTP/1.1\r\nHost: x\r\nX-Write-Key: gsw_good\r\nTransfer-Encoding: chunked\r\n\r\n"
    with socket.create_connection(("127.0.0.1", served.port), timeout=10) as connection:
        connection.sendall(head + b"zz\r\nabc\r\n0\r\n\r\n")

        answer = connection.recv(4096)

    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b'"reason":"broken_body"' in answer
    assert post(served, json.dumps(event(1)).encode()).status_code == 200


def test_a_gzip_bomb_is_refused(served: Any) -> None:
    bomb = gzip.compress(bytes(200 * 1024 * 1024))

    answer = post(served, bomb, content_encoding="gzip")

    assert (answer.status_code, answer.json()["error"]["reason"]) == (413, "too_large")


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"\0\0\0\0\r\n\r\n",
        b"POST /v1/events HTTP/1.1\r\n\r\n",
        b"POST /v1/events HTTP/1.1\r\nhost: a\r\ncontent-length: -5\r\n\r\n",
        b"POST /v1/events HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello",
        b"POST /v1/events HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        b"GET " + b"/x" * 200_000 + b" HTTP/1.1\r\nhost: a\r\n\r\n",
        b"POST /v1/events HTTP/9.9\r\nhost: a\r\n\r\n",
    ],
    ids=lambda value: repr(value)[:40],
)
def test_what_is_no_http_is_no_success(served: Any, request_bytes: bytes) -> None:
    with socket.create_connection(("127.0.0.1", served.port), timeout=10) as connection:
        connection.sendall(request_bytes)
        connection.shutdown(socket.SHUT_WR)
        answer = connection.recv(65_536)

    assert answer == b"" or int(answer.split()[1]) >= 400
    assert httpx.get(served.url + "/healthz").status_code == 200


def test_a_body_that_trickles_is_given_up(served: Any) -> None:
    head = b"POST /v1/events HTTP/1.1\r\nhost: a\r\nx-write-key: gsw_good\r\ncontent-length: 1000\r\n\r\n{"
    with socket.create_connection(("127.0.0.1", served.port), timeout=20) as connection:
        connection.sendall(head)
        answer = connection.recv(65_536)

    assert answer.split()[1] == b"408"


def test_one_scrape_counts_what_both_workers_did(served: Any) -> None:
    before = accepted_total(served)
    for number in range(40):  # a connection each, so that both workers get some
        assert post(served, json.dumps(event(number)).encode()).status_code == 200

    assert accepted_total(served) - before == 40


def accepted_total(served: Any) -> float:
    name = 'groundswell_collector_events_total{verdict="accepted"} '
    (line,) = [line for line in httpx.get(served.url + "/metrics").text.splitlines() if line.startswith(name)]
    return float(line.removeprefix(name))


class Traffic:
    """Senders that post until they are stopped, and remember what was acknowledged."""

    def __init__(self, served: Any, senders: int = 8) -> None:
        self._served = served
        self._stopped = threading.Event()
        self.acked: set[str] = set()
        self.statuses: set[int] = set()
        self._threads = [threading.Thread(target=self._send, args=(sender,)) for sender in range(senders)]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join()

    def _send(self, sender: int) -> None:
        with httpx.Client(headers=KEY, timeout=30) as client:
            for round_ in itertools.count():
                if self._stopped.is_set():
                    return
                ids = [f"{sender}-{round_}-{i}" for i in range(20)]
                try:
                    answer = client.post(self._served.url + "/v1/events", json=[event(one) for one in ids])
                except httpx.TransportError:
                    return
                self.statuses.add(answer.status_code)
                if answer.status_code == 200:
                    self.acked.update(ids)


def run_until(traffic: Traffic, count: int) -> None:
    for _ in range(2000):
        if len(traffic.acked) >= count:
            return
        time.sleep(0.01)
    raise AssertionError(traffic.statuses)


def test_a_graceful_stop_loses_nothing_and_answers_whom_it_took(serve: Callable[[], Any]) -> None:
    served = serve()
    traffic = Traffic(served)
    traffic.start()
    run_until(traffic, 2000)

    code = served.stop()
    traffic.stop()

    assert code == 0
    assert traffic.statuses <= {200, 503}
    logged = {row["event_id"] for row in served.read().rows()}
    assert traffic.acked == logged
    assert "Traceback" not in served.output()


def test_a_sudden_kill_loses_nothing_that_was_acknowledged(serve: Callable[[], Any]) -> None:
    served = serve()
    traffic = Traffic(served)
    traffic.start()
    run_until(traffic, 1000)

    served.kill()
    traffic.stop()

    logged = {row["event_id"] for row in served.read().rows()}
    assert traffic.acked <= logged
    again = serve()
    assert post(again, json.dumps(event("after")).encode()).status_code == 200


def test_a_worker_that_dies_is_replaced(serve: Callable[[], Any]) -> None:

    served = serve()
    first = served.workers()
    os.kill(first[0], signal.SIGKILL)

    for _ in range(200):
        if len(served.workers()) == 2 and first[0] not in served.workers():
            break
        time.sleep(0.1)

    for number in range(10):
        for _ in range(50):
            try:
                assert post(served, json.dumps(event(number)).encode()).status_code == 200
                break
            except httpx.TransportError:
                time.sleep(0.1)
    assert served.stop() == 0


def test_idle_partitions_advance_by_one_heart(served: Any) -> None:
    beats: list[int] = []
    for _ in range(100):
        beats = [content.heartbeat_us for content in served.read().contents if content.heartbeat_us is not None]
        if len(beats) >= 3 * limits.log_partitions:
            break
        time.sleep(0.1)

    assert len(beats) >= 3 * limits.log_partitions
    assert len(beats) == limits.log_partitions * len(set(beats)), "two processes beat"
