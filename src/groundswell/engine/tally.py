"""What a sweep has counted so far, and how two such counts become one.

Invariants
    tallies merge only over disjoint units, and always along the same binary tree over the leaves of the hash space:
    the same rows give the same bytes, however files, ranges and threads cut them
    zeros are never pushed; they are added at the end, all at once
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from typing import Final, cast

import numpy as np
from numpy.typing import NDArray

from groundswell.engine import kernels as k
from groundswell.engine.program import CellPlace, Program
from groundswell.engine.rows import Rows
from groundswell.model.moments import Moments
from groundswell.model.plan import ExperimentPlan, ExperimentResult

__all__ = ["Cells", "Fold", "Tally", "Workspace", "results"]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

_sweep: Final = cast("Callable[..., int]", k.sweep)  # 27 arrays and numbers, by position
_NO_ROOM: Final = (np.empty(0, np.int64), np.empty((0, 0)))


@dataclass(frozen=True, slots=True)
class Cells:
    """Moments of many cells at once: n (c,), mean (c, k), m2 (c, k, k), m3 and m4 (c, k)."""

    n: Floats
    mean: Floats
    m2: Floats
    m3: Floats
    m4: Floats

    @classmethod
    def of_one(cls, accumulators: Floats) -> Cells:
        """Return the moments of closed accumulators of one number."""
        a = accumulators[:, :5].copy()
        return cls(a[:, 0], a[:, 1:2], a[:, 2:3, np.newaxis], a[:, 3:4], a[:, 4:5])

    @classmethod
    def of_two(cls, accumulators: Floats) -> Cells:
        """Return the moments of closed accumulators of two numbers."""
        a = accumulators[:, :10].copy()
        return cls(a[:, 0], a[:, 1:3], a[:, [3, 4, 4, 5]].reshape(-1, 2, 2), a[:, 6:8], a[:, 8:10])

    @classmethod
    def constant(cls, n: Floats, like: Cells) -> Cells:
        """Return the moments of ``n`` zeros a cell."""
        return cls(n, *(np.zeros_like(part) for part in (like.mean, like.m2, like.m3, like.m4)))

    def __add__(self, other: Cells) -> Cells:
        """Merge cell by cell (Chan et al. 1983, Pébay 2008). Sums beyond a float's range stay infinite or NaN."""
        n = self.n + other.n
        with np.errstate(all="ignore"):
            wa, wb = (
                np.divide(part, n, out=np.zeros_like(n), where=n > 0)[:, np.newaxis] for part in (self.n, other.n)
            )
            na = self.n[:, np.newaxis]
            d = np.where(other.n[:, np.newaxis] > 0, other.mean - self.mean, 0.0)
            va, vb = (np.diagonal(part.m2, axis1=1, axis2=2) for part in (self, other))
            m2 = self.m2 + other.m2 + d[:, :, np.newaxis] * d[:, np.newaxis, :] * (na * wb)[:, :, np.newaxis]
            m3 = self.m3 + other.m3 + d**3 * (na * wb * (wa - wb)) + 3.0 * d * (wa * vb - wb * va)
            m4 = (
                self.m4
                + other.m4
                + d**4 * (na * wb * (wa * wa - wa * wb + wb * wb))
                + 6.0 * d * d * (wa * wa * vb + wb * wb * va)
                + 4.0 * d * (wa * other.m3 - wb * self.m3)
            )
            return Cells(n, self.mean + d * wb, m2, m3, m4)

    def at(self, cell: int) -> Moments:
        """Return one cell's moments."""
        return Moments(int(self.n[cell]), self.mean[cell], self.m2[cell], self.m3[cell], self.m4[cell])


@dataclass(frozen=True, slots=True)
class Tally:
    """Counts and moments over some units, laid out as the program says."""

    units: Ints
    before: Ints
    excluded: Ints
    closed: Ints
    shares: Ints
    one: Cells
    two: Cells

    def __add__(self, other: Tally) -> Tally:
        """Merge two tallies over disjoint units."""
        return Tally(*(getattr(self, field.name) + getattr(other, field.name) for field in fields(self)))


