"""Compaction keeps what counts, removes what is doubled, and harms nothing when it dies."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from groundswell import limits
from groundswell.lake import steps
from groundswell.lake.compaction import compact, compaction_due
from groundswell.lake.contract import Change, IngestState, Lake, LakeFile
from groundswell.lake.iceberg import IcebergLake
from groundswell.model.definitions import Definitions
from groundswell.model.ledger import LakeCounts
from groundswell.testing.clock import ManualClock
from groundswell.testing.lake import MemoryLake

MakeTable = Callable[..., pa.Table]
Append = Callable[..., Any]

KEYS = ["unit_hash", "ts", "received_at", "event_hash"]


class Killed(BaseException):
    """The process is gone."""


class KillAt:
    def __init__(self, step: str, times: int) -> None:
        self.step, self.left = step, times

    def reach(self, step: str) -> None:
        if step == self.step:
            self.left -= 1
            if self.left == 0:
                raise Killed(step)


def content(lake: Lake) -> Counter[tuple[Any, ...]]:
    """Return every row of the lake and how often it is there."""
    table = lake.read(lake.files(), ["event_id", *KEYS, "revenue", "title"])
    return Counter(tuple(row.values()) for row in table.to_pylist())


def runs(lake: Lake) -> dict[int, list[LakeFile]]:
    found: dict[int, list[LakeFile]] = {}
    for file in lake.files():
        found.setdefault(file.sorted_run, []).append(file)
    return found


def check_runs(lake: Lake) -> None:
    """Hold the files of every run against what readers rely on."""
    for run, files in runs(lake).items():
        if run == 0:
            continue
        with_units = [file for file in files if file.unit_hash_min is not None]
        bounds = [(file.unit_hash_min or 0, file.unit_hash_max or 0) for file in with_units]
        assert all(before[1] < after[0] for before, after in itertools.pairwise(bounds))
        for file in with_units:
            rows = [tuple(row.values()) for row in lake.read([file], KEYS).to_pylist()]
            assert rows == sorted(rows)
            assert all(row[0] is not None for row in rows)


@pytest.fixture
def filled(lake: Lake, make_table: MakeTable, append: Append, definitions: Definitions) -> Lake:
    """Return a lake with six fresh files whose units repeat, some rows without a unit, some columns."""
    lake.ensure_columns(definitions)
    rng = np.random.default_rng(5)
    for place in range(6):
        units = [int(unit) if unit else None for unit in rng.integers(0, 9, 20)]
        revenue = [float(value) for value in rng.integers(0, 9, 20)] if place % 2 else [None] * 20
        append(
            lake,
            make_table(units, ids=f"{place}-", received_us=1_000_000 - place * 7, revenue=revenue),
            IngestState(offsets={0: place}),
        )
    return lake


def test_every_row_is_kept_and_sorted(filled: Lake, clock: ManualClock) -> None:
    before = content(filled)

    report = compact(filled, clock=clock)

    assert content(filled) == before
    assert 0 not in runs(filled)
    assert (report.files_removed, report.rows_read, report.rows_written) == (6, 120, 120)
    check_runs(filled)


@pytest.mark.parametrize(("rows_max", "file_rows"), [(1, 1), (45, 7), (45, 30), (1_000, 5)])
def test_small_memory_gives_the_same_rows_in_more_files(
    filled: Lake, clock: ManualClock, rows_max: int, file_rows: int
) -> None:
    before = content(filled)

    compact(filled, clock=clock, rows_max=rows_max, file_rows=file_rows)

    assert content(filled) == before
    check_runs(filled)
    with_units = {file.sorted_run for file in filled.files() if file.unit_hash_min is not None}
    assert len(with_units) <= limits.sorted_runs_max
    assert not compaction_due(filled.files())


def test_rows_without_a_unit_are_in_files_of_their_own(filled: Lake, clock: ManualClock) -> None:
    compact(filled, clock=clock)

    without = [file for file in filled.files() if file.unit_hash_min is None]
    assert len(without) == 1
    assert set(filled.read(without, ["unit_hash"]).column(0).to_pylist()) == {None}


def test_compacting_again_changes_nothing(filled: Lake, clock: ManualClock) -> None:
    compact(filled, clock=clock)
    before = [file.path for file in filled.files()]

    report = compact(filled, clock=clock)

    assert report.rounds == 0
    assert [file.path for file in filled.files()] == before


def test_an_empty_lake_has_nothing_to_compact(lake: Lake, clock: ManualClock) -> None:
    assert compact(lake, clock=clock).rounds == 0


def test_the_state_is_carried_forward_unchanged(filled: Lake, clock: ManualClock) -> None:
    before = filled.current()

    compact(filled, clock=clock)

    after = filled.current()
    assert before is not None
    assert after is not None
    assert after.state == before.state


def test_an_identity_is_kept_once_as_received_first_and_moves_in_the_ledger(
    lake: Lake, make_table: MakeTable, append: Append, clock: ManualClock
) -> None:
    ledger = {"web": LakeCounts(committed=4, deduplicated=1), "app": LakeCounts(committed=2)}
    late = make_table([1, 2], ids="late", received_us=2_000, event_hash=[10, 20], content_hash=[1, 2])
    first = make_table([1, 3], ids="first", received_us=1_000, event_hash=[10, 20], content_hash=[1, 3])
    again = make_table(
        [1, 2], ids="again", received_us=3_000, event_hash=[10, 20], content_hash=[9, 2], source=["app", "app"]
    )
    for table in (late, first, again):
        append(lake, table, IngestState(ledger=ledger))

    report = compact(lake, clock=clock)

    state = lake.current()
    assert state is not None
    kept = lake.read(lake.files(), ["event_id"]).column(0).to_pylist()
    assert kept == ["first0", "late1", "first1"]  # event 20 of units 2 and 3 are two events
    assert (report.duplicates, report.conflicts) == (3, 1)
    assert state.state.ledger == {
        "web": LakeCounts(committed=3, deduplicated=2),
        "app": LakeCounts(committed=0, deduplicated=2, conflicts=1),
    }
    assert sum(counts.settled for counts in state.state.ledger.values()) == 7


def test_duplicates_in_different_runs_meet_when_the_runs_are_merged(
    lake: Lake, make_table: MakeTable, append: Append, clock: ManualClock
) -> None:
    for place in range(limits.sorted_runs_max + 1):
        table = make_table([7], ids=f"{place}-", received_us=1_000 + place, event_hash=[1])
        append(lake, table, IngestState(ledger={"web": LakeCounts(committed=place + 1)}))
        compact(lake, clock=clock)

    state = lake.current()
    assert state is not None
    assert lake.read(lake.files(), ["event_id"]).column(0).to_pylist() == ["0-0"]
    assert state.state.ledger["web"].committed == 1


def test_ingest_that_commits_meanwhile_loses_nothing_and_keeps_nobody_busy(
    filled: Lake, make_table: MakeTable, clock: ManualClock
) -> None:
    before = content(filled)
    numbers = itertools.count(6)

    class IngestAt:
        def reach(self, step: str) -> None:
            if step == steps.COMPACTION_COMMIT:
                number = next(numbers)
                file = filled.write(make_table([4], ids=f"late{number}-"))
                filled.commit(lambda _: Change(add=[file], state=IngestState(offsets={0: number})))

    report = compact(filled, clock=clock, faults=IngestAt(), rows_max=45)

    state = filled.current()
    assert state is not None
    assert report.rounds == 3
    assert content(filled) > before
    assert sum(content(filled).values()) == sum(before.values()) + 3
    assert state.state.offsets == {0: 8}
    assert len(runs(filled)[0]) == 3


def test_of_two_compactors_one_gives_way(filled: Lake, clock: ManualClock) -> None:
    before = content(filled)
    others: list[int] = []

    class CompactAt:
        def reach(self, step: str) -> None:
            if step == steps.COMPACTION_COMMIT:
                others.append(compact(filled, clock=clock).rounds)

    report = compact(filled, clock=clock, faults=CompactAt())

    assert others == [1]
    assert (report.rounds, report.lost_races, report.files_added) == (1, 1, 0)
    assert content(filled) == before
    check_runs(filled)


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("step", steps.COMPACTION_STEPS)
def test_a_kill_at_any_step_harms_nothing(
    tmp_path: Path, clock: ManualClock, make_table: MakeTable, append: Append, step: str, times: int
) -> None:
    lake = IcebergLake(tmp_path / "lake", clock=clock)
    lake.ensure_columns(Definitions())
    for place in range(limits.sorted_runs_max + 2):
        append(lake, make_table([place, 7, None], ids=f"{place}-", event_hash=[place, 99, None]))
    rows = 3 * (limits.sorted_runs_max + 2)
    duplicates = limits.sorted_runs_max + 1
    lake.commit(lambda _: Change(state=IngestState(ledger={"web": LakeCounts(committed=rows)})))
    with pytest.raises(Killed):
        compact(lake, clock=clock, rows_max=3, faults=KillAt(step, times))
    lake.close()

    reopened = IcebergLake(tmp_path / "lake", clock=clock)
    compact(reopened, clock=clock, rows_max=3)

    ids = reopened.read(reopened.files(), ["event_id"]).column(0).to_pylist()
    state = reopened.current()
    assert state is not None
    assert len(ids) == len(set(ids)) == rows - duplicates
    assert state.state.ledger["web"] == LakeCounts(committed=rows - duplicates, deduplicated=duplicates)
    reopened.close()


def test_a_unit_with_more_rows_than_a_file_stays_in_one_file(
    lake: Lake, make_table: MakeTable, append: Append, clock: ManualClock
) -> None:
    append(lake, make_table([1] * 3 + [2] * 40 + [3] * 3))

    compact(lake, clock=clock, file_rows=5)

    assert [file.rows for file in lake.files()] == [43, 3]
    check_runs(lake)


def test_columns_that_only_old_files_have_survive(
    lake: Lake, make_table: MakeTable, append: Append, clock: ManualClock, definitions: Definitions
) -> None:
    lake.ensure_columns(definitions)
    append(lake, make_table([1], event_hash=[1], title=["x"], autoplay=[True], released=[5]))
    append(lake, make_table([1], event_hash=[2], watch_ms=[3]))

    compact(lake, clock=clock)

    table = lake.read(lake.files(), ["title", "autoplay", "watch_ms"])
    assert table.to_pylist() == [
        {"title": "x", "autoplay": True, "watch_ms": None},
        {"title": None, "autoplay": None, "watch_ms": 3},
    ]
    assert lake.columns(lake.files()).names[-4:] == ["autoplay", "released", "title", "watch_ms"]


def test_it_is_due_when_readers_have_many_files_to_merge() -> None:
    clock = ManualClock()
    lake = MemoryLake(clock=clock)
    table = pa.table(
        {"received_at": pa.array([1], pa.timestamp("us", tz="UTC")), "unit_hash": pa.array([1], pa.int64())}
    )
    fresh = [lake.write(table) for _ in range(limits.fresh_files_max + 1)]
    sorted_runs = [lake.write(table, sorted_run=run + 1) for run in range(limits.sorted_runs_max + 1)]

    assert not compaction_due([])
    assert not compaction_due(fresh[1:])
    assert compaction_due(fresh)
    assert not compaction_due(sorted_runs[1:])
    assert compaction_due(sorted_runs)
