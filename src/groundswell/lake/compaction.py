"""Compaction: fresh files become sorted runs, and runs are merged before there are many.

Invariants
    a run's files are disjoint ranges of units in order; a unit's rows of one run are in one file
    rows without a unit are in files of their own
    removing duplicates moves their count in the ledger from committed to deduplicated, in the same commit
    a crash or a lost race leaves the table as it was; files that were written are orphans

It commits as everybody does, beside ingest, through ``Lake.commit``; a file that is to be replaced and no longer there
makes the commit fail, so two compactors cannot both win.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import msgspec
import numpy as np
import pyarrow as pa

from groundswell import limits
from groundswell.errors import CommitConflict, SnapshotGone
from groundswell.lake.contract import Change, IngestState, Lake, LakeFile
from groundswell.lake.sorting import Duplicates, Longs, Order, sort_rows
from groundswell.lake.steps import COMPACTION_COMMIT, COMPACTION_COMMITTED, COMPACTION_READ, COMPACTION_WRITE
from groundswell.lake.tiers import merge_ranges, next_merge, run_sizes
from groundswell.model.clock import Clock
from groundswell.model.faults import Faults, NoFaults

__all__ = ["CompactionReport", "compact", "compaction_due"]

KEY_COLUMNS: Final = ("unit_hash", "ts", "received_at", "event_hash", "content_hash", "source")
# columns of few words: copied as numbers, not as text
_CODED: Final = ("type", "source", "country", "platform", "app_version", "data_centre", "experiment", "variant")
_FILE_ROWS: Final = 1_000_000  # about 60 MB; a reader of one range opens few files
_ROUNDS_MAX: Final = 10_000  # of one call: each sorts a batch or lowers the number of runs


class CompactionReport(NamedTuple):
    """What one call did."""

    rounds: int = 0
    files_removed: int = 0
    files_added: int = 0
    rows_read: int = 0
    rows_written: int = 0
    duplicates: int = 0
    conflicts: int = 0  # of the duplicates, those with another content than the row that stays
    lost_races: int = 0
    took_s: float = 0.0


def compaction_due(files: Sequence[LakeFile]) -> bool:
    """Say whether a reader of ``files`` has too many to merge."""
    fresh = sum(1 for file in files if file.sorted_run == 0)
    return fresh > limits.fresh_files_max or len(run_sizes(files)) > limits.sorted_runs_max


def compact(
    lake: Lake,
    *,
    clock: Clock,
    faults: Faults | None = None,
    rows_max: int = limits.compaction_rows_max,
    file_rows: int = _FILE_ROWS,
) -> CompactionReport:
    """Sort the fresh files that are there into runs, then merge runs until at most ``limits.sorted_runs_max`` are left.

    Args:
        lake: the lake.
        clock: measures how long it took.
        faults: told of each of ``steps.COMPACTION_STEPS``.
        rows_max: rows held in memory at once; more only where one file or one unit has more.
        file_rows: rows of a file of a run; more only where one unit has more.
    """
    started_s = clock.monotonic_s()
    total = CompactionReport()
    known = {file.path for file in lake.files()}  # what ingest adds meanwhile is for the next call
    for _ in range(_ROUNDS_MAX):
        files = lake.files()
        fresh = [file for file in files if file.sorted_run == 0 and file.path in known]
        chosen = _batch(fresh, rows_max) or next_merge(files, file_rows, rows_max)
        if not chosen:
            break
        run = 1 + max(file.sorted_run for file in files)
        made = _Round(lake, faults or NoFaults(), chosen, run, rows_max=rows_max, file_rows=file_rows).run()
        total = _sum(total, made)
        if made.lost_races:
            break
    return total._replace(took_s=clock.monotonic_s() - started_s)


def _sum(one: CompactionReport, other: CompactionReport) -> CompactionReport:
    return CompactionReport(
        rounds=one.rounds + other.rounds,
        files_removed=one.files_removed + other.files_removed,
        files_added=one.files_added + other.files_added,
        rows_read=one.rows_read + other.rows_read,
        rows_written=one.rows_written + other.rows_written,
        duplicates=one.duplicates + other.duplicates,
        conflicts=one.conflicts + other.conflicts,
        lost_races=one.lost_races + other.lost_races,
    )


def _batch(fresh: Sequence[LakeFile], rows_max: int) -> list[LakeFile]:
    """Return the fresh files received first, as many as may be held in memory and at least one."""
    batch: list[LakeFile] = []
    rows = size = 0
    for file in sorted(fresh, key=lambda one: (one.received_min_us, one.path)):
        rows, size = rows + file.rows, size + file.bytes
        if batch and (rows > rows_max or size > limits.compaction_bytes_max):
            break
        batch.append(file)
    return batch


class _Round:
    """Replaces ``chosen`` by a new ``run``, in one commit."""

    def __init__(
        self, lake: Lake, faults: Faults, chosen: Sequence[LakeFile], run: int, *, rows_max: int, file_rows: int
    ) -> None:
        self._lake = lake
        self._faults = faults
        self._chosen = chosen
        self._rows_max = rows_max
        self._file_rows = file_rows
        self._run = run
        self._added: list[LakeFile] = []
        self._duplicates: Counter[str] = Counter()
        self._conflicts: Counter[str] = Counter()

    def run(self) -> CompactionReport:
        try:
            names = self._lake.columns(self._chosen).names
            for files, span in self._parts():
                self._faults.reach(COMPACTION_READ)
                self._write(*self._sorted(files, span, names), names)
            self._faults.reach(COMPACTION_COMMIT)
            self._lake.commit(self._decide)
            self._faults.reach(COMPACTION_COMMITTED)
        except (CommitConflict, SnapshotGone):  # another compactor was first; what was written is an orphan
            return CompactionReport(rounds=1, lost_races=1)
        return CompactionReport(
            rounds=1,
            files_removed=len(self._chosen),
            files_added=len(self._added),
            rows_read=sum(file.rows for file in self._chosen),
            rows_written=sum(file.rows for file in self._added),
            duplicates=self._duplicates.total(),
            conflicts=self._conflicts.total(),
        )

    def _parts(self) -> Iterator[tuple[list[LakeFile], tuple[int, int] | None]]:
        """Cut the work into files and ranges that hold whole units."""
        if all(file.sorted_run == 0 or file.unit_hash_min is None for file in self._chosen):
            yield list(self._chosen), None
            return
        for low, high in merge_ranges(self._chosen, self._rows_max):
            inside = [
                file
                for file in self._chosen
                if file.unit_hash_min is not None
                and file.unit_hash_max is not None
                and file.unit_hash_min <= high
                and file.unit_hash_max >= low
            ]
            yield inside, (low, high)

    def _sorted(
        self, files: Sequence[LakeFile], span: tuple[int, int] | None, names: Sequence[str]
    ) -> tuple[Order, list[pa.Array]]:
        """Read rows and find their order. Columns come in one piece each; their parts are let go one by one, because a
        second copy of all would not fit.
        """
        rows = self._lake.read(files, names, unit_hash=span, coded=_CODED)
        order = sort_rows(_with_keys(rows))
        self._count(rows, order.duplicates)
        parts: list[pa.ChunkedArray] = list(rows.columns)
        del rows
        parts.reverse()
        whole: list[pa.Array] = []
        while parts:
            whole.append(_in_one_piece(parts.pop()))
        return order, whole

    def _write(self, order: Order, columns: Sequence[pa.Array], names: Sequence[str]) -> None:
        for start, stop in _cuts(order, self._file_rows):
            taken = pa.array(order.rows[start:stop])
            table = pa.table([column.take(taken) for column in columns], names=list(names))
            self._faults.reach(COMPACTION_WRITE)
            self._added.append(self._lake.write(table, sorted_run=self._run))

    def _count(self, rows: pa.Table, duplicates: Duplicates) -> None:
        if len(duplicates.rows) == 0:
            return
        sources = rows.column("source").take(pa.array(duplicates.rows)).to_pylist()
        self._duplicates.update(source for source in sources if source is not None)
        conflicts = zip(sources, duplicates.conflicts.tolist(), strict=True)
        self._conflicts.update(source for source, differs in conflicts if differs and source is not None)

    def _decide(self, state: IngestState) -> Change:
        # what this reads is at least as new as ``state``; if it is newer, the swap fails and this is asked again
        if any(file.sorted_run == self._run for file in self._lake.files()):
            raise CommitConflict(f"run {self._run} was taken by another compactor")
        moved = self._moved(state) if self._duplicates else None
        return Change(add=self._added, remove=self._chosen, state=moved)

    def _moved(self, state: IngestState) -> IngestState:
        """Move what was removed from committed to deduplicated."""
        ledger = dict(state.ledger)
        for source, rows in self._duplicates.items():
            if (counts := ledger.get(source)) is not None:
                ledger[source] = msgspec.structs.replace(
                    counts,
                    committed=counts.committed - rows,
                    deduplicated=counts.deduplicated + rows,
                    conflicts=counts.conflicts + self._conflicts[source],
                )
        return msgspec.structs.replace(state, ledger=ledger)


def _with_keys(rows: pa.Table) -> pa.Table:
    """Return the columns that decide the order, null where no file has them."""
    keys = rows.select([name for name in KEY_COLUMNS if name in rows.column_names])
    for name in KEY_COLUMNS:
        if name not in keys.column_names:
            keys = keys.append_column(name, pa.nulls(rows.num_rows, pa.string() if name == "source" else pa.int64()))
    return keys


def _in_one_piece(column: pa.ChunkedArray) -> pa.Array:
    if pa.types.is_dictionary(column.type):
        column = column.unify_dictionaries()
    return pa.concat_arrays(column.chunks) if column.num_chunks > 1 else column.combine_chunks()


def _cuts(order: Order, file_rows: int) -> Iterator[tuple[int, int]]:
    """Cut ordered rows into files: rows without a unit apart, and never within a unit."""
    for start in range(0, order.unitless, file_rows):
        yield start, min(start + file_rows, order.unitless)
    start, total = 0, len(order.units)
    while start < total:
        stop = _end_of_unit(order.units, min(start + file_rows, total) - 1)
        yield order.unitless + start, order.unitless + stop
        start = stop


def _end_of_unit(units: Longs, place: int) -> int:
    return int(np.searchsorted(units, units[place], side="right"))
