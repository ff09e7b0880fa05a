"""What the log's tests share: entries, both implementations, faults that strike at a named step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from groundswell.log.contract import Entry, EventLog, Origin, Record
from groundswell.log.rules import SegmentRules
from groundswell.log.sqlite import SqliteEventLog
from groundswell.testing.clock import ManualClock
from groundswell.testing.log import MemoryEventLog

MakeLog = Callable[..., EventLog]


class Killed(BaseException):
    """The process ends here; no handler of ours may catch it."""


class KillAt:
    """Faults that strike when a step is reached for the ``nth`` time."""

    def __init__(self, step: str = "", nth: int = 1) -> None:
        self.step = step
        self.nth = nth
        self.seen: list[str] = []

    def reach(self, step: str) -> None:
        self.seen.append(step)
        if step == self.step:
            self.nth -= 1
            if self.nth == 0:
                raise Killed(step)


def make_entry(
    payload: bytes = b"payload",
    *,
    topic: str = "events",
    partition: int = 0,
    counts: Mapping[str, int] | None = None,
    origin: Origin = "live",
) -> Entry:
    return Entry(topic, partition, payload, {"web": 1} if counts is None else counts, origin)


def read_everything(log: EventLog, topic: str = "events") -> dict[int, list[Record]]:
    found: dict[int, list[Record]] = {}
    for partition, begin in log.begins(topic).items():
        records: list[Record] = []
        start = begin
        while batch := log.read(topic, partition, start, bytes_max=1 << 20):
            records.extend(batch)
            start = batch[-1].offset + 1
        found[partition] = records
    return found


@pytest.fixture
def entry() -> Callable[..., Entry]:
    return make_entry


@pytest.fixture
def read_all() -> Callable[..., dict[int, list[Record]]]:
    return read_everything


@pytest.fixture
def kill_at() -> type[KillAt]:
    return KillAt


@pytest.fixture
def killed() -> type[BaseException]:
    return Killed


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture(params=["memory", "sqlite"])
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def make_log(kind: str, clock: ManualClock, tmp_path: Path) -> MakeLog:
    """Return a maker of empty logs; ``rules`` is a :class:`SegmentRules`."""
    made = 0

    def make(*, partitions: int = 4, rules: SegmentRules | None = None) -> EventLog:
        nonlocal made
        made += 1
        if kind == "memory":
            return MemoryEventLog(clock=clock, partitions=partitions, rules=rules)
        return SqliteEventLog(tmp_path / f"log-{made}", clock=clock, partitions=partitions, rules=rules)

    return make


@pytest.fixture
def log(make_log: MakeLog) -> EventLog:
    return make_log()
