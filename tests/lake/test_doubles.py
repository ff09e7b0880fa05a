"""The doubles fail as told, and only so."""

from __future__ import annotations

from collections.abc import Callable

import pyarrow as pa
import pytest

from groundswell.errors import CommitConflict, Unavailable
from groundswell.lake import steps
from groundswell.lake.contract import Change, IngestState
from groundswell.testing.clock import ManualClock
from groundswell.testing.lake import FaultyLake, MemoryLake

MakeTable = Callable[..., pa.Table]

CHANGE = Change(state=IngestState(offsets={0: 1}))


class Steps:
    def __init__(self) -> None:
        self.seen: list[str] = []

    def reach(self, step: str) -> None:
        self.seen.append(step)


def test_a_commit_that_fails_changes_nothing(clock: ManualClock) -> None:
    memory = MemoryLake(clock=clock)
    lake = FaultyLake(memory, clock=clock, faults=["fails", "conflict"])

    with pytest.raises(Unavailable):
        lake.commit(lambda _: CHANGE)
    with pytest.raises(CommitConflict):
        lake.commit(lambda _: CHANGE)

    assert memory.current() is None
    assert lake.commit(lambda _: CHANGE) is not None


def test_a_lost_answer_hides_a_commit_that_happened(clock: ManualClock) -> None:
    memory = MemoryLake(clock=clock)
    lake = FaultyLake(memory, clock=clock, faults=[None, "answer_lost"])

    lake.commit(lambda _: CHANGE)
    with pytest.raises(Unavailable):
        lake.commit(lambda state: Change(state=IngestState(offsets={0: state.offsets[0] + 1})))

    current = memory.current()
    assert current is not None
    assert current.state.offsets == {0: 2}


def test_a_lost_race_asks_again(clock: ManualClock) -> None:
    lake = FaultyLake(MemoryLake(clock=clock), clock=clock)
    lake.then("race_lost")
    asked: list[IngestState] = []

    def decide(state: IngestState) -> Change:
        asked.append(state)
        return CHANGE

    lake.commit(decide)

    assert len(asked) == 2
    assert len(lake.snapshots()) == 2


def test_a_slow_commit_takes_its_time(clock: ManualClock) -> None:
    lake = FaultyLake(MemoryLake(clock=clock), clock=clock, faults=["slow"], slow_s=3.0)
    before_us = clock.now_us()

    lake.commit(lambda _: CHANGE)

    assert clock.now_us() - before_us == 3_000_000


def test_memory_tells_of_the_same_steps_as_the_disk(clock: ManualClock, make_table: MakeTable) -> None:
    seen = Steps()
    lake = MemoryLake(clock=clock, faults=seen)

    file = lake.write(make_table([1]))
    lake.commit(lambda _: Change(add=[file]))
    lake.expire()

    assert seen.seen == [*steps.LAKE_STEPS, *steps.EXPIRY_STEPS]


def test_snapshot_ids_and_file_names_repeat(clock: ManualClock, make_table: MakeTable) -> None:
    def run() -> tuple[int, str]:
        lake = MemoryLake(clock=clock)
        file = lake.write(make_table([1]))
        snapshot = lake.commit(lambda _: Change(add=[file]))
        assert snapshot is not None
        return snapshot.snapshot_id, file.path

    assert run() == run()
