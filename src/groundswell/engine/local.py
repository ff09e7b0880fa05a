"""The engine in this process: one sweep over unit-sorted rows for a whole portfolio, spread over cores.

Invariants
    a snapshot and a plan have one answer, to the last bit: whatever the files, ranges and threads
    memory is bounded by ranges in flight and one pool, never by the table
    rows that name nobody, or lack an experiment's unit, are read too: what is left out is counted
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import NamedTuple, TypeVar

import pyarrow as pa

from groundswell import limits
from groundswell.engine.cells import CellIndex
from groundswell.engine.program import Program, programs
from groundswell.engine.rows import Rows
from groundswell.engine.sources import (
    LEAVES,
    LayoutSource,
    PoolSource,
    Source,
    Span,
    nobody_source,
    own_id_source,
    power_of_two,
    spans,
)
from groundswell.engine.tally import Fold, Tally, Workspace, results
from groundswell.engine.units import unit_rows
from groundswell.errors import InvalidInput, NotComputable
from groundswell.lake.contract import Lake, LakeFile, Snapshot
from groundswell.model.plan import Aggregates, ExperimentPlan, ExperimentResult, Plan

__all__ = ["LocalEngine"]

T = TypeVar("T")


class LocalEngine:
    """Counts snapshots of ``lake`` on this machine.

    Args:
        lake: what is counted.
        threads: how many ranges are counted at once; None: one a core.
        range_rows: how many rows a thread holds at once, about.
        pool_rows: how many rows in no useful order are held at once, about, but no less than 1/64 of them.
    """

    def __init__(
        self,
        lake: Lake,
        *,
        threads: int | None = None,
        range_rows: int = limits.engine_range_rows,
        pool_rows: int = limits.engine_pool_rows_max,
    ) -> None:
        settings = {"threads": (os.cpu_count() or 1) if threads is None else threads}
        settings |= {"range_rows": range_rows, "pool_rows": pool_rows}
        for name, value in settings.items():
            if value < 1:
                raise InvalidInput(name, value, "must be >= 1")
        self._lake = lake
        self._threads = settings["threads"]
        self._range_rows = range_rows
        self._pool_rows = pool_rows

    def execute(self, plan: Plan, snapshot_id: int | None = None) -> Aggregates:
        laid_out = programs(plan)
        snapshot = self._snapshot(snapshot_id)
        as_of_us = _as_of_us(snapshot, plan.as_of_us)
        files = self._lake.files(snapshot.snapshot_id)
        found: dict[str, ExperimentResult] = {}
        with ThreadPoolExecutor(self._threads, "engine") as executor:
            for program in laid_out:
                found.update(results(program, self._count(executor, program, files, as_of_us)))
        return Aggregates(snapshot.snapshot_id, as_of_us, {one.name: found[one.name] for one in plan.experiments})

    def unit_table(
        self, experiment: ExperimentPlan, snapshot_id: int | None = None, as_of_us: int | None = None
    ) -> pa.Table:
        (program,) = programs(Plan((experiment,)))
        snapshot = self._snapshot(snapshot_id)
        moment_us = _as_of_us(snapshot, as_of_us)
        source = self._source(self._lake.files(snapshot.snapshot_id), program)
        index = CellIndex.of(program)
        parts = [unit_rows(program, index, Rows.empty(len(program.value_codes)), moment_us)]

        def work(cut: _Cut) -> list[pa.Table]:
            reads = spans(cut.reads, cut.span)
            return [unit_rows(program, index, _once_each(source, span)[0], moment_us) for span in reads]

        with ThreadPoolExecutor(self._threads, "engine") as executor:
            for tables in self._each(executor, source, work):
                parts += tables
        return pa.concat_tables(parts).combine_chunks()

    def _snapshot(self, snapshot_id: int | None) -> Snapshot:
        snapshot = self._lake.current() if snapshot_id is None else self._lake.snapshot(snapshot_id)
        if snapshot is None:
            raise NotComputable("the lake is empty: nothing has been committed yet")
        return snapshot

    def _count(self, executor: Executor, program: Program, files: Sequence[LakeFile], as_of_us: int) -> Tally:
        source = self._source(files, program)
        tally, rows = self._sweep(executor, source, program, as_of_us)
        if isinstance(source, LayoutSource) and rows < sum(file.rows for file in files):
            alone = nobody_source(self._lake, files, program, self._pool_rows)
            nobody, _ = self._sweep(executor, alone, program, as_of_us)
            tally += nobody
        return tally

    def _source(self, files: Sequence[LakeFile], program: Program) -> LayoutSource | PoolSource:
        make = LayoutSource if program.unit == 0 else own_id_source
        return make(self._lake, files, program, self._pool_rows)

    def _sweep(self, executor: Executor, source: Source, program: Program, as_of_us: int) -> tuple[Tally, int]:
        """Return what all rows of ``source`` come to, and how many rows were read."""
        fold, rows, index = Fold(), 0, CellIndex.of(program)

        def blank() -> Workspace:
            return Workspace(program, index)

        for tally, read in self._each(executor, source, lambda cut: _sweep_cut(source, blank, as_of_us, cut)):
            fold.add(tally)
            rows += read
        return fold.total() or blank().close(), rows

    def _each(self, executor: Executor, source: Source, work: Callable[[_Cut], T]) -> Iterator[T]:
        """Cut the hash space, and yield what ``work`` makes of each cut, in order."""
        wanted = source.rows / self._range_rows
        cuts = max(power_of_two(wanted, LEAVES), source.passes)
        reads = power_of_two(wanted / cuts, source.rows)
        for part in spans(source.passes):
            source.prepare(part, executor)
            spanned = spans(cuts // source.passes, part)
            tasks = [_Cut(span, LEAVES // cuts, reads if cuts == LEAVES else 1) for span in spanned]
            yield from _in_order(executor, work, tasks, ahead=self._threads + 1)


class _Cut(NamedTuple):
    """A part of the hash space that one thread counts: several leaves read at once, or one leaf in several reads."""

    span: Span
    leaves: int
    reads: int


def _sweep_cut(source: Source, blank: Callable[[], Workspace], as_of_us: int, cut: _Cut) -> tuple[Tally | None, int]:
    """Return the tally of a cut (None where it holds no row) and how many rows were read."""
    fold, workspace, read = Fold(), None, 0
    for span in spans(cut.reads, cut.span):
        rows, found = _once_each(source, span)
        read += found
        for leaf in spans(cut.leaves, span):
            start, stop = rows.between(*leaf)
            if start < stop:
                workspace = workspace or blank()
                workspace.sweep(rows, (start, stop), as_of_us)
            if cut.leaves > 1:
                fold.add(workspace.close() if workspace else None)
                workspace = None
    if cut.leaves == 1:
        fold.add(workspace.close() if workspace else None)
    return fold.total(), read


def _once_each(source: Source, span: Span) -> tuple[Rows, int]:
    """Return the rows of a range, each identity once, and how many rows were read."""
    rows = source.read(span, arrival=False)
    read = len(rows)
    if rows.repeats() is not None:
        rows = source.read(span, arrival=True)
        repeated = rows.repeats()
        rows = rows if repeated is None else rows.once_each(repeated)
    return rows, read


def _in_order(executor: Executor, work: Callable[[_Cut], T], cuts: Sequence[_Cut], *, ahead: int) -> Iterator[T]:
    """Yield results in the order of ``cuts``, with at most ``ahead`` of them under way or waiting."""
    waiting: deque[Future[T]] = deque()
    try:
        for cut in cuts:
            waiting.append(executor.submit(work, cut))
            if len(waiting) >= ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()


def _as_of_us(snapshot: Snapshot, asked_us: int | None) -> int:
    as_of_us = snapshot.state.as_of_us if asked_us is None else asked_us
    if as_of_us is None:
        raise NotComputable(f"snapshot {snapshot.snapshot_id} has no watermark yet, so there is no as_of")
    return as_of_us