class Workspace:
    """Accumulators of one leaf, open for more rows."""

    def __init__(self, program: Program) -> None:
        arms, closed, shares, one, two = program.sizes
        self._tables = program.tables()
        self.units = np.zeros(arms, np.int64)
        self.before = np.zeros(arms, np.int64)
        self.excluded = np.zeros((len(program.experiments), k.X_WIDTH), np.int64)
        self.closed = np.zeros(closed, np.int64)
        self.shares = np.zeros(shares, np.int64)
        self.one = np.zeros((one, k.ONE_WIDTH))
        self.two = np.zeros((two, k.TWO_WIDTH))

    def sweep(self, rows: Rows, within: tuple[int, int], as_of_us: int, room: tuple[Ints, Floats] = _NO_ROOM) -> int:
        """Add the units of rows [start, stop), which come in order of unit_hash and each identity once.

        Where there is ``room`` (one experiment), its numbers are not added but written there, a row a counted unit: the
        row of its first exposure and its numbers. Return how many rows were written.
        """
        here = (self.units, self.before, self.excluded, self.closed, self.shares, self.one, self.two)
        return _sweep(*within, *rows.columns(), as_of_us, *self._tables, *here, *room)

    def close(self) -> Tally:
        """Return what was counted; the workspace must not be used again."""
        k.close_blocks(self.one, self.two)
        one, two = Cells.of_one(self.one), Cells.of_two(self.two)
        return Tally(self.units, self.before, self.excluded, self.closed, self.shares, one, two)


class Fold:
    """Merges the tallies of leaves, given in order, along a binary tree; it holds one tally a level at most.

    A subtree that another fold has merged may be given whole, by its height.
    """

    def __init__(self) -> None:
        self._open: list[tuple[int, Tally | None]] = []

    def add(self, tally: Tally | None, height: int = 0) -> None:
        """Add the next leaf or subtree; None where it holds no unit."""
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
    """Return the result of each experiment of ``program``."""
    arms = 0
    for e, experiment in enumerate(program.experiments):
        slots = range(arms, arms + len(experiment.variants))
        arms += len(experiment.variants)
        excluded = tally.excluded[e].tolist()
        yield (
            experiment.name,
            ExperimentResult(
                units=dict(zip(experiment.variants, tally.units[slots].tolist(), strict=True)),
                excluded=dict(zip(("two_variants", "unknown_variant", "no_unit"), excluded, strict=True)),
                moments=_moments(experiment, program.places[e], tally),
                units_before_exclusion=dict(zip(experiment.variants, tally.before[slots].tolist(), strict=True)),
            ),
        )


def _moments(experiment: ExperimentPlan, places: dict[str, CellPlace], tally: Tally) -> dict[str, dict[str, Moments]]:
    found: dict[str, dict[str, Moments]] = {}
    for metric in experiment.metrics:
        place = places[metric.name]
        found[metric.name] = {
            variant: _with_zeros(tally, place, place.first + v * place.step, int(tally.closed[place.closed + v]))
            for v, variant in enumerate(experiment.variants)
        }
    return found


def _with_zeros(tally: Tally, place: CellPlace, cell: int, units: int) -> Moments:
    """Return a cell's moments over all ``units`` that count, those included that never pushed a number."""
    if place.mode == k.MODE_SHARE:
        ones = int(tally.shares[cell])
        return Moments.constant(ones, 1.0) + Moments.constant(units - ones, 0.0)
    cells = tally.one if place.mode == k.MODE_ONE else tally.two
    pushed = Cells(*(getattr(cells, field.name)[cell : cell + 1] for field in fields(Cells)))
    zeros = np.array([units - pushed.n[0]])
    return (pushed + Cells.constant(zeros, pushed)).at(0)
