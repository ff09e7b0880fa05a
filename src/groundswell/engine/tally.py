"""What a sweep has counted so far, and how two such counts become one.

Invariants
    tallies merge only over disjoint units, and always along the same binary tree over the leaves of the hash space:
    the same rows give the same bytes, however files, ranges and threads cut them
    a unit that has nothing but zeros is only counted; such zeros are added at the end, all at once
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from typing import Final, cast

import numpy as np
from numpy.typing import NDArray

from groundswell.engine import kernels as k
from groundswell.engine.cells import CellIndex, Cells
from groundswell.engine.program import Program
from groundswell.engine.recipes import Extent, Place
from groundswell.engine.rows import Rows
from groundswell.model.moments import Moments
from groundswell.model.plan import ExperimentResult

__all__ = ["Fold", "Tally", "Workspace", "results"]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

_sweep: Final = cast("Callable[..., int]", k.sweep)  # 33 arrays and numbers, by position
_REASONS: Final = ("two_variants", "unknown_variant", "no_unit")
_NO_ROOM: Final = (np.empty(0, np.int64), np.empty((0, 0)))


@dataclass(frozen=True, slots=True)
class Tally:
    """Counts and moments over some units, laid out as the program says."""

    units: Ints
    before: Ints
    excluded: Ints
    closed: Ints
    shares: Ints
    cells: Cells

    def __add__(self, other: Tally) -> Tally:
        """Merge two tallies over disjoint units."""
        return Tally(*(getattr(self, field.name) + getattr(other, field.name) for field in fields(self)))


class Workspace:
    """What one thread counts into, open for more rows."""

    def __init__(self, program: Program, index: CellIndex) -> None:
        room = program.extent
        self.units = np.zeros(program.arms_count, np.int64)
        self.before = np.zeros(program.arms_count, np.int64)
        self.excluded = np.zeros((len(program.experiments), k.X_WIDTH), np.int64)
        self.closed = np.zeros(room.closed, np.int64)
        self.shares = np.zeros(room.shares, np.int64)
        self.cells = np.zeros(room.floats)
        self._first_row = np.full(len(program.experiments), -1, np.int64)
        self._marks = np.zeros((2, len(program.experiments)), np.int64)
        self._numbers = (np.zeros(2 * program.numbers_max), np.zeros(program.numbers_max))
        self._program = program
        self._index = index

    def sweep(self, rows: Rows, within: tuple[int, int], as_of_us: int, room: tuple[Ints, Floats] = _NO_ROOM) -> int:
        """Add the units of rows [start, stop), which come in order of unit_hash and each identity once.

        Where there is ``room`` (one experiment), its numbers are not added but written there, a row a counted unit: the
        row of its first exposure and its numbers. Return how many rows were written.
        """
        here = (self.units, self.before, self.excluded, self.closed, self.shares, self.cells)
        scratch = (self._first_row, *self._marks, np.empty(within[1] - within[0], np.int64), *self._numbers)
        return _sweep(*within, *rows.columns(), as_of_us, *self._program.tables, *here, *scratch, *room)

    def close(self) -> Tally:
        """Return what was counted; the workspace must not be used again."""
        k.close_blocks(self.cells, self._index.accumulators, self._program.pairs)
        cells = self._index.take(self.cells)
        return Tally(self.units, self.before, self.excluded, self.closed, self.shares, cells)


class Fold:
    """Merges the tallies of leaves, given in order, along a binary tree; it holds one tally a level at most."""

    def __init__(self) -> None:
        self._open: list[tuple[int, Tally | None]] = []

    def add(self, tally: Tally | None) -> None:
        """Add the next leaf, or the total of as many leaves as every other; None where it holds no unit."""
        height = 0
        while self._open and self._open[-1][0] == height:
            _, earlier = self._open.pop()
            tally = _merged(earlier, tally)
            height += 1
        self._open.append((height, tally))

    def total(self) -> Tally | None:
        """Return everything that was added."""
        total: Tally | None = None
        for _, tally in reversed(self._open):
            total = _merged(tally, total)
        return total


def _merged(earlier: Tally | None, later: Tally | None) -> Tally | None:
    if earlier is None or later is None:
        return later if earlier is None else earlier
    return earlier + later


def results(program: Program, tally: Tally) -> Iterator[tuple[str, ExperimentResult]]:
    """Yield the result of each experiment of ``program``."""
    silent = tally.closed[tally.cells.index.closed] - tally.cells.n
    cells = tally.cells + tally.cells.zeros(silent)
    for e, experiment in enumerate(program.experiments):
        arms = slice(program.arms[e], program.arms[e] + len(experiment.variants))
        yield (
            experiment.name,
            ExperimentResult(
                units=dict(zip(experiment.variants, tally.units[arms].tolist(), strict=True)),
                excluded=dict(zip(_REASONS, tally.excluded[e].tolist(), strict=True)),
                moments={
                    metric.name: {
                        variant: _moments(tally, cells, *program.spot(e, v, metric.name))
                        for v, variant in enumerate(experiment.variants)
                    }
                    for metric in experiment.metrics
                },
                units_before_exclusion=dict(zip(experiment.variants, tally.before[arms].tolist(), strict=True)),
            ),
        )


def _moments(tally: Tally, cells: Cells, place: Place, at: Extent) -> Moments:
    units = int(tally.closed[at.closed])
    if place.is_share:
        ones = int(tally.shares[at.shares + place.slots[0]])
        return Moments.constant(ones, 1.0) + Moments.constant(units - ones, 0.0)
    if place.pair is None:
        return cells.one(units, at.numbers + place.slots[0])
    a, b = place.slots
    return cells.two(units, (at.numbers + a, at.numbers + b), at.pairs + place.pair)
