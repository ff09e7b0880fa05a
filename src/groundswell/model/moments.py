"""Moments: what a sample leaves behind, in a form that adds.

Invariants
    moments merge only over disjoint units
    merging is associative and commutative up to rounding; splitting and merging changes nothing
    sums are centred: raw sums of squares lose every digit on NIST's SmLs07 to SmLs09
    a mean is the unevaluated sum of two doubles, so that a thousand merges cost no digit of a difference of means

Formulas: Chan, Golub & LeVeque (1983) for second moments; Pébay (2008, SAND2008-6212) for third and fourth;
Knuth's two-sum for the low parts.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from groundswell.errors import InvalidInput

__all__ = ["Moments"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Moments:
    """Counts, means and centred sums of ``k`` variables over ``count`` units.

    Attributes:
        count: number of units.
        mean: shape (k,).
        m2: shape (k, k), sums of products of deviations from the means.
        m3: shape (k,), sums of cubed deviations.
        m4: shape (k,), sums of fourth powers of deviations.
        mean_low: shape (k,), what rounding took from ``mean``: the mean is ``mean + mean_low``. A scalar 0.0 is none.
    """

    count: int
    mean: Floats
    m2: Floats
    m3: Floats
    m4: Floats
    mean_low: Floats = field(default_factory=lambda: _NOTHING)

    @classmethod
    def empty(cls, k: int) -> Moments:
        """Return the moments of no unit."""
        return cls(0, np.zeros(k), np.zeros((k, k)), np.zeros(k), np.zeros(k))

    @classmethod
    def constant(cls, count: int, value: ArrayLike) -> Moments:
        """Return the moments of ``count`` units that all have ``value`` (shape (k,)); sparse data adds its zeros so."""
        mean = np.atleast_1d(np.asarray(value, dtype=np.float64)).copy()
        k = len(mean)
        return cls(count, mean, np.zeros((k, k)), np.zeros(k), np.zeros(k))

    @classmethod
    def of(cls, values: ArrayLike) -> Moments:
        """Return the moments of ``values``, shape (n,) or (n, k), in two passes.

        Raises:
            InvalidInput: a value is NaN or infinite.
        """
        x = np.asarray(values, dtype=np.float64)
        if x.ndim == 1:
            x = x[:, np.newaxis]
        if not np.isfinite(x).all():
            raise InvalidInput("values", float(x[~np.isfinite(x)][0]), "must be finite")
        n, k = x.shape
        if n == 0:
            return cls.empty(k)
        with np.errstate(over="ignore", invalid="ignore"):  # a sum that overflows is told by those who use it
            mean = x.mean(axis=0)
            low = (x - mean).mean(axis=0)  # the second pass takes back what rounding lost
            mean, low = _two_sum(mean, low)
            d = (x - mean) - low
            d2 = d * d
            return cls(n, mean, d.T @ d, (d2 * d).sum(axis=0), (d2 * d2).sum(axis=0), low)

    @classmethod
    def merged(cls, parts: Iterable[Moments]) -> Moments:
        """Return the moments of all ``parts`` together, merged pairwise so that rounding grows with log(parts).

        Raises:
            InvalidInput: there is no part.
        """
        level = list(parts)
        if not level:
            raise InvalidInput("parts", level, "must hold at least one sample")
        while len(level) > 1:
            level = [a + b for a, b in zip(level[::2], level[1::2], strict=False)] + level[len(level) & ~1 :]
        return level[0]

    @property
    def k(self) -> int:
        """Number of variables."""
        return len(self.mean)

    def __add__(self, other: Moments) -> Moments:
        """Merge two disjoint samples."""
        if self.count == 0:
            return other
        if other.count == 0:
            return self
        na, nb = self.count, other.count
        n = na + nb
        wa, wb = na / n, nb / n
        with np.errstate(over="ignore", invalid="ignore"):
            d = (other.mean - self.mean) + (other.mean_low - self.mean_low)
            va, vb = np.diag(self.m2), np.diag(other.m2)
            m2 = self.m2 + other.m2 + np.outer(d, d) * (na * wb)
            m3 = self.m3 + other.m3 + d**3 * (na * wb * (wa - wb)) + 3.0 * d * (wa * vb - wb * va)
            m4 = (
                self.m4
                + other.m4
                + d**4 * (na * wb * (wa * wa - wa * wb + wb * wb))
                + 6.0 * d * d * (wa * wa * vb + wb * wb * va)
                + 4.0 * d * (wa * other.m3 - wb * self.m3)
            )
            # from the larger side, so that the step is the smaller one
            mean, low = _two_sum(self.mean, d * wb) if na >= nb else _two_sum(other.mean, -d * wa)
            mean, low = _two_sum(mean, low + (self.mean_low if na >= nb else other.mean_low))
        return Moments(n, mean, m2, m3, m4, low)

    def covariance(self) -> Floats:
        """Return the sample covariance, shape (k, k); NaN where ``count`` < 2."""
        return self.m2 / (self.count - 1) if self.count > 1 else np.full_like(self.m2, np.nan)


def _two_sum(a: Floats, b: Floats) -> tuple[Floats, Floats]:
    """Return the rounded sum of ``a`` and ``b`` and what rounding lost, exactly (Knuth)."""
    total = a + b
    part = total - a
    return total, (a - (total - part)) + (b - part)


_NOTHING: Floats = np.zeros(())
_NOTHING.flags.writeable = False
