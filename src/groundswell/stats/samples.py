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
from dataclasses import dataclass

from groundswell.errors import InvalidInput
from groundswell.model.moments import Moments
from groundswell.stats.results import Note

__all__ = ["Pair", "Sample"]

_COUNT_EXACT_MAX = 2**53  # a double no longer tells neighbours apart beyond it


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
        if not (math.isfinite(mean) and math.isfinite(m2)):
            return cls(count, None, None, reason=_NOT_FINITE)
        if count == 1:
            return cls(1, mean, None, reason="one unit only: a variance needs two")
        skewness, kurtosis = _shape(count, m2, float(moments.m3[0]), float(moments.m4[0]))
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
        if not all(map(math.isfinite, (y, x, yy, xy, xx))):
            return cls(count, None, None, kind="ratio", reason=_NOT_FINITE)
        if x == 0.0:
            return cls(
                count, None, None, kind="ratio", reason="the denominator sums to 0: there is nothing to divide by"
            )
        ratio = y / x
        if count == 1:
            return cls(1, ratio, None, kind="ratio", reason="one unit only: a variance needs two")
        m2 = max(0.0, yy - 2.0 * ratio * xy + ratio * ratio * xx)
        notes: tuple[Note, ...] = ()
        if xx / (count - 1) / count > (_DENOMINATOR_CV_MAX * x) ** 2:
            notes = (
                Note(
                    "unsteady-denominator",
                    "the denominator is known to no better than 10%, so the delta method is rough; wait for more units",
                ),
            )
        return cls(count, ratio, m2 / (count - 1) / (x * x), float(count - 1), kind="ratio", notes=notes)

    @property
    def error_variance(self) -> float:
        """Variance of the estimate; 0 where it is unknown."""
        return 0.0 if self.variance is None else self.variance / self.count


@dataclass(frozen=True, slots=True)
class Pair:
    """Two arms whose estimates may be correlated (an adjustment that both share): ``covariance`` of the estimates."""

    treatment: Sample
    baseline: Sample
    covariance: float = 0.0
    adjustment: str | None = None
    notes: tuple[Note, ...] = ()


def _checked(moments: Moments, k: int) -> int:
    if moments.k != k:
        raise InvalidInput("moments.k", moments.k, f"must be {k}", next_step="a mean takes 1 variable, a ratio 2")
    if not 0 <= moments.count <= _COUNT_EXACT_MAX:
        raise InvalidInput("moments.count", moments.count, "must be between 0 and 2**53")
    return int(moments.count)


def _shape(count: int, m2: float, m3: float, m4: float) -> tuple[float | None, float | None]:
    """Return skewness and excess kurtosis; None where the values are all alike, or so small that squares vanish."""
    cube, fourth = m2 * math.sqrt(m2), m2 * m2
    if not (fourth > 0.0 and cube > 0.0 and math.isfinite(m3) and math.isfinite(m4) and math.isfinite(fourth)):
        return None, None
    return m3 * math.sqrt(count) / cube, m4 * count / fourth - 3.0


_NOT_FINITE = "the moments are not finite: a value was NaN or infinite, or a sum overflowed; check the metric's values"
_DENOMINATOR_CV_MAX = 0.1
