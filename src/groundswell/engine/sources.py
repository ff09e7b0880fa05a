"""Where a sweep's rows come from: any range of unit_hash, whatever files hold it.

Invariants
    a row belongs to exactly one range, and every row of the snapshot to one
    sorted runs are read range by range, pruned by their bounds; what is not sorted by the unit that is counted is a
    pool, loaded for some ranges at a time and sorted in memory
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor
from typing import Final, NamedTuple, Protocol

import pyarrow as pa

from groundswell.engine.program import Program
from groundswell.engine.rows import CODED_COLUMNS, Rows, by_layout, by_nobody, by_own_id, columns_of
from groundswell.lake.contract import Lake, LakeFile

__all__ = ["LEAVES", "LayoutSource", "PoolSource", "Source", "Span", "nobody_source", "own_id_source", "spans"]

LEAVES: Final = 64  # of the merge tree: never changed, since results depend on it in their last bits
HASH_MIN: Final = -(2**63)
_HASHES: Final = 2**64


class Span(NamedTuple):
    """A range of unit_hash, both ends inclusive."""

    low: int
    high: int


def spans(count: int, within: Span | None = None) -> list[Span]:
    """Return ``count`` (a power of two) equal parts of a range, by default of all hashes."""
    low, high = within or Span(HASH_MIN, HASH_MIN + _HASHES - 1)
    width = (high - low + 1) // count
    return [Span(low + number * width, low + (number + 1) * width - 1) for number in range(count)]


class Source(Protocol):
    """Rows by range."""

    @property
    def rows(self) -> int:
        """How many rows there are at most, over all ranges."""
        ...

    @property
    def passes(self) -> int:
        """How many equal parts of the hash space must be prepared one after the other (a power of two)."""
        ...

    def prepare(self, span: Span, executor: Executor) -> None:
        """Make ready to read ranges within ``span``; what was prepared before is let go."""
        ...

    def read(self, span: Span, *, arrival: bool) -> Rows:
        """Return the rows of a range in order of unit_hash, with what tells who came first where ``arrival``."""
        ...


class PoolSource:
    """Files in no useful order: the rows of a pass are read from all of them, and sorted."""

    def __init__(
        self,
        lake: Lake,
        files: Sequence[LakeFile],
        program: Program,
        rows_of: Callable[[Program, pa.Table], Rows],
        pool_rows: int,
        *,
        prune: bool,
    ) -> None:
        self._lake = lake
        self._files = files
        self._program = program
        self._rows_of = rows_of
        self._prune = prune  # the ranges are of the files' own unit_hash
        self._pool = _no_rows(program)
        self.rows = sum(file.rows for file in files)
        self.passes = power_of_two(self.rows / pool_rows, LEAVES)

    def prepare(self, span: Span, executor: Executor) -> None:
        self._pool = _no_rows(self._program)  # let go before more is read
        parts = list(executor.map(lambda file: self._load(file, span), self._files))
        if parts:
            self._pool = Rows.concat(parts).in_order()

    def _load(self, file: LakeFile, span: Span) -> Rows:
        table = self._lake.read(
            [file],
            columns_of(self._program, arrival=True),
            unit_hash=(span.low, span.high) if self._prune else None,
            coded=CODED_COLUMNS,
        )
        rows = self._rows_of(self._program, table)
        if self._prune:
            return rows
        inside = (rows.unit_hash >= span.low) & (rows.unit_hash <= span.high)
        return rows if inside.all() else rows.take(inside)

    def read(self, span: Span, *, arrival: bool) -> Rows:
        rows = self._pool.take(slice(*self._pool.between(*span)))
        return rows if arrival else rows.without_arrival()


class LayoutSource:
    """The layout key's own order: sorted runs, and fresh files as a pool. Rows that name nobody are not among them."""

    def __init__(self, lake: Lake, files: Iterable[LakeFile], program: Program, pool_rows: int) -> None:
        self._lake = lake
        self._program = program
        somebody = [file for file in files if file.unit_hash_min is not None]
        runs = [file for file in somebody if file.sorted_run]
        self._runs = sorted(runs, key=lambda file: (file.sorted_run, file.unit_hash_min, file.path))
        fresh = [file for file in somebody if not file.sorted_run]
        self._fresh = PoolSource(lake, fresh, program, by_layout, pool_rows, prune=True)
        self.rows = sum(file.rows for file in somebody)
        self.passes = self._fresh.passes

    def prepare(self, span: Span, executor: Executor) -> None:
        self._fresh.prepare(span, executor)

    def read(self, span: Span, *, arrival: bool) -> Rows:
        parts = [self._fresh.read(span, arrival=arrival)]
        inside = [file for file in self._runs if _overlaps(file, span)]
        if inside:
            columns = columns_of(self._program, arrival=arrival)
            table = self._lake.read(inside, columns, unit_hash=(span.low, span.high), coded=CODED_COLUMNS)
            parts.insert(0, by_layout(self._program, table))
        return Rows.concat([part for part in parts if len(part)] or parts[:1]).in_order()


def own_id_source(lake: Lake, files: Sequence[LakeFile], program: Program, pool_rows: int) -> PoolSource:
    """Return rows by an id that is not the layout key: a second projection, hashed and sorted in memory."""
    return PoolSource(lake, files, program, by_own_id, pool_rows, prune=False)


def nobody_source(lake: Lake, files: Sequence[LakeFile], program: Program, pool_rows: int) -> PoolSource:
    """Return the rows that name nobody, each under its own identity."""
    return PoolSource(lake, files, program, by_nobody, pool_rows, prune=False)


def power_of_two(at_least: float, at_most: int) -> int:
    """Return the least power of two that is ``at_least`` so large, but ``at_most``."""
    found = 1
    while found < at_least and found < at_most:
        found *= 2
    return found


def _overlaps(file: LakeFile, span: Span) -> bool:
    low, high = file.unit_hash_min, file.unit_hash_max
    return low is not None and high is not None and low <= span.high and high >= span.low


def _no_rows(program: Program) -> Rows:
    return Rows.empty(len(program.value_codes))
