"""What senders are told, and what the log holds after it."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
import re
import threading
import zlib
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
import zstandard

from groundswell import limits
from groundswell.collector.appender import Appender
from groundswell.collector.bodies import Receiver
from groundswell.errors import Corrupt, Unauthorized, Unavailable
from groundswell.model.clock import SystemClock
from groundswell.model.definitions import Definitions, EventDef
from groundswell.wire.intake import UNKNOWN_SOURCE

Client = Any
Start = Callable[..., Client]
ReadLog = Callable[[Any], Any]

GOOD = b'{"event_id":"1","type":"view","user_id":"u","properties":{"watch_ms":5}}'
DEAD = b'{"event_id":"2","type":"view","properties":{"watch_ms":5.5}}'
BAD = b'{"type":"view"}'


# --- verdicts --------------------------------------------------------------------------------------------------


def test_accepted_events_are_in_the_log_when_the_answer_comes(client: Client, log: Any, read_log: ReadLog) -> None:
    answer = client(b"[" + GOOD + b"]")

    assert (answer.status, answer.counts) == (200, (1, 1, 0, 0))
    assert "verdicts" not in answer.json
    (row,) = read_log(log).rows()
    assert (row["event_id"], row["source"], row["watch_ms"]) == ("1", "web", 5)


def test_a_mixed_batch_is_answered_with_what_was_not_accepted(client: Client, log: Any, read_log: ReadLog) -> None:
    answer = client(b"\n".join([GOOD, BAD, DEAD, GOOD]))

    assert (answer.status, answer.counts) == (200, (4, 2, 1, 1))
    refused, dead = answer.json["verdicts"]
    assert (refused["index"], refused["status"], refused["reason"]) == (1, "refused", "missing_event_id")
    assert (dead["index"], dead["status"], dead["reason"]) == (2, "dead_lettered", "wrong_type")
    assert (dead["field"], dead["event_id"]) == ("watch_ms", "2")
    assert "must be of type int" in dead["message"]
    logged = read_log(log)
    assert len(logged.rows()) == 2
    assert [letter["raw"] for letter in logged.dead()] == [DEAD]
    assert logged.reasons() == {"missing_event_id": 1}


def test_a_verdict_for_every_event_is_there_for_the_asking(client: Client) -> None:
    verdicts = client(b"\n".join([GOOD, BAD, GOOD]), query="a=1&verdicts=all").json["verdicts"]

    assert [(verdict["index"], verdict["status"]) for verdict in verdicts] == [
        (0, "accepted"),
        (1, "refused"),
        (2, "accepted"),
    ]


def test_a_dead_letter_alone_is_taken(client: Client) -> None:
    answer = client(DEAD)

    assert (answer.status, answer.counts) == (200, (1, 0, 1, 0))


@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [
        (BAD, 400, "missing_event_id"),
        (BAD + b"\n" + BAD, 400, "missing_event_id"),
        (b"", 400, "empty"),
        (b"[]", 400, "empty"),
        (b"[1,]", 400, "not_json"),
        (b"\n".join([GOOD] * (limits.batch_events_max + 1)), 413, "too_many_events"),
    ],
)
def test_a_body_of_which_nothing_is_taken_is_no_success(
    client: Client, log: Any, read_log: ReadLog, body: bytes, status: int, reason: str
) -> None:
    answer = client(body)

    assert answer.status == status
    assert answer.json["verdicts"][0]["reason"] == reason
    assert answer.json["received"] == answer.json["refused"] == len(answer.json["verdicts"])
    assert read_log(log).rows() == []


# --- keys ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "headers",
    [
        {"x_write_key": "gsw_app"},
        {"authorization": "Bearer gsw_app"},
        {"authorization": "bearer  gsw_app "},
        {"authorization": "Basic " + base64.b64encode(b"gsw_app:").decode()},
        {"authorization": "Basic " + base64.b64encode(b"gsw_app").decode(), "x_write_key": "gsw_good"},
    ],
)
def test_a_key_may_come_in_three_ways(client: Client, log: Any, read_log: ReadLog, headers: dict[str, str]) -> None:
    assert client(GOOD, **headers).status == 200
    assert [row["source"] for row in read_log(log).rows()] == ["app"]


@pytest.mark.parametrize(
    ("headers", "message"),
    [
        ({}, "missing"),
        ({"x_write_key": ""}, "missing"),
        ({"x_write_key": "gsw_nobody"}, "unknown"),
        ({"x_write_key": "\xff\xfe"}, "unknown"),
        ({"x_write_key": "x" * 60_000}, "unknown"),
        ({"x_write_key": "gsw_old"}, "revoked"),
        ({"authorization": "Bearer gsw_nobody"}, "unknown"),
        ({"authorization": "Basic !!!"}, "no HTTP Basic"),
        ({"authorization": "Basic /w=="}, "no HTTP Basic"),
        ({"authorization": "Digest x"}, "Bearer or Basic"),
    ],
)
def test_without_a_valid_key_nothing_is_taken_and_it_is_counted(
    client: Client, control: Any, log: Any, read_log: ReadLog, headers: dict[str, str], message: str
) -> None:
    client.key = None
    control.revoked.add("gsw_old")

    answer = client(GOOD, **headers)

    assert (answer.status, answer.headers["www-authenticate"]) == (401, "Bearer")
    assert message in answer.json["error"]["message"]
    client(GOOD, x_write_key="gsw_good")
    logged = read_log(log)
    assert logged.counts()[UNKNOWN_SOURCE].refused == 1
    assert logged.reasons() == {"unauthorized": 1}
    assert len(logged.rows()) == 1


@pytest.mark.parametrize("key", ["gsw_nobody", "gsw_old", ""])
def test_a_sender_without_a_key_is_told_to_ask_and_not_to_run_a_command(
    client: Client, control: Any, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_key: str) -> str:
        raise Unauthorized("write key is unknown; list keys with: groundswell keys list")

    monkeypatch.setattr(control, "resolve_key", refuse)

    message = client(GOOD, x_write_key=key).json["error"]["message"]

    assert "ask whoever runs this collector for a key" in message
    assert "groundswell keys" not in message


def test_keys_that_cannot_be_looked_up_are_told_without_the_drivers_text(
    client: Client, control: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def locked(_key: str) -> str:
        raise Unavailable("/var/control.sqlite: database is locked")

    monkeypatch.setattr(control, "resolve_key", locked)

    answer = client(GOOD)

    assert (answer.status, answer.headers["retry-after"]) == (503, "5")
    assert answer.json["error"]["message"].startswith("write keys cannot be looked up just now; ")


def test_a_revoked_key_stops_working(client: Client, control: Any) -> None:
    assert client(GOOD).status == 200
    control.revoked.add("gsw_good")
    assert client(GOOD).status == 401


# --- bodies ----------------------------------------------------------------------------------------------------


def zstd(data: bytes) -> bytes:
    return zstandard.ZstdCompressor().compress(data)


@pytest.mark.parametrize(("encoding", "compress"), [("gzip", gzip.compress), ("ZSTD", zstd), ("identity", bytes)])
@pytest.mark.parametrize("count", [1, 2000])
def test_compressed_bodies_are_taken(
    client: Client, encoding: str, compress: Callable[[bytes], bytes], count: int
) -> None:
    answer = client(compress(b"\n".join([GOOD] * count)), content_encoding=encoding)

    assert (answer.status, answer.counts) == (200, (count, count, 0, 0))


@pytest.mark.parametrize(
    ("encoding", "body", "status"),
    [
        ("br", GOOD, 415),
        ("gzip, gzip", GOOD, 415),
        ("gzip", GOOD, 400),
        ("gzip", gzip.compress(GOOD)[:-1], 400),
        ("gzip", zlib.compress(GOOD), 400),
        ("gzip", gzip.compress(GOOD) + b"x", 400),
        ("gzip", gzip.compress(b"") * 1000, 400),
        ("gzip", gzip.compress(bytes(limits.body_decoded_bytes_max + 1)), 413),
        ("zstd", GOOD, 400),
        ("zstd", zstd(GOOD * 1000)[:-1], 400),
        ("zstd", zstd(bytes(1 << 30)), 413),
        ("zstd", zstd(GOOD) + b"x", 400),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_what_is_not_as_its_encoding_says_is_refused_and_counted(
    client: Client, log: Any, read_log: ReadLog, encoding: str, body: bytes, status: int
) -> None:
    answer = client(body, content_encoding=encoding)

    assert answer.status == status
    assert not re.search(r"Error -|zstd error|decompress(or|ing)|header check", answer.body.decode())
    assert "; " in answer.json["error"]["message"]
    client(GOOD)
    logged = read_log(log)
    assert len(logged.rows()) == 1
    assert logged.counts()["web"].refused == 1


def test_a_body_that_says_it_is_too_large_is_never_received(client: Client) -> None:
    answer = client(b"", content_length=str(100 * 1024 * 1024))

    assert answer.status == 413
    assert "send smaller batches" in answer.json["error"]["message"]


@pytest.mark.parametrize("length", ["-1", "1e3", "9" * 30, "", "12 "])
def test_a_length_that_is_no_number_is_refused(client: Client, length: str) -> None:
    assert client(GOOD, content_length=length).status == 400


def test_a_body_that_turns_out_too_large_is_cut_off(start: Start) -> None:
    receiver = Receiver(body_bytes_max=1000)
    client = start(receiver=receiver)

    assert client([b"x" * 400] * 3).status == 413
    assert client(b"x" * 1001, length=False).status == 413
    assert receiver.receiving_bytes == 0


def test_a_body_in_pieces_is_put_together(client: Client) -> None:
    assert client([GOOD[:10], GOOD[10:30], b"", GOOD[30:]]).counts == (1, 1, 0, 0)


def test_a_body_that_never_ends_is_given_up(start: Start) -> None:
    receiver = Receiver(body_s_max=0.05)
    client = start(receiver=receiver)

    answer = client([GOOD], hang=True)

    assert answer.status == 408
    assert receiver.receiving_bytes == 0


def test_a_body_that_never_begins_is_given_up_and_takes_no_memory_from_others(start: Start) -> None:
    receiver = Receiver(receiving_bytes_max=1000, body_s_max=0.4)
    client = start(receiver=receiver)
    idle = [client.send([], content_length="900") for _ in range(16)]

    busy = client(GOOD)

    assert busy.status == 200
    assert not any(future.done() for future in idle)
    assert receiver.receiving_bytes == 0
    assert {future.result(10).status for future in idle} == {408}


def test_bodies_that_are_being_received_are_bounded_together(start: Start) -> None:
    receiver = Receiver(receiving_bytes_max=1000, body_s_max=20)
    client = start(receiver=receiver)
    slow = client.send([b"x" * 800], hang=True, content_length="800")
    while receiver.receiving_bytes < 800:
        threading.Event().wait(0.001)

    answer = client(b"x" * 300)

    assert (answer.status, answer.headers["retry-after"]) == (503, "1")
    assert client(GOOD).status == 200
    slow.cancel()
    while receiver.receiving_bytes:
        threading.Event().wait(0.001)
    assert client(b"x" * 300).status == 400


@pytest.mark.parametrize(
    "kind", ["application/json", "text/plain;charset=UTF-8", "application/x-www-form-urlencoded", ""]
)
def test_the_type_of_a_body_is_no_promise(client: Client, kind: str) -> None:
    assert client(b"[" + GOOD + b"]", content_type=kind).status == 200


def test_lines_that_are_said_to_be_lines_are_taken_as_lines(client: Client) -> None:
    answer = client(b"[\n" + GOOD, content_type="application/x-ndjson; charset=utf-8")

    assert answer.counts == (2, 1, 0, 1)


# --- routes ----------------------------------------------------------------------------------------------------


def test_paths_and_methods_that_are_not_there_say_what_is(client: Client) -> None:
    missing, wrong = client(GOOD, path="/v2/events"), client(b"", method="GET", path="/v1/events")

    assert missing.status == 404
    assert "/v1/events" in missing.json["error"]["message"]
    assert (wrong.status, wrong.headers["allow"]) == (405, "POST")
    assert client(GOOD, path="/healthz").status == 405


def test_health_and_readiness(client: Client) -> None:
    assert client.get("/healthz").json == {"status": "ok"}
    assert client.get("/readyz").json == {"status": "ready"}
    head = client(b"", method="HEAD", path="/healthz")
    assert (head.status, head.body) == (200, b"")


def test_metrics_count_what_was_told(client: Client) -> None:
    client(b"\n".join([GOOD, BAD, DEAD]))
    client(GOOD, x_write_key="nobody")

    text = client.get("/metrics").body.decode()

    for line in (
        'groundswell_collector_events_total{verdict="accepted"} 1.0',
        'groundswell_collector_events_total{verdict="dead_lettered"} 1.0',
        'groundswell_collector_events_total{verdict="refused"} 2.0',
        'groundswell_collector_refused_total{reason="missing_event_id"} 1.0',
        'groundswell_collector_requests_total{status="401"} 1.0',
        'groundswell_collector_appends_total{result="durable"} 1.0',
        'groundswell_collector_request_seconds_bucket{le="+Inf"} 2.0',
    ):
        assert line in text.splitlines()


# --- the log ---------------------------------------------------------------------------------------------------


def test_no_answer_before_the_append_has_returned(client: Client, log: Any) -> None:
    log.open.clear()
    future = client.send(GOOD)
    assert log.entered.acquire(timeout=10)

    assert not future.done()
    log.open.set()
    assert future.result(10).status == 200


def test_a_log_that_cannot_be_written_is_told_and_nothing_is_counted(
    client: Client, log: Any, read_log: ReadLog
) -> None:
    log.failure = Unavailable("/var/log/segment-1.sqlite: the disk is full; free space, then retry")

    failed = client(b"\n".join([GOOD, BAD]))
    unready = client.get("/readyz")
    log.failure = None
    retried = client(b"\n".join([GOOD, BAD]))

    assert (failed.status, failed.headers["retry-after"]) == (503, "5")
    for answer in (failed, unready):
        assert answer.json["error"]["message"].startswith("the log cannot be written just now; ")
        assert "sqlite" not in answer.body.decode()
    assert unready.status == 503
    assert retried.status == 200
    assert client.get("/readyz").status == 200
    logged = read_log(log)
    assert len(logged.rows()) == 1
    assert (logged.counts()["web"].received, logged.counts()["web"].accepted) == (2, 1)


@pytest.mark.parametrize("failure", [RuntimeError("secret /path"), Corrupt("segment 3 is damaged")])
def test_no_text_of_an_unexpected_failure_reaches_a_sender(client: Client, log: Any, failure: Exception) -> None:
    log.failure = failure

    answer = client(GOOD)

    assert answer.status == 500
    assert answer.json["error"]["reason"] == "internal"
    assert str(failure) not in answer.body.decode()


def test_a_full_queue_turns_senders_away_and_loses_nothing(
    start: Start, log: Any, control: Any, read_log: ReadLog
) -> None:
    appender = Appender(log, control, SystemClock(), queue_bytes_max=3 * len(GOOD), wait_s=0.0)
    client = start(appender=appender)
    log.open.clear()
    first = client.send(GOOD)
    assert log.entered.acquire(timeout=10)
    waiting = [client.send(GOOD) for _ in range(2)]
    while appender.queued_bytes < 3 * len(GOOD):
        threading.Event().wait(0.001)

    turned_away = client(GOOD)
    log.open.set()

    assert (turned_away.status, turned_away.headers["retry-after"]) == (503, "1")
    assert "queued bytes ==" in turned_away.json["error"]["message"]
    assert [future.result(10).status for future in (first, *waiting)] == [200, 200, 200]
    assert client(GOOD).status == 200
    assert read_log(log).counts()["web"].received == 4


def test_what_waits_when_the_collector_stops_is_appended_and_answered(
    start: Start, log: Any, loop: Any, read_log: ReadLog
) -> None:
    client = start()
    log.open.clear()
    first = client.send(GOOD)
    assert log.entered.acquire(timeout=10)
    second = client.send(b"\n".join([GOOD] * 3))
    stopped = asyncio.run_coroutine_threadsafe(client.app.shutdown(), loop)
    log.open.set()

    assert (first.result(10).status, second.result(10).status) == (200, 200)
    stopped.result(10)
    late = client(GOOD)
    assert (late.status, late.json["error"]["reason"]) == (503, "unavailable")
    assert client.get("/readyz").status == 503
    assert len(read_log(log).rows()) == 4


def test_new_definitions_are_used_at_once(client: Client, control: Any) -> None:
    event = b'{"event_id":"1","type":"signup"}'
    assert client(event).counts == (1, 0, 1, 0)

    control.known = msgspec.structs.replace(control.known, version=2, events={"signup": EventDef()})

    assert client(event).counts == (1, 1, 0, 0)


def test_definitions_that_no_decoder_can_be_made_of_change_nothing(client: Client, control: Any) -> None:
    control.known = Definitions(version=2, events={"view": EventDef(properties=("not_there",))})

    assert client(GOOD).counts == (1, 1, 0, 0)
    assert client(GOOD).counts == (1, 1, 0, 0)


def test_a_large_receipt_is_still_json(client: Client) -> None:
    body = b"\n".join([b"\x00\xff" * 50] * 5000)

    answer = client(body)

    assert answer.status == 400
    assert len(json.loads(answer.body)["verdicts"]) == 5000
