"""A copy made while others append is a log of its own, as the original was at one moment."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from groundswell.errors import InvalidInput
from groundswell.log.contract import DEAD_TOPIC, EVENTS_TOPIC, Entry, Record
from groundswell.log.rules import SegmentRules
from groundswell.log.sqlite import SqliteEventLog
from groundswell.model.clock import SystemClock
from groundswell.testing.clock import ManualClock

ReadAll = Callable[..., dict[int, list[Record]]]
MakeEntry = Callable[..., Entry]
DAY_S = 24 * 3600
WEEK = SegmentRules(age_s_max=DAY_S, retention_s=3 * DAY_S, dead_letter_retention_s=30 * DAY_S)


def test_a_copy_answers_as_the_original_did(
    tmp_path: Path, clock: ManualClock, entry: MakeEntry, read_all: ReadAll
) -> None:
    log = SqliteEventLog(tmp_path / "log", clock=clock, rules=WEEK)
    for day in range(6):
        log.append([entry(b"%d" % day), entry(topic=DEAD_TOPIC)])
        clock.advance(DAY_S)
        log.maintain({})
    before = (read_all(log), read_all(log, DEAD_TOPIC), log.segments(), log.tally(EVENTS_TOPIC))

    log.copy_to(tmp_path / "copy")
    log.append([entry(b"after the copy")])
    copy = SqliteEventLog(tmp_path / "copy", clock=clock, rules=WEEK)

    assert (read_all(copy), read_all(copy, DEAD_TOPIC), copy.segments(), copy.tally(EVENTS_TOPIC)) == before
    assert copy.verify() == []
    copy.append([entry(b"its own")])
    assert read_all(log)[0][-1].payload == b"after the copy"
    assert read_all(copy)[0][-1].payload == b"its own"


def test_a_copy_made_while_others_append_is_whole(tmp_path: Path, entry: MakeEntry, read_all: ReadAll) -> None:
    log = SqliteEventLog(tmp_path / "log", clock=SystemClock(), rules=SegmentRules(bytes_max=400_000))
    done = threading.Event()

    def work() -> None:
        number = 0
        while not done.is_set():
            log.append([entry(b"%d " % number + b"x" * 20_000), entry(b"%d " % number, partition=1)])
            number += 1
            if number % 10 == 0:
                log.maintain({})

    appender = threading.Thread(target=work)
    appender.start()
    acked: list[int] = []
    for turn in range(4):
        acked.append(log.ends(EVENTS_TOPIC)[0])
        log.copy_to(tmp_path / f"copy-{turn}")
    done.set()
    appender.join()

    for turn, at_least in enumerate(acked):
        copy = SqliteEventLog(tmp_path / f"copy-{turn}", clock=SystemClock())
        found = read_all(copy)
        assert [r.payload.split()[0] for r in found[0]] == [r.payload.split()[0] for r in found[1]]
        assert len(found[0]) >= at_least
        assert copy.verify() == []


def test_a_copy_needs_a_folder_of_its_own(tmp_path: Path, clock: ManualClock) -> None:
    log = SqliteEventLog(tmp_path / "log", clock=clock)

    with pytest.raises(InvalidInput, match="must not exist yet; name another folder"):
        log.copy_to(tmp_path)
