"""Group commit: what is appended together, and what each sender is told."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from groundswell import limits
from groundswell.collector.appender import Appender, GroupStats
from groundswell.collector.heartbeat import FileLeader, Heartbeat
from groundswell.errors import Overloaded, Unavailable
from groundswell.log.contract import EVENTS_TOPIC, INTAKE_TOPIC
from groundswell.model.clock import SystemClock
from groundswell.testing.clock import ManualClock
from groundswell.testing.log import MemoryEventLog
from groundswell.wire.decode import Body, Decoder, Outcome
from groundswell.wire.faults import Refused

ReadLog = Callable[[Any], Any]

GOOD = b'{"event_id":"%d","type":"view","user_id":"u%d"}'


def body(number: int, source: str = "web") -> Body:
    return Body(GOOD % (number, number), source, 1_767_614_400_000_000)


class Answers:
    """Collects answers, in the order in which they were given."""

    def __init__(self) -> None:
        self.given: list[Outcome | Exception] = []
        self._some = threading.Semaphore(0)

    def __call__(self, answer: Outcome | Exception) -> None:
        self.given.append(answer)
        self._some.release()

    def wait(self, count: int) -> list[Outcome | Exception]:
        for _ in range(count):
            assert self._some.acquire(timeout=10)
        return self.given


@pytest.fixture
def answers() -> Answers:
    return Answers()


@pytest.fixture
def appender(log: Any, control: Any) -> Iterator[Appender]:
    made = Appender(log, control, SystemClock(), wait_s=0.0)
    made.start()
    yield made
    log.open.set()
    made.stop()


def held_up(appender: Appender, log: Any, answers: Answers) -> None:
    """Have one body appended, so that what follows must wait for it."""
    log.open.clear()
    appender.submit(body(0), answers)
    assert log.entered.acquire(timeout=10)


def test_what_waits_together_is_one_append(appender: Appender, log: Any, answers: Answers, read_log: ReadLog) -> None:
    held_up(appender, log, answers)
    for number in range(1, 101):
        appender.submit(body(number, "web" if number % 2 else "app"), answers)

    log.open.set()
    answers.wait(101)

    assert len(log.calls) == 2
    entries = log.calls[1]
    assert [entry.topic for entry in entries[:-1]] == [EVENTS_TOPIC] * (len(entries) - 1)
    assert entries[-1].topic == INTAKE_TOPIC
    assert len({entry.partition for entry in entries[:-1]}) == len(entries) - 1 == limits.log_partitions
    logged = read_log(log)
    assert {source: counts.accepted for source, counts in logged.counts().items()} == {"web": 51, "app": 50}
    assert sorted(int(row["event_id"]) for row in logged.rows()) == list(range(101))


def test_large_groups_become_several_records(appender: Appender, log: Any, answers: Answers, read_log: ReadLog) -> None:
    held_up(appender, log, answers)
    count = limits.record_events_max + 1000
    half = count // 2
    for start, stop in ((0, half), (half, count)):
        lines = b"\n".join(b'{"event_id":"%d","type":"view","user_id":"u"}' % number for number in range(start, stop))
        appender.submit(Body(lines, "web", 1_767_614_400_000_000), answers)

    log.open.set()
    answers.wait(3)

    sizes = [content.batch.num_rows for content in read_log(log).contents]
    assert max(sizes) == limits.record_events_max
    assert sum(sizes) == count + 1


def test_a_full_queue_refuses_and_takes_again_later(log: Any, control: Any, answers: Answers) -> None:
    appender = Appender(log, control, SystemClock(), queue_bytes_max=100, wait_s=0.0)
    appender.start()
    held_up(appender, log, answers)

    appender.submit(body(1), answers)
    with pytest.raises(Overloaded, match="queued bytes") as caught:
        appender.submit(body(2), answers)
    log.open.set()
    answers.wait(2)

    assert caught.value.retry_after_s > 0
    appender.submit(body(3), answers)
    answers.wait(1)
    appender.stop()
    assert appender.queued_bytes == 0


def test_one_body_larger_than_the_queue_is_taken_when_it_is_alone(log: Any, control: Any, answers: Answers) -> None:
    appender = Appender(log, control, SystemClock(), queue_bytes_max=10, wait_s=0.0)
    appender.start()

    appender.submit(body(1), answers)

    answers.wait(1)
    appender.stop()


def test_a_failed_append_is_told_to_all_and_counted_for_none(
    appender: Appender, log: Any, answers: Answers, read_log: ReadLog
) -> None:
    held_up(appender, log, answers)
    appender.submit(body(1), answers)
    appender.submit(body(2), answers)
    appender.count_refused("app", Refused(-1, "bad_encoding", "not gzip", b""))
    log.failure = Unavailable("locked")

    log.open.set()
    failed = list(answers.wait(3))
    assert appender.problem == "the log cannot be written just now; nothing was taken, send the same events again later"
    log.failure = None
    appender.submit(body(3), answers)
    answers.wait(1)

    assert all(isinstance(answer, Unavailable) for answer in failed)
    counts = read_log(log).counts()
    assert (counts["web"].received, counts["web"].accepted) == (1, 1)
    assert (counts["app"].received, counts["app"].refused) == (1, 1)
    assert appender.problem is None


def test_a_body_that_the_decoder_fails_on_fails_alone(
    appender: Appender, log: Any, answers: Answers, read_log: ReadLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    sound = Decoder.decode_all

    def failing(self: Decoder, bodies: list[Body]) -> Any:
        if any(b'"7"' in one.data for one in bodies):
            raise ZeroDivisionError
        return sound(self, bodies)

    monkeypatch.setattr(Decoder, "decode_all", failing)
    held_up(appender, log, answers)
    for number in (6, 7, 8):
        appender.submit(body(number), answers)

    log.open.set()
    given = answers.wait(4)

    assert [type(answer) for answer in given] == [Outcome, Outcome, ZeroDivisionError, Outcome]
    assert sorted(row["event_id"] for row in read_log(log).rows()) == ["0", "6", "8"]


def test_refusals_without_any_event_reach_the_log_too(log: Any, control: Any, read_log: ReadLog) -> None:
    appender = Appender(log, control, SystemClock(), wait_s=0.0)
    appender.start()

    for _ in range(1000):
        appender.count_refused("(unknown)", Refused(-1, "unauthorized", "no key", b""))
    appender.stop()

    assert read_log(log).reasons() == {"unauthorized": 1000}
    assert len(log.calls) <= 2


def test_stopping_answers_everyone_and_takes_no_more(appender: Appender, log: Any, answers: Answers) -> None:
    held_up(appender, log, answers)
    for number in range(1, 10):
        appender.submit(body(number), answers)
    stopper = threading.Thread(target=appender.stop)
    stopper.start()
    while appender.alive:
        threading.Event().wait(0.001)

    with pytest.raises(Unavailable, match="stopping"):
        appender.submit(body(10), answers)
    log.open.set()
    stopper.join(10)

    assert len(answers.given) == 10
    assert all(isinstance(answer, Outcome) for answer in answers.given)


def test_an_appender_that_never_started_stops(log: Any, control: Any) -> None:
    Appender(log, control, SystemClock()).stop()


def test_each_group_is_observed_before_it_is_answered(appender: Appender, answers: Answers) -> None:
    seen: list[GroupStats] = []
    appender.observe = seen.append

    appender.submit(body(1), answers)
    answers.wait(1)

    assert [(stats.requests, stats.events, stats.durable) for stats in seen] == [(1, 1, True)]
    assert seen[0].bytes == len(body(1).data)


# --- heartbeats ------------------------------------------------------------------------------------------------


def test_a_beat_reaches_every_partition_and_counts_no_event(read_log: ReadLog) -> None:
    clock = ManualClock(start_us=10_000_000)
    log = MemoryEventLog(clock=clock, partitions=3)

    Heartbeat(log, clock, grace_s=1.0).beat()

    assert [content.heartbeat_us for content in read_log(log).contents] == [9_000_000] * 3
    assert log.tally(EVENTS_TOPIC) == {}
    assert {record.origin for record in log.read(EVENTS_TOPIC, 0, 0, bytes_max=1000)} == {"system"}


def test_the_heart_beats_on_through_a_log_that_fails(log: Any) -> None:
    heartbeat = Heartbeat(log, SystemClock(), interval_s=0.01)
    log.failure = Unavailable("locked")
    heartbeat.start()
    for _ in range(3):
        assert log.entered.acquire(timeout=10)

    log.failure = None
    for _ in range(3):
        assert log.entered.acquire(timeout=10)
    heartbeat.stop()

    assert log.calls


def test_one_process_leads_and_hands_on_when_it_ends(tmp_path: Any) -> None:
    first, second = FileLeader(tmp_path / "lock"), FileLeader(tmp_path / "lock")

    assert (first(), second(), first()) == (True, False, True)
    first.close()
    assert (second(), first()) == (True, False)
    second.close()


def test_where_the_lock_cannot_be_made_nobody_leads(tmp_path: Any) -> None:
    assert not FileLeader(tmp_path / "missing" / "lock")()
