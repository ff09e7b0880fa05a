"""Moments of very many cells at once, taken from accumulators and merged without a loop over them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from groundswell.engine import kernels as k
from groundswell.engine.program import Program
from groundswell.engine.recipes import Extent, Group
from groundswell.model.moments import Moments

__all__ = ["CellIndex", "Cells"]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class CellIndex:
    """Where the accumulators of a program keep what: one entry an accumulator, a number, or a pair of numbers."""

    accumulators: Ints  # (rows, 4) where each begins, its numbers, its pairs in the program's table of pairs
    closed: Ints  # (rows,) the counter of units that count for it
    row_of: Ints  # (numbers,) its accumulator
    means: Ints  # (numbers,) where its mean stands; m2, m3 and m4 follow
    products: Ints  # (pairs,) where its co-moment stands
    left: Ints  # (pairs,) its first number
    right: Ints  # (pairs,) its second

    @classmethod
    def of(cls, program: Program) -> CellIndex:
        rows: list[list[int]] = []
        numbers: list[tuple[int, int]] = []
        pairs: list[tuple[int, int, int]] = []
        for group, pairs_at, at in _groups(program):
            width = len(group.numbers)
            if not width:
                continue
            first = at.floats + k.A_NUMBERS
            numbers += [(len(rows), first + 4 * slot) for slot in range(width)]
            pairs += [(first + 4 * width + q, at.numbers + a, at.numbers + b) for (a, b), q in group.pairs.items()]
            rows.append([at.floats, width, *pairs_at, at.closed])
        row_of, means = np.array(numbers, np.int64).reshape(-1, 2).T
        products, left, right = np.array(pairs, np.int64).reshape(-1, 3).T
        table = np.array(rows, np.int64).reshape(-1, 5)
        return cls(np.ascontiguousarray(table[:, :4]), table[:, 4], row_of, means, products, left, right)

    def take(self, floats: Floats) -> Cells:
        """Return the moments in closed accumulators."""
        mean, m2, m3, m4 = (floats[self.means + power] for power in range(4))
        return Cells(self, floats[self.accumulators[:, 0] + k.A_MERGED], mean, m2, m3, m4, floats[self.products])


def _groups(program: Program) -> Iterator[tuple[Group, tuple[int, int], Extent]]:
    """Yield each group of each experiment and variant, its pairs in the table of pairs, and where it begins."""
    experiments, recipes, groups = program.tables[:3]
    for e, recipe in enumerate(program.recipes):
        first = recipes[experiments[e, k.E_RECIPE], k.R_GROUPS]
        for v in range(len(program.experiments[e].variants)):
            block = program.begins[e].after(recipe.room, v)
            for number, group in enumerate(recipe.groups):
                row = groups[first + number]
                yield group, (int(row[k.G_PAIRS]), int(row[k.G_PAIRS_END])), block.after(group.at)


@dataclass(frozen=True, slots=True)
class Cells:
    """``n`` by accumulator; mean, m2, m3 and m4 by number; co-moments by pair."""

    index: CellIndex
    n: Floats
    mean: Floats
    m2: Floats
    m3: Floats
    m4: Floats
    cross: Floats

    def zeros(self, n: Floats) -> Cells:
        """Return the moments of ``n`` units a row, all with zeros."""
        nothing = np.zeros_like(self.mean)
        return Cells(self.index, n, nothing, nothing, nothing, nothing, np.zeros_like(self.cross))

    def __add__(self, other: Cells) -> Cells:
        """Merge number by number (Chan et al. 1983, Pébay 2008). What overflows a float stays infinite or NaN."""
        at = self.index
        n = self.n + other.n
        share_a, share_b = (np.divide(part, n, out=np.zeros_like(n), where=n > 0) for part in (self.n, other.n))
        na, nb, wa, wb = (part[at.row_of] for part in (self.n, other.n, share_a, share_b))
        with np.errstate(all="ignore"):
            d = np.where(nb > 0, other.mean - self.mean, 0.0)  # of no unit there is no mean
            m2 = self.m2 + other.m2 + d * d * (na * wb)
            m3 = self.m3 + other.m3 + d**3 * (na * wb * (wa - wb)) + 3.0 * d * (wa * other.m2 - wb * self.m2)
            m4 = (
                self.m4
                + other.m4
                + d**4 * (na * wb * (wa * wa - wa * wb + wb * wb))
                + 6.0 * d * d * (wa * wa * other.m2 + wb * wb * self.m2)
                + 4.0 * d * (wa * other.m3 - wb * self.m3)
            )
            cross = self.cross + other.cross + d[at.left] * d[at.right] * (na * wb)[at.left]
            return Cells(at, n, self.mean + d * wb, m2, m3, m4, cross)

    def one(self, count: int, number: int) -> Moments:
        """Return the moments of one number over ``count`` units."""
        mean, m2, m3, m4 = (part[number : number + 1] for part in (self.mean, self.m2, self.m3, self.m4))
        return Moments(count, mean, m2[:, np.newaxis], m3, m4)

    def two(self, count: int, numbers: tuple[int, int], pair: int) -> Moments:
        """Return the moments of a pair of numbers over ``count`` units."""
        which = np.array(numbers)
        m2 = np.diag(self.m2[which])
        m2[0, 1] = m2[1, 0] = self.cross[pair]
        return Moments(count, self.mean[which], m2, self.m3[which], self.m4[which])
