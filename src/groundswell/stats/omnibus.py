"""Many arms at once: do their means differ at all?

Formulas: Fisher's analysis of variance; Welch (1951) where variances differ. The sum of squares between arms uses the
low part of each mean, so that it keeps its digits where means are large and alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import fdtrc

from groundswell.errors import InvalidInput
from groundswell.model.moments import Moments

__all__ = ["Anova", "anova"]


@dataclass(frozen=True, slots=True)
class Anova:
    """The F test of equal means. ``within`` and ``between`` are sums of squares; None where not computed."""

    method: str
    statistic: float | None
    p_value: float | None
    degrees_of_freedom: tuple[float, float] | None
    between: float | None = None
    within: float | None = None
    reason: str | None = None


def anova(arms: Sequence[Moments], *, equal_variances: bool = False) -> Anova:
    """Test that all arms (k = 1 moments) have one mean.

    >>> result = anova([Moments.of([1.0, 2.0, 3.0]), Moments.of([2.0, 3.0, 4.0])], equal_variances=True)
    >>> round(result.statistic, 3), round(result.p_value, 3)
    (1.5, 0.288)
    """
    method = "analysis of variance" if equal_variances else "Welch's analysis of variance"
    if len(arms) < 2:
        raise InvalidInput("arms", len(arms), "must be at least 2")
    for arm in arms:
        if arm.k != 1:
            raise InvalidInput("arm.k", arm.k, "must be 1: one metric")
    if min(arm.count for arm in arms) < 2:
        return Anova(method, None, None, None, reason="an arm has fewer than 2 units: its variance is unknown")
    n = np.array([arm.count for arm in arms], dtype=np.float64)
    total = Moments.merged(arms)
    gaps = np.array([float(((a.mean - total.mean) + (a.mean_low - total.mean_low))[0]) for a in arms])
    within = np.array([float(a.m2[0, 0]) for a in arms])
    if not (np.isfinite(gaps).all() and np.isfinite(within).all()):
        return Anova(method, None, None, None, reason="the moments are not finite: check the metric's values")
    if equal_variances:
        return _fisher(method, n, gaps, within)
    if within.min() <= 0.0:
        return Anova(method, None, None, None, reason="the values of an arm are all alike: its variance is 0")
    return _welch(method, n, gaps, within / (n - 1.0))


def _fisher(method: str, n: np.ndarray, gaps: np.ndarray, within: np.ndarray) -> Anova:
    between, inside = float((n * gaps * gaps).sum()), float(within.sum())
    df = (len(n) - 1.0, float(n.sum()) - len(n))
    if inside <= 0.0:
        reason = "no unit differs from another within its arm: the variance is 0"
        return Anova(method, None, None, df, between, inside, reason)
    f = (between / df[0]) / (inside / df[1])
    return Anova(method, f, float(fdtrc(*df, f)), df, between, inside)


def _welch(method: str, n: np.ndarray, gaps: np.ndarray, variance: np.ndarray) -> Anova:
    k = len(n)
    weight = n / variance
    share = weight / weight.sum()
    centre = float((share * gaps).sum())
    spread = float(((1.0 - share) ** 2 / (n - 1.0)).sum())
    f = float((weight * (gaps - centre) ** 2).sum()) / (k - 1) / (1.0 + 2.0 * (k - 2) / (k * k - 1) * spread)
    df = (k - 1.0, (k * k - 1) / (3.0 * spread))
    return Anova(method, f, float(fdtrc(*df, f)), df)
