"""Segments and time: where an effect is, whether it differs, and how it came about.

Formulas
    heterogeneity: Cochran's Q with I^2 (Higgins & Thompson 2002); the spread of true effects by Paule & Mandel (1982)
    shrunk estimates: each segment's effect drawn to the pooled one by its share of noise (empirical Bayes)
    segments are corrected together (Benjamini-Hochberg by default): slicing is looking many times
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import chdtrc

from groundswell.errors import InvalidInput
from groundswell.model.moments import Moments
from groundswell.stats.contrasts import Settings, compare
from groundswell.stats.multiplicity import Correction, Family, correct
from groundswell.stats.posteriors import combine
from groundswell.stats.results import Comparison, Effect
from groundswell.stats.roots import solve

__all__ = ["Heterogeneity", "Segments", "by_segment", "cumulative", "heterogeneity"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Heterogeneity:
    """Do effects differ? ``spread`` is the sd of true effects, ``i_squared`` its share of what is seen."""

    p_value: float | None
    statistic: float | None
    degrees_of_freedom: int
    pooled: Effect
    spread: float | None
    i_squared: float | None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Segments:
    """Effects by segment: compared, corrected together, tested for differences, and shrunk."""

    comparisons: dict[str, Comparison]
    family: Family
    heterogeneity: Heterogeneity
    shrunk: dict[str, Effect]


def heterogeneity(effects: Sequence[float], errors: Sequence[float], *, alpha: float = 0.05) -> Heterogeneity:
    """Test that independent effects with known standard errors are one effect."""
    x, s = np.asarray(effects, dtype=np.float64), np.asarray(errors, dtype=np.float64)
    if x.shape != s.shape or x.ndim != 1:
        raise InvalidInput("errors", s.shape, f"must be one standard error for each of {x.shape} effects")
    if not (np.isfinite(x).all() and np.isfinite(s).all() and (s > 0.0).all()):
        raise InvalidInput("errors", "not positive, NaN or infinite", "must be finite and > 0")
    if len(x) < 2:
        reason = "fewer than two segments can be compared"
        return Heterogeneity(None, None, 0, Effect(reason=reason), None, None, reason)
    v, df = s * s, len(x) - 1

    def about(spread: float) -> tuple[float, float]:
        weight = 1.0 / (v + spread)
        centre = float(weight @ x / weight.sum())
        return float(weight @ (x - centre) ** 2), centre

    q, _ = about(0.0)
    spread = 0.0
    if q > df:
        top = float((x.max() - x.min()) ** 2 + v.max())
        spread = solve(lambda t: about(t)[0] - df, 0.0, top, tolerance=1e-12 * min(1.0, top))
    centre = about(spread)[1]
    half = Settings(alpha=alpha).normal_quantile / math.sqrt(float((1.0 / (v + spread)).sum()))
    pooled = Effect(centre, centre - half, centre + half)
    return Heterogeneity(float(chdtrc(df, q)), q, df, pooled, math.sqrt(spread), max(0.0, 1.0 - df / q) if q else 0.0)


def by_segment(
    cells: Mapping[str, tuple[Moments, Moments]],
    settings: Settings | None = None,
    *,
    correction: Correction = "benjamini-hochberg",
) -> Segments:
    """Compare (treatment, baseline) in each segment. Cross dimensions by naming cells so, such as ``"se / android"``.

    Segments must not share units, and must be known before exposure: else the treatment itself may move units.
    """
    if not cells:
        raise InvalidInput("cells", dict(cells), "must hold at least one segment")
    comparisons = {name: compare(t, c, settings) for name, (t, c) in cells.items()}
    usable = {
        name: (c.absolute.estimate, c.standard_error)
        for name, c in comparisons.items()
        if c.absolute.estimate is not None and c.standard_error
    }
    alpha = (settings or Settings()).alpha
    test = heterogeneity([x for x, _ in usable.values()], [s for _, s in usable.values()], alpha=alpha)
    q = Settings(alpha=alpha).normal_quantile
    shrunk: dict[str, Effect] = {}
    for name, c in comparisons.items():
        if name not in usable or test.pooled.estimate is None or test.spread is None:
            shrunk[name] = Effect(reason=c.reason or test.reason)
            continue
        x, s = usable[name]
        if test.spread == 0.0:
            shrunk[name] = test.pooled
            continue
        centre, sd = combine(x, s, test.pooled.estimate, test.spread)
        shrunk[name] = Effect(centre, centre - q * sd, centre + q * sd)
    return Segments(comparisons, correct(comparisons, correction, alpha=alpha), test, shrunk)


def cumulative(days: Sequence[tuple[Moments, Moments]], settings: Settings | None = None) -> list[Comparison]:
    """Compare units exposed up to each day, (treatment, baseline) moments of the units new on each.

    Every day but the last is a look already taken: read the always-valid interval.
    """
    out: list[Comparison] = []
    t, c = (Moments.empty(days[0][0].k), Moments.empty(days[0][0].k)) if days else (None, None)
    for new_t, new_c in days:
        assert t is not None
        assert c is not None
        t, c = t + new_t, c + new_c
        out.append(compare(t, c, settings))
    return out
