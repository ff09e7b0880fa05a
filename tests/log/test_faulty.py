"""The log with a network's faults: what it may do, what it never does, and who survives it."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest

from groundswell.errors import Unavailable
from groundswell.log.contract import EVENTS_TOPIC, Entry, EventLog, Record
from groundswell.testing.log import FaultyEventLog, LogFaults, MemoryEventLog

ReadAll = Callable[..., dict[int, list[Record]]]
MakeEntry = Callable[..., Entry]
NEVER = LogFaults(refused=0, ack_lost=0, late=0, redelivered=0, hidden=0)


def append_until_acked(log: EventLog, entries: list[Entry]) -> list[tuple[int, int]]:
    for _ in range(200):
        try:
            return log.append(entries)
        except Unavailable:
            continue
    raise AssertionError("two hundred faults in a row")


@pytest.mark.parametrize("seed", range(8))
def test_a_careful_producer_and_consumer_miss_nothing_and_see_order(seed: int, entry: MakeEntry) -> None:
    log = FaultyEventLog(MemoryEventLog(partitions=3), Random(seed))
    rng = Random(seed + 1000)
    acked: dict[tuple[int, int], bytes] = {}
    seen: dict[int, list[Record]] = {0: [], 1: [], 2: []}

    for number in range(150):
        partition = rng.randrange(3)
        ((_, offset),) = append_until_acked(log, [entry(b"%d" % number, partition=partition)])
        acked[(partition, offset)] = b"%d" % number
        read = seen[partition]
        read.extend(r for r in log.read(EVENTS_TOPIC, partition, len(read), bytes_max=50) if r.offset >= len(read))
    log.settle()
    for partition, read in seen.items():
        read.extend(log.read(EVENTS_TOPIC, partition, len(read), bytes_max=1 << 20))

    for partition, read in seen.items():
        assert [record.offset for record in read] == list(range(len(read)))
        assert {(partition, r.offset): r.payload for r in read}.items() >= {
            place: payload for place, payload in acked.items() if place[0] == partition
        }.items()
    assert {r.payload for read in seen.values() for r in read} == {b"%d" % number for number in range(150)}


def test_the_same_seed_gives_the_same_faults(entry: MakeEntry) -> None:
    def run(seed: int) -> list[str]:
        log = FaultyEventLog(MemoryEventLog(), Random(seed))
        heard: list[str] = []
        for number in range(60):
            try:
                heard.append(str(log.append([entry(b"%d" % number)])))
            except Unavailable as error:
                heard.append(str(error))
            heard.append(
                str([r.offset for r in log.read(EVENTS_TOPIC, 0, log.ends(EVENTS_TOPIC)[0] // 2, bytes_max=99)])
            )
        return heard

    assert run(3) == run(3)
    assert run(3) != run(4)


def test_a_refused_append_leaves_nothing(entry: MakeEntry) -> None:
    log = FaultyEventLog(MemoryEventLog(), Random(1), LogFaults(refused=1))

    with pytest.raises(Unavailable, match="refused"):
        log.append([entry()])
    log.settle()

    assert log.ends(EVENTS_TOPIC)[0] == 0


def test_an_append_whose_answer_is_lost_is_there(entry: MakeEntry) -> None:
    log = FaultyEventLog(MemoryEventLog(), Random(1), LogFaults(refused=0, late=0, ack_lost=1))

    with pytest.raises(Unavailable, match="answer to the append was lost"):
        log.append([entry()])

    assert log.inner.ends(EVENTS_TOPIC)[0] == 1


def test_a_late_append_lands_later_or_never(entry: MakeEntry) -> None:
    landed, lost = (FaultyEventLog(MemoryEventLog(), Random(1), LogFaults(refused=0, late=1)) for _ in range(2))
    for log in (landed, lost):
        with pytest.raises(Unavailable, match="timed out"):
            log.append([entry()])
        assert log.inner.ends(EVENTS_TOPIC)[0] == 0

    landed.settle()
    lost.crash()
    lost.settle()

    assert landed.ends(EVENTS_TOPIC)[0] == 1
    assert lost.ends(EVENTS_TOPIC)[0] == 0


def test_redelivered_records_come_before_what_was_asked_for(entry: MakeEntry) -> None:
    log = FaultyEventLog(MemoryEventLog(), Random(1), LogFaults(refused=0, late=0, ack_lost=0, redelivered=1, hidden=0))
    log.append([entry(b"%d" % number) for number in range(10)])

    found = log.read(EVENTS_TOPIC, 0, 8, bytes_max=1 << 20)

    assert found[0].offset < 8
    assert [record.offset for record in found] == list(range(found[0].offset, 10))


def test_partitions_show_what_is_new_at_different_times_and_never_go_back(entry: MakeEntry) -> None:
    log = FaultyEventLog(MemoryEventLog(partitions=2), Random(2), LogFaults(refused=0, late=0, ack_lost=0, hidden=0.5))
    torn = 0
    before = {0: 0, 1: 0}

    for _ in range(50):
        log.append([entry(partition=0), entry(partition=1)])
        ends = log.ends(EVENTS_TOPIC)
        torn += ends[0] != ends[1]
        assert all(ends[partition] >= before[partition] for partition in before)
        before = ends

    assert torn > 5


def test_without_faults_it_is_the_log_inside(entry: MakeEntry, read_all: ReadAll) -> None:
    inner = MemoryEventLog()
    log = FaultyEventLog(inner, Random(1), NEVER)

    positions = log.append([entry(b"a"), entry(b"b", partition=2)])

    assert positions == [(0, 0), (2, 0)]
    assert read_all(log) == read_all(inner)
    assert log.tally(EVENTS_TOPIC) == inner.tally(EVENTS_TOPIC) == {("web", "live"): 2}
    assert log.pending(EVENTS_TOPIC, {}) == {"web": 2}
    assert log.maintain({}) == 0
    assert log.segments() == []
    assert log.partitions(EVENTS_TOPIC) == 4
    log.close()
    with pytest.raises(Unavailable, match="closed"):
        log.append([entry()])
