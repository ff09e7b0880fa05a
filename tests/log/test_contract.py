"""The contract of the event log, held by every implementation."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from groundswell import limits
from groundswell.errors import Corrupt, InvalidInput, RetentionGap, Unavailable
from groundswell.log.contract import DEAD_TOPIC, EVENTS_TOPIC, INTAKE_TOPIC, Entry, EventLog, Record
from groundswell.log.rules import SegmentRules
from groundswell.testing.clock import ManualClock

MakeEntry = Callable[..., Entry]
MakeLog = Callable[..., EventLog]
ReadAll = Callable[..., dict[int, list[Record]]]

DAY_S = 24 * 3600
WEEK = SegmentRules(age_s_max=DAY_S, retention_s=7 * DAY_S, dead_letter_retention_s=30 * DAY_S)


def test_an_append_returns_the_place_of_each_entry_in_order(log: EventLog, entry: MakeEntry) -> None:
    entries = [entry(partition=2), entry(partition=0), entry(partition=2), entry(topic=DEAD_TOPIC)]

    positions = log.append(entries)

    assert positions == [(2, 0), (0, 0), (2, 1), (0, 0)]


def test_offsets_go_on_where_the_last_append_ended(log: EventLog, entry: MakeEntry) -> None:
    log.append([entry(), entry()])

    assert log.append([entry(), entry(partition=1)]) == [(0, 2), (1, 0)]
    assert log.ends(EVENTS_TOPIC) == {0: 3, 1: 1, 2: 0, 3: 0}


@pytest.mark.parametrize("payload", [b"", b"\x00", b"a\x00b", bytes(range(256)) * 400, b"\xff" * 1_000_003])
def test_a_record_is_read_back_byte_for_byte(log: EventLog, entry: MakeEntry, payload: bytes) -> None:
    log.append([entry(payload)])

    (record,) = log.read(EVENTS_TOPIC, 0, 0, bytes_max=1)

    assert record.payload == payload


def test_a_record_says_where_it_is_when_it_came_and_what_it_counts(
    log: EventLog, entry: MakeEntry, clock: ManualClock
) -> None:
    clock.advance(12.5)
    counts = {"web": 3, "naïve \u0000 source": 2**40}
    log.append([entry(b"x", topic=DEAD_TOPIC, counts=counts, origin="replay")])

    (record,) = log.read(DEAD_TOPIC, 0, 0, bytes_max=1)

    assert record == Record(DEAD_TOPIC, 0, 0, clock.now_us(), b"x", counts, "replay")


def test_an_empty_append_changes_nothing(log: EventLog) -> None:
    assert log.append([]) == []
    assert log.ends(EVENTS_TOPIC) == {0: 0, 1: 0, 2: 0, 3: 0}


def test_a_read_returns_one_record_whatever_its_size_and_then_what_fits(log: EventLog, entry: MakeEntry) -> None:
    log.append([entry(b"x" * 100) for _ in range(10)])

    assert len(log.read(EVENTS_TOPIC, 0, 0, bytes_max=1)) == 1
    assert len(log.read(EVENTS_TOPIC, 0, 0, bytes_max=350)) == 3
    assert [record.offset for record in log.read(EVENTS_TOPIC, 0, 4, bytes_max=10_000)] == [4, 5, 6, 7, 8, 9]


def test_a_read_stops_before_stop(log: EventLog, entry: MakeEntry) -> None:
    log.append([entry() for _ in range(10)])

    found = log.read(EVENTS_TOPIC, 0, 3, bytes_max=10_000, stop=6)

    assert [record.offset for record in found] == [3, 4, 5]
    assert log.read(EVENTS_TOPIC, 0, 3, bytes_max=10_000, stop=3) == []


def test_a_read_at_the_end_is_empty(log: EventLog, entry: MakeEntry) -> None:
    log.append([entry()])

    assert log.read(EVENTS_TOPIC, 0, 1, bytes_max=100) == []


def test_a_read_past_the_end_says_that_records_were_lost(log: EventLog, entry: MakeEntry) -> None:
    log.append([entry()])

    with pytest.raises(Corrupt, match=r"ends at offset 1; offset 2 was asked for"):
        log.read(EVENTS_TOPIC, 0, 2, bytes_max=100)


@pytest.mark.parametrize(
    ("bad", "rule"),
    [
        ({"topic": "nonsense"}, r"topic == 'nonsense', must be one of events, dead_letters, intake"),
        ({"partition": 4}, r"partition == 4, must be >= 0 and < 4 in topic events"),
        ({"partition": -1}, r"partition == -1"),
        ({"topic": DEAD_TOPIC, "partition": 1}, r"partition == 1, must be >= 0 and < 1"),
        ({"origin": "elsewhere"}, r"origin == 'elsewhere', must be one of live, import, replay, system"),
        ({"counts": {"web": -1}}, r"counts == {'web': -1}, must not be negative"),
        ({"payload": b"x" * (limits.record_bytes_max + 1)}, r"payload == .*must have <= "),
    ],
)
def test_a_bad_entry_appends_nothing_of_its_call(
    log: EventLog, entry: MakeEntry, bad: dict[str, object], rule: str
) -> None:
    with pytest.raises(InvalidInput, match=rule):
        log.append([entry(), entry(**bad), entry()])

    assert log.ends(EVENTS_TOPIC) == {0: 0, 1: 0, 2: 0, 3: 0}
    assert log.tally(EVENTS_TOPIC) == {}


def test_one_call_cannot_append_more_than_the_queue_holds(log: EventLog, entry: MakeEntry) -> None:
    half = b"x" * (limits.queue_bytes_max // 2 + 1)

    with pytest.raises(InvalidInput, match="append in smaller calls"):
        log.append([entry(half), entry(half)])


@pytest.mark.parametrize("ask", ["partitions", "begins", "ends", "tally"])
def test_a_question_about_an_unknown_topic_is_refused(log: EventLog, ask: str) -> None:
    with pytest.raises(InvalidInput, match="topic == 'nonsense'"):
        getattr(log, ask)("nonsense")


def test_topics_have_their_partitions(make_log: MakeLog) -> None:
    log = make_log(partitions=7)

    assert [log.partitions(topic) for topic in (EVENTS_TOPIC, DEAD_TOPIC, INTAKE_TOPIC)] == [7, 1, 1]


@pytest.mark.parametrize("partitions", [0, -1, limits.log_partitions_max + 1])
def test_a_log_needs_a_sensible_number_of_partitions(make_log: MakeLog, partitions: int) -> None:
    with pytest.raises(InvalidInput, match=f"partitions == {partitions}, must be between 1 and "):
        make_log(partitions=partitions)


def test_the_tally_counts_events_by_source_and_origin(log: EventLog, entry: MakeEntry) -> None:
    log.append([entry(counts={"web": 2, "ios": 1}), entry(partition=1, counts={"web": 5})])
    log.append(
        [entry(counts={"web": 7}, origin="import"), entry(counts={}), entry(topic=DEAD_TOPIC, counts={"web": 9})]
    )

    assert log.tally(EVENTS_TOPIC) == {("web", "live"): 7, ("ios", "live"): 1, ("web", "import"): 7}
    assert log.tally(DEAD_TOPIC) == {("web", "live"): 9}
    assert log.tally(INTAKE_TOPIC) == {}


def test_pending_counts_what_is_past_the_committed_offsets(log: EventLog, entry: MakeEntry) -> None:
    log.append([entry(counts={"web": 1}), entry(counts={"web": 10}), entry(partition=3, counts={"ios": 100})])

    assert log.pending(EVENTS_TOPIC, {}) == {"web": 11, "ios": 100}
    assert log.pending(EVENTS_TOPIC, {0: 1}) == {"web": 10, "ios": 100}
    assert log.pending(EVENTS_TOPIC, {0: 2, 3: 1}) == {}


def test_a_full_segment_is_sealed_with_its_ranges_and_counts(
    make_log: MakeLog, entry: MakeEntry, clock: ManualClock
) -> None:
    log = make_log(partitions=2, rules=WEEK)
    log.append([entry(counts={"web": 3}), entry(partition=1, counts={"ios": 4}, origin="import")])
    clock.advance(DAY_S)

    log.maintain({})
    log.append([entry()])

    (sealed,) = log.segments()
    assert sealed.segment == 1
    assert sealed.sealed_at_us == clock.now_us()
    assert sealed.ranges == {EVENTS_TOPIC: {0: (0, 1), 1: (0, 1)}, DEAD_TOPIC: {0: (0, 0)}, INTAKE_TOPIC: {0: (0, 0)}}
    assert sealed.tally == {EVENTS_TOPIC: {("web", "live"): 3, ("ios", "import"): 4}, DEAD_TOPIC: {}, INTAKE_TOPIC: {}}
    assert not sealed.dropped


def test_a_segment_is_full_when_it_has_its_bytes(make_log: MakeLog, entry: MakeEntry) -> None:
    log = make_log(rules=SegmentRules(bytes_max=1_000_000))

    for _ in range(10):
        log.append([entry(b"x" * 300_000)])
    log.maintain({})

    assert len(log.segments()) >= 2
    assert [record.offset for record in log.read(EVENTS_TOPIC, 0, 0, bytes_max=10_000_000)] == list(range(10))


def test_an_empty_segment_is_never_sealed(make_log: MakeLog, clock: ManualClock) -> None:
    log = make_log(rules=WEEK)

    clock.advance(100 * DAY_S)

    assert log.maintain({}) == 0
    assert log.segments() == []


def test_digests_are_chained_so_that_equal_records_differ_by_what_came_before(
    make_log: MakeLog, entry: MakeEntry, clock: ManualClock
) -> None:
    digests: list[list[str]] = []
    for first in (b"one", b"two"):
        log = make_log(rules=WEEK)
        start_us = clock.now_us()
        for payload in (first, b"same"):
            log.append([entry(payload)])
            clock.advance(DAY_S)
            log.maintain({})
        digests.append([sealed.digest for sealed in log.segments()])
        clock.set_us(start_us)

    assert digests[0][0] != digests[1][0]
    assert digests[0][1] != digests[1][1]


def test_segments_go_when_they_are_old_and_nobody_needs_them(
    make_log: MakeLog, entry: MakeEntry, clock: ManualClock, read_all: ReadAll
) -> None:
    log = make_log(partitions=2, rules=WEEK)
    for day in range(10):
        log.append([entry(b"%d" % day, partition=day % 2, counts={"web": 1})])
        clock.advance(DAY_S)

    dropped = log.maintain({EVENTS_TOPIC: {0: 2, 1: 1}})

    assert dropped == 3  # four are a week old, and three of them below what is needed
    assert log.begins(EVENTS_TOPIC) == {0: 2, 1: 1}
    assert [record.payload for record in read_all(log)[0]] == [b"4", b"6", b"8"]
    assert [sealed.dropped for sealed in log.segments()][:4] == [True, True, True, False]
    assert log.tally(EVENTS_TOPIC) == {("web", "live"): 10}
    assert log.pending(EVENTS_TOPIC, {}) == {"web": 7}


def test_what_is_still_needed_stays_however_old(make_log: MakeLog, entry: MakeEntry, clock: ManualClock) -> None:
    log = make_log(rules=WEEK)
    for _ in range(3):
        log.append([entry()])
        clock.advance(DAY_S)
    clock.advance(100 * DAY_S)

    assert log.maintain({EVENTS_TOPIC: {0: 1}}) == 1
    assert log.begins(EVENTS_TOPIC)[0] == 1
    assert log.maintain({EVENTS_TOPIC: {0: 1}}) == 0


def test_reading_what_was_dropped_says_where_the_log_begins(
    make_log: MakeLog, entry: MakeEntry, clock: ManualClock
) -> None:
    log = make_log(rules=WEEK)
    log.append([entry(), entry()])
    clock.advance(8 * DAY_S)
    log.append([entry()])
    log.maintain({})

    with pytest.raises(RetentionGap, match=r"events/0 begins at offset 2; offset 1 was dropped"):
        log.read(EVENTS_TOPIC, 0, 1, bytes_max=100)
    assert [record.offset for record in log.read(EVENTS_TOPIC, 0, 2, bytes_max=100)] == [2]


def test_dead_letters_outlive_the_events_beside_them(
    make_log: MakeLog, entry: MakeEntry, clock: ManualClock, read_all: ReadAll
) -> None:
    log = make_log(rules=WEEK)
    log.append([entry(b"event", counts={"web": 1}), entry(b"letter", topic=DEAD_TOPIC, counts={"web": 2})])
    clock.advance(8 * DAY_S)
    log.append([entry(b"later")])

    assert log.maintain({}) == 0
    assert log.begins(EVENTS_TOPIC)[0] == 1
    assert log.begins(DEAD_TOPIC) == {0: 0}
    assert [record.payload for record in read_all(log, DEAD_TOPIC)[0]] == [b"letter"]

    clock.advance(22 * DAY_S)

    assert log.maintain({}) == 2
    assert log.begins(DEAD_TOPIC) == {0: 1}
    assert log.tally(DEAD_TOPIC) == {("web", "live"): 2}
    assert log.tally(EVENTS_TOPIC) == {("web", "live"): 2}


def test_a_needed_dead_letter_stays_and_events_go(make_log: MakeLog, entry: MakeEntry, clock: ManualClock) -> None:
    log = make_log(rules=WEEK)
    log.append([entry(), entry(topic=DEAD_TOPIC), entry(topic=DEAD_TOPIC)])
    clock.advance(365 * DAY_S)
    log.append([entry()])

    log.maintain({DEAD_TOPIC: {0: 1}})

    assert log.begins(DEAD_TOPIC) == {0: 0}
    assert log.begins(EVENTS_TOPIC)[0] == 1


def test_a_closed_log_says_so(log: EventLog, entry: MakeEntry) -> None:
    log.append([entry()])

    log.close()
    log.close()

    with pytest.raises(Unavailable, match="closed"):
        log.append([entry()])
    with pytest.raises(Unavailable, match="closed"):
        log.read(EVENTS_TOPIC, 0, 0, bytes_max=1)


def test_threads_that_append_together_lose_and_double_nothing(
    log: EventLog, entry: MakeEntry, read_all: ReadAll
) -> None:
    def work(worker: int) -> list[tuple[tuple[int, int], bytes]]:
        done: list[tuple[tuple[int, int], bytes]] = []
        for number in range(25):
            payloads = [b"%d/%d/%d" % (worker, number, part) for part in range(3)]
            positions = log.append(
                [entry(payload, partition=(worker + part) % 4) for part, payload in enumerate(payloads)]
            )
            done.extend(zip(positions, payloads, strict=True))
        return done

    with ThreadPoolExecutor(8) as pool:
        acked = dict(pair for done in pool.map(work, range(8)) for pair in done)

    found = {(partition, r.offset): r.payload for partition, records in read_all(log).items() for r in records}
    assert found == acked
    assert len(found) == 8 * 25 * 3
    assert log.tally(EVENTS_TOPIC) == {("web", "live"): 600}


def test_entries_of_one_call_become_visible_together(log: EventLog, entry: MakeEntry) -> None:
    torn: list[dict[int, int]] = []
    done = threading.Event()

    def watch() -> None:
        while not done.is_set():
            ends = log.ends(EVENTS_TOPIC)
            if ends[0] != ends[1]:
                torn.append(ends)

    watcher = threading.Thread(target=watch)
    watcher.start()
    for _ in range(100):
        log.append([entry(partition=0), entry(partition=1)])
    done.set()
    watcher.join()

    assert torn == []


def test_a_reader_beside_an_appender_sees_a_prefix(log: EventLog, entry: MakeEntry) -> None:
    total = 300
    found: list[bytes] = []

    def follow() -> None:
        while len(found) < total:
            found.extend(record.payload for record in log.read(EVENTS_TOPIC, 0, len(found), bytes_max=1000))

    reader = threading.Thread(target=follow, daemon=True)
    reader.start()
    for number in range(total):
        log.append([entry(b"%d" % number)])
    reader.join(timeout=20)

    assert found == [b"%d" % number for number in range(total)]
