"""One arm reduced to an estimate that is approximately normal. Every test of two arms starts here.

Invariants
    ``variance`` is of one unit's influence on the estimate, so the standard error is sqrt(variance / count)
    an arm that has no estimate carries ``reason``; nothing in it is NaN

Formulas
    ratio by the delta method: with R = my / mx the influence of a unit is (y - R x) / mx
    (Deng, Knoblich & Lu 2018, "Applying the delta method in metric analytics", KDD)
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from groundswell.errors import InvalidInput
from groundswell.model.moments import Moments
from groundswell.stats.results import Note

__all__ = ["Pair", "Reference", "Sample", "moments_from_sums"]

_MEAN_MAX = 1e100  # squares, cubes and products of what is allowed here still are doubles
_SQUARE_MAX = 1e200
_TOO_LARGE = "the values are larger than 1e100: rescale the metric"
_COUNT_EXACT_MAX = 2**53  # a double no longer tells neighbours apart beyond it
_DENOMINATOR_CV_MAX = 0.1
_NOT_FINITE = "the moments are not finite: a value was NaN or infinite, or a sum overflowed; check the metric's values"


@dataclass(frozen=True, slots=True)
class Sample:
    """An arm: ``count`` units, its ``estimate``, the ``variance`` of one unit's influence on it.

    ``skewness`` and ``excess_kurtosis`` are of the per-unit values, None where unknown. ``df`` is the degrees of
    freedom of the variance. ``estimate_low`` is what rounding took from ``estimate``: differences keep their digits.
    """

    count: int
    estimate: float | None
    variance: float | None
    df: float = 0.0
    skewness: float | None = None
    excess_kurtosis: float | None = None
    kind: str = "mean"
    estimate_low: float = 0.0
    reason: str | None = None
    notes: tuple[Note, ...] = ()

    @classmethod
    def of_mean(cls, moments: Moments) -> Sample:
        """Return the mean of a k = 1 sample; a proportion is the mean of zeros and ones."""
        count = _checked(moments, 1)
        if count == 0:
            return cls(0, None, None, reason="no unit in this arm")
        mean, m2 = float(moments.mean[0]), float(moments.m2[0, 0])
        reason = usable((mean,), (m2,))
        if reason is not None:
            return cls(count, None, None, reason=reason)
        if m2 < 0.0:
            raise InvalidInput("moments.m2", m2, "must be >= 0: it is a sum of squares")
        if count == 1:
            return cls(1, mean, None, reason="one unit only: a variance needs two")
        skewness, kurtosis = shape_of(count, m2, float(moments.m3[0]), float(moments.m4[0]))
        low = float(moments.mean_low[0]) if moments.mean_low.ndim else 0.0
        return cls(count, mean, m2 / (count - 1), float(count - 1), skewness, kurtosis, estimate_low=low)

    @classmethod
    def of_ratio(cls, moments: Moments) -> Sample:
        """Return sum(numerator) / sum(denominator) of a k = 2 sample (numerator, denominator) by the delta method."""
        count = _checked(moments, 2)
        if count == 0:
            return cls(0, None, None, kind="ratio", reason="no unit in this arm")
        y, x = moments.mean.tolist()
        (yy, xy), (_, xx) = moments.m2.tolist()
        reason = usable((y, x), (yy, xy, xx))
        if reason is None and (x == 0.0 or usable((y / x,), ()) is not None):
            reason = _DIVIDE_BY_NOTHING
        if reason is not None:
            return cls(count, None, None, kind="ratio", reason=reason)
        ratio = y / x
        if count == 1:
            return cls(1, ratio, None, kind="ratio", reason="one unit only: a variance needs two")
        variance = max(0.0, yy - 2.0 * ratio * xy + ratio * ratio * xx) / (count - 1) / x / x
        if usable((), (variance,)) is not None:
            return cls(count, None, None, kind="ratio", reason=_DIVIDE_BY_NOTHING)
        steady = math.sqrt(xx / (count - 1) / count) <= _DENOMINATOR_CV_MAX * abs(x)
        notes = () if steady else (_UNSTEADY,)
        return cls(count, ratio, variance, float(count - 1), kind="ratio", notes=notes)

    @classmethod
    def of_proportion(cls, successes: int, count: int) -> Sample:
        """Return a proportion with its own variance p (1 - p), as the z test of proportions has it."""
        if not 0 <= successes <= count:
            raise InvalidInput("successes", successes, f"must be between 0 and count ({count})")
        if count == 0:
            return cls(0, None, None, kind="proportion", reason="no unit in this arm")
        p = successes / count
        v = p * (1.0 - p)
        skewness = (1.0 - 2.0 * p) / math.sqrt(v) if v > 0.0 else None
        kurtosis = (1.0 - 6.0 * v) / v if v > 0.0 else None
        return cls(count, p, v, max(1.0, count - 1.0), skewness, kurtosis, kind="proportion")

    @property
    def error_variance(self) -> float:
        """Variance of the estimate; 0 where it is unknown."""
        return 0.0 if self.variance is None else self.variance / self.count


@dataclass(frozen=True, slots=True)
class Reference:
    """What a relative effect divides by: ``value``, its variance, and its covariance with the difference.

    ``lift_at`` is where the delta method takes its derivative; None is at the estimate.
    """

    value: float
    variance: float
    covariance: float
    lift_at: float | None = None


@dataclass(frozen=True, slots=True)
class Pair:
    """Two arms whose estimates may share an adjustment.

    ``parts`` are the independent terms of the difference's variance with their degrees of freedom; None means that the
    arms are independent. ``variance_reduction`` is the share of the difference's variance that the adjustment removed.
    """

    treatment: Sample
    baseline: Sample
    parts: tuple[tuple[float, float], ...] | None = None
    reference: Reference | None = None
    df: float | None = None
    adjustment: str | None = None
    variance_reduction: float | None = None
    notes: tuple[Note, ...] = ()


def moments_from_sums(count: int, sums: ArrayLike, products: ArrayLike) -> Moments:
    """Return moments from raw sums, shape (k,), and sums of products, shape (k, k), as warehouses keep them.

    Third and fourth moments stay unknown, so that nothing warns of skewness.

    Raises:
        InvalidInput: the sums contradict each other, or too few digits are left after centring.
    """
    total = np.atleast_1d(np.asarray(sums, dtype=np.float64))
    raw = np.atleast_2d(np.asarray(products, dtype=np.float64))
    k = len(total)
    if raw.shape != (k, k):
        raise InvalidInput("products", raw.shape, f"must have shape ({k}, {k})")
    if not 0 <= count <= _COUNT_EXACT_MAX:
        raise InvalidInput("count", count, "must be between 0 and 2**53")
    if count == 0:
        return Moments.empty(k)
    m2 = raw - np.outer(total, total) / count
    scale = np.diag(raw)
    if np.isfinite(raw).all() and (np.diag(m2) < -_DIGITS_LOST * scale).any():
        raise InvalidInput("products", np.diag(raw).tolist(), "must be at least sums squared over count")
    np.fill_diagonal(m2, np.maximum(np.diag(m2), 0.0))
    unknown = np.full(k, np.nan)
    return Moments(count, total / count, m2, unknown, unknown)


def shape_of(count: int, m2: float, m3: float, m4: float) -> tuple[float | None, float | None]:
    """Return skewness and excess kurtosis; None where the values are all alike, or so small that squares vanish."""
    cube, fourth = m2 * math.sqrt(m2), m2 * m2
    if not (fourth > 0.0 and cube > 0.0 and math.isfinite(fourth)):
        return None, None
    skewness, kurtosis = m3 * math.sqrt(count) / cube, m4 * count / fourth - 3.0
    # no sample of n values is more skewed than its root: what is comes from moments that contradict each other
    if not (abs(skewness) <= math.sqrt(count) + 1.0 and math.isfinite(kurtosis)):
        return None, None
    return skewness, kurtosis


def usable(means: Iterable[float], squares: Iterable[float]) -> str | None:
    """Return why moments cannot be computed with; None where they can."""
    if not (all(map(math.isfinite, means := tuple(means))) and all(map(math.isfinite, squares := tuple(squares)))):
        return _NOT_FINITE
    if any(abs(x) > _MEAN_MAX for x in means) or any(abs(x) > _SQUARE_MAX for x in squares):
        return _TOO_LARGE
    return None


def _checked(moments: Moments, k: int) -> int:
    if moments.k != k:
        raise InvalidInput("moments.k", moments.k, f"must be {k}", next_step="a mean takes 1 variable, a ratio 2")
    if not 0 <= moments.count <= _COUNT_EXACT_MAX:
        raise InvalidInput("moments.count", moments.count, "must be between 0 and 2**53")
    return int(moments.count)


_DIVIDE_BY_NOTHING = "the denominator sums to 0: there is nothing to divide by"
_DIGITS_LOST = 1e-9  # of the raw sum of squares: what rounding of the sums themselves can explain
_UNSTEADY = Note(
    "unsteady-denominator",
    "the denominator is known to no better than 10%, so the delta method is rough; wait for more units",
)
