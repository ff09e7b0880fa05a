"""Appends that wait together share one transaction; each is still whole or not, and told the truth."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from groundswell import limits
from groundswell.errors import Unavailable
from groundswell.log import steps
from groundswell.log.contract import EVENTS_TOPIC, Entry, Record
from groundswell.log.sqlite import SqliteEventLog
from groundswell.testing.clock import ManualClock

MakeEntry = Callable[..., Entry]
ReadAll = Callable[..., dict[int, list[Record]]]


class Gate:
    """Holds the first commit until told, so that others queue behind it; may then fail a later one."""

    def __init__(self, *, fail_commit: int = 0, error: BaseException | None = None) -> None:
        self.open = threading.Event()
        self.reached = threading.Event()
        self.commits = 0
        self._fail_commit = fail_commit
        self._error = error

    def reach(self, step: str) -> None:
        if step == steps.APPEND:
            self.reached.set()
            self.open.wait(10)
        if step == steps.INSERTED:
            self.commits += 1
            if self._error is not None and self.commits == self._fail_commit:
                raise self._error


def queue_behind(log: SqliteEventLog, gate: Gate, groups: list[list[Entry]]) -> list[Future[list[tuple[int, int]]]]:
    """Append the first group; while its commit waits, let all others queue."""
    pool = ThreadPoolExecutor(len(groups))
    futures = [pool.submit(log.append, groups[0])]
    gate.reached.wait(10)
    futures.extend(pool.submit(log.append, group) for group in groups[1:])
    while len(log._queue) < len(groups) - 1:  # type: ignore[reportPrivateUsage] - there is no other sign of waiting
        threading.Event().wait(0.001)
    gate.open.set()
    pool.shutdown(wait=True)
    return futures


def test_appends_that_wait_together_share_one_commit(tmp_path: Path, clock: ManualClock, entry: MakeEntry) -> None:
    gate = Gate()
    log = SqliteEventLog(tmp_path, clock=clock, faults=gate)

    futures = queue_behind(log, gate, [[entry(b"%d" % number)] for number in range(12)])

    assert sorted(future.result()[0] for future in futures) == [(0, offset) for offset in range(12)]
    assert gate.commits == 2


def test_a_group_has_a_bound(tmp_path: Path, clock: ManualClock, entry: MakeEntry) -> None:
    gate = Gate()
    log = SqliteEventLog(tmp_path, clock=clock, faults=gate)
    half = b"x" * (limits.group_commit_bytes_max // 2)

    futures = queue_behind(log, gate, [[entry()], *([entry(half)] for _ in range(4))])

    assert sorted(future.result()[0][1] for future in futures) == [0, 1, 2, 3, 4]
    assert gate.commits == 3


def test_when_a_group_fails_nothing_of_it_is_appended_and_everyone_is_told(
    tmp_path: Path, clock: ManualClock, entry: MakeEntry, read_all: ReadAll
) -> None:
    gate = Gate(fail_commit=2, error=Unavailable("the disk is full"))
    log = SqliteEventLog(tmp_path, clock=clock, faults=gate)

    futures = queue_behind(log, gate, [[entry(b"%d" % number), entry(partition=1)] for number in range(6)])

    assert futures[0].result() == [(0, 0), (1, 0)]
    errors = [future.exception() for future in futures[1:]]
    assert all(isinstance(error, Unavailable) for error in errors)
    assert len({id(error) for error in errors}) == 5, "each has an exception of its own"
    assert [record.payload for record in read_all(log)[0]] == [b"0"]
    assert log.append([entry(b"after")]) == [(0, 1)]
    assert log.verify() == []


def test_when_one_thread_is_killed_the_others_may_retry(
    tmp_path: Path, clock: ManualClock, entry: MakeEntry, killed: type[BaseException]
) -> None:
    gate = Gate(fail_commit=2, error=killed())
    log = SqliteEventLog(tmp_path, clock=clock, faults=gate)

    futures = queue_behind(log, gate, [[entry()] for _ in range(5)])

    errors = [future.exception() for future in futures]
    assert sum(isinstance(error, killed) for error in errors) == 1
    assert sum(isinstance(error, Unavailable) for error in errors) == 3
    assert log.ends(EVENTS_TOPIC)[0] == 1


def test_appends_of_a_log_that_closes_are_told(tmp_path: Path, clock: ManualClock, entry: MakeEntry) -> None:
    gate = Gate()
    log = SqliteEventLog(tmp_path, clock=clock, faults=gate)
    gate.open.set()
    log.append([entry()])

    log.close()

    with pytest.raises(Unavailable, match="closed; open it again"):
        log.append([entry()])
    assert SqliteEventLog(tmp_path, clock=clock, read_only=True).ends(EVENTS_TOPIC)[0] == 1
