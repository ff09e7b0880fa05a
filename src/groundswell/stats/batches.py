"""Many comparisons at once, in columns: the same formulas as ``compare`` and ``cuped``, without a loop.

Invariants
    row i of every answer equals what the scalar functions say of row i, to rounding
    a number that cannot be computed is NaN in its column and ``reason`` is not 0 there; ``row`` turns it into None
    with its reason, which is what people are shown
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr, ndtri, stdtr, stdtrit

from groundswell.errors import InvalidInput
from groundswell.model.moments import Moments
from groundswell.stats.contrasts import SKEWNESS_UNITS, Settings
from groundswell.stats.results import Effect

__all__ = ["REASONS", "Batch", "Comparisons", "compare_many", "cuped_many"]

Floats = NDArray[np.float64]

REASONS: Final = (
    "",
    "an arm has fewer than 2 units",
    "the moments are not finite: check the metric's values",
    "no unit differs from another in either arm: the variance is 0",
    "the denominator sums to 0: there is nothing to divide by",
)


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """One arm of many comparisons: ``count``, ``mean`` and ``m2`` of k variables; shapes (m,), (m, k), (m, k, k).

    ``m3`` of the first variable, shape (m,), lets skewed arms be pointed out; None does without.
    """

    count: Floats
    mean: Floats
    m2: Floats
    m3: Floats | None = None

    @classmethod
    def of(cls, count: ArrayLike, mean: ArrayLike, m2: ArrayLike, m3: ArrayLike | None = None) -> Batch:
        """Check shapes; ``mean`` of shape (m,) and ``m2`` of shape (m,) are one variable.

        Raises:
            InvalidInput: shapes do not fit, or a count is negative.
        """
        n = np.asarray(count, dtype=np.float64)
        mu, s = np.asarray(mean, dtype=np.float64), np.asarray(m2, dtype=np.float64)
        if mu.ndim == 1:
            mu, s = mu[:, np.newaxis], s[:, np.newaxis, np.newaxis]
        if n.ndim != 1 or mu.shape[:1] != n.shape or s.shape != (*mu.shape, mu.shape[1]):
            raise InvalidInput("m2", s.shape, f"must have shape (m, k, k) for counts {n.shape} and means {mu.shape}")
        if not (n >= 0.0).all():
            raise InvalidInput("count", float(n.min()), "must be >= 0")
        third = None if m3 is None else np.asarray(m3, dtype=np.float64)
        if third is not None and third.shape != n.shape:
            raise InvalidInput("m3", third.shape, f"must have the shape of counts, {n.shape}")
        return cls(n, mu, s, third)

    @classmethod
    def of_moments(cls, moments: Sequence[Moments]) -> Batch:
        """Return many arms' moments, all of one k."""
        if not moments:
            raise InvalidInput("moments", [], "must not be empty")
        k = moments[0].k
        if any(m.k != k for m in moments):
            raise InvalidInput("moments.k", sorted({m.k for m in moments}), "must be one number of variables")
        count = np.array([m.count for m in moments], dtype=np.float64)
        third = np.array([m.m3[0] for m in moments])
        return cls(count, np.array([m.mean for m in moments]), np.array([m.m2 for m in moments]), third)

    @property
    def k(self) -> int:
        """Number of variables."""
        return self.mean.shape[1]


@dataclass(frozen=True, slots=True, eq=False)
class Comparisons:
    """Columns of shape (m,), as in ``Comparison``; ``reason`` indexes ``REASONS``.

    ``skewed`` is where ``compare`` warns that an arm is too skewed for its number of units.
    """

    settings: Settings
    estimate: Floats
    low: Floats
    high: Floats
    relative: Floats
    relative_low: Floats
    relative_high: Floats
    p_value: Floats
    statistic: Floats
    degrees_of_freedom: Floats
    standard_error: Floats
    always_low: Floats
    always_high: Floats
    always_p: Floats
    variance_reduction: Floats
    reason: NDArray[np.int8]
    skewed: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.estimate)

    def row(self, i: int) -> dict[str, Effect | float | str | None]:
        """Return one comparison: effects, p-values, and why something is None."""
        reason = REASONS[int(self.reason[i])] or None
        unbounded = reason or "the baseline's mean is not clearly different from 0: the relative effect is unbounded"
        early = reason or "before the first look, or not asked for"
        return {
            "absolute": _effect(self.estimate[i], self.low[i], self.high[i], reason or _one_sided(self.settings)),
            "relative": _effect(
                self.relative[i], self.relative_low[i], self.relative_high[i], _one_sided(self.settings) or unbounded
            ),
            "p_value": _number(self.p_value[i]),
            "always_valid": _effect(
                self.estimate[i], self.always_low[i], self.always_high[i], _one_sided(self.settings) or early
            ),
            "always_valid_p": _number(self.always_p[i]),
            "reason": reason,
        }


@dataclass(frozen=True, slots=True, eq=False)
class _Terms:
    """What every test is made of, in columns: difference, reference, variances, degrees of freedom."""

    d: Floats
    v_d: Floats
    df: Floats
    c: Floats
    v_c: Floats
    v_dc: Floats
    units: Floats
    reduction: Floats
    reason: NDArray[np.int8]
    skewed: NDArray[np.bool_]


def compare_many(treatment: Batch, baseline: Batch, settings: Settings | None = None) -> Comparisons:
    """Compare arms row by row: means (k = 1) or ratios (k = 2), as ``compare`` does."""
    chosen = settings or Settings()
    _same(treatment, baseline)
    if treatment.k > 2:
        raise InvalidInput("k", treatment.k, "must be 1 (means) or 2 (ratios); covariates go to cuped_many")
    with np.errstate(all="ignore"):
        t, s_t, why_t = _reduced(treatment)
        c, s_c, why_c = _reduced(baseline)
        n_t, n_c = treatment.count, baseline.count
        v_t, v_c = s_t / n_t, s_c / n_c
        if chosen.test == "pooled":
            df = n_t + n_c - 2.0
            pooled = ((n_t - 1.0) * s_t + (n_c - 1.0) * s_c) / df
            v_t, v_c = pooled / n_t, pooled / n_c
        else:
            share = v_t / (v_t + v_c)
            df = 1.0 / (share * share / (n_t - 1.0) + (1.0 - share) ** 2 / (n_c - 1.0))
        reason = np.maximum(why_t, why_c)
        reason = np.where((reason == 0) & (v_t + v_c <= 0.0), np.int8(3), reason).astype(np.int8)
        nothing = np.full(len(t), np.nan)
        skewed = _skewed(treatment) | _skewed(baseline) if treatment.k == 1 else np.zeros(len(t), dtype=bool)
        return _answer(_Terms(t - c, v_t + v_c, df, c, v_c, -v_c, n_t + n_c, nothing, reason, skewed), chosen)


def cuped_many(
    treatment: Batch, baseline: Batch, settings: Settings | None = None, *, small_sample: bool = True
) -> Comparisons:
    """Compare means adjusted by one covariate, row by row: variables (outcome, covariate), one theta within arms."""
    chosen = settings or Settings()
    _same(treatment, baseline)
    if treatment.k != 2:
        raise InvalidInput("k", treatment.k, "must be 2: an outcome and a covariate")
    if chosen.test == "pooled":
        raise InvalidInput("test", chosen.test, "must be welch or z: an adjusted comparison has no pooled variance")
    with np.errstate(all="ignore"):
        return _answer(_cuped_terms(treatment, baseline, small_sample=small_sample), chosen)


def _cuped_terms(treatment: Batch, baseline: Batch, *, small_sample: bool) -> _Terms:
    n_t, n_c = treatment.count, baseline.count
    n = n_t + n_c
    within = treatment.m2 + baseline.m2
    sxx, sxy = within[:, 1, 1], within[:, 0, 1]
    used = sxx > 0.0
    theta = np.where(used, sxy / sxx, 0.0)
    share = n_t / n
    taken = np.where(used, 1.0, 0.0) if small_sample else np.zeros(len(n))
    df_t, df_c = n_t - 1.0 - taken * share, n_c - 1.0 - taken * (1.0 - share)
    (yy_t, xy_t, xx_t), (yy_c, xy_c, xx_c) = (
        (b.m2[:, 0, 0] / b.count / df, b.m2[:, 0, 1] / b.count / df, b.m2[:, 1, 1] / b.count / df)
        for b, df in ((treatment, df_t), (baseline, df_c))
    )
    u_t = np.maximum(0.0, yy_t - 2.0 * theta * xy_t + theta * theta * xx_t)
    u_c = np.maximum(0.0, yy_c - 2.0 * theta * xy_c + theta * theta * xx_c)
    gap = treatment.mean[:, 1] - baseline.mean[:, 1]
    moved = share * theta
    c = baseline.mean[:, 0] + moved * gap
    v_c = yy_c - 2.0 * moved * xy_c + moved * moved * (xx_c + xx_t)
    v_dc = -(yy_c - (theta + moved) * xy_c + theta * moved * xx_c) + moved * (xy_t - theta * xx_t)
    # what an estimated theta costs where covariates differ
    df_gap = np.maximum(1.0, n - 3.0)
    residual = np.maximum(0.0, within[:, 0, 0] - theta * sxy) / df_gap
    cost = np.where(used, residual * gap * gap / sxx, 0.0) if small_sample else np.zeros(len(n))
    v_c = v_c + cost * share * share
    v_dc = v_dc - cost * share
    v_d = u_t + u_c + cost
    df = 1.0 / ((u_t / v_d) ** 2 / df_t + (u_c / v_d) ** 2 / df_c + (cost / v_d) ** 2 / df_gap)
    raw = yy_t + yy_c
    finite = np.isfinite(v_d) & np.isfinite(c)
    reason = np.zeros(len(n), dtype=np.int8)
    reason = np.where(v_d <= 1e-10 * raw, 3, reason)
    reason = np.where(~finite, 2, reason)
    reason = np.where(np.minimum(n_t, n_c) < 3.0, 1, reason).astype(np.int8)
    d = (treatment.mean[:, 0] - baseline.mean[:, 0]) - theta * gap
    skewed = _skewed(treatment) | _skewed(baseline)
    return _Terms(d, v_d, df, c, v_c, v_dc, n, 1.0 - v_d / raw, reason, skewed)


def _skewed(batch: Batch) -> NDArray[np.bool_]:
    """Return where 355 skewness^2 units are wanted and fewer are there."""
    if batch.m3 is None:
        return np.zeros(len(batch.count), dtype=bool)
    m2 = batch.m2[:, 0, 0]
    skewness = batch.m3 * np.sqrt(batch.count) / (m2 * np.sqrt(m2))
    return batch.count < SKEWNESS_UNITS * skewness * skewness


def _reduced(batch: Batch) -> tuple[Floats, Floats, NDArray[np.int8]]:
    """Return estimate and variance of a unit's influence, and why there is none."""
    n = batch.count
    if batch.k == 1:
        mean, m2 = batch.mean[:, 0], batch.m2[:, 0, 0]
        empty = np.zeros(len(n), dtype=bool)
    else:
        x = batch.mean[:, 1]
        empty = x == 0.0
        mean = batch.mean[:, 0] / x
        m2 = batch.m2[:, 0, 0] - 2.0 * mean * batch.m2[:, 0, 1] + mean * mean * batch.m2[:, 1, 1]
        m2 = np.maximum(0.0, m2) / (x * x)
    finite = np.isfinite(batch.mean).all(axis=1) & np.isfinite(batch.m2).all(axis=(1, 2))
    reason = np.where(empty, 4, 0)
    reason = np.where(~finite, 2, reason)
    reason = np.where(n < 2.0, 1, reason).astype(np.int8)
    return mean, m2 / (n - 1.0), reason


def _answer(terms: _Terms, settings: Settings) -> Comparisons:
    d, v_d = terms.d, terms.v_d
    df = np.full(len(d), np.inf) if settings.test == "z" else terms.df
    error = np.sqrt(v_d)
    z = (d - settings.null) / error
    one_sided = settings.alternative != "two-sided"
    tail = settings.alpha if one_sided else settings.alpha / 2.0
    q = (
        np.full(len(d), -float(ndtri(tail)))
        if settings.test == "z"
        else np.asarray(-stdtrit(df, tail), dtype=np.float64)
    )
    side = -np.abs(z) if not one_sided else (-z if settings.alternative == "greater" else z)
    p = ndtr(side) if settings.test == "z" else stdtr(df, side)
    p = p if one_sided else 2.0 * p
    lift, relative_low, relative_high = _relative(terms, q, settings)
    reach = _multipliers(settings, terms.units)
    bad = terms.reason != 0
    columns = {
        "estimate": d,
        "low": d - q * error,
        "high": d + q * error,
        "relative": lift,
        "relative_low": relative_low,
        "relative_high": relative_high,
        "p_value": p,
        "statistic": z,
        "degrees_of_freedom": df,
        "standard_error": error,
        "always_low": d - reach * error,
        "always_high": d + reach * error,
        "always_p": np.where(np.isnan(reach), np.nan, _always_p(settings, terms.units, z)),
        "variance_reduction": terms.reduction,
    }
    for name, column in columns.items():
        hidden = bad & (name != "estimate")
        if one_sided and name.endswith("high" if settings.alternative == "greater" else "low"):
            hidden = np.ones(len(d), dtype=bool)
        columns[name] = (
            np.where(hidden | ~np.isfinite(column), np.nan, column)
            if name != "degrees_of_freedom"
            else (np.where(hidden, np.nan, column))
        )
    return Comparisons(settings=settings, reason=terms.reason, skewed=terms.skewed & ~bad, **columns)


def _relative(terms: _Terms, q: Floats, settings: Settings) -> tuple[Floats, Floats, Floats]:
    sign = np.where(terms.c < 0.0, -1.0, 1.0)
    c, v_dc = np.abs(terms.c), sign * terms.v_dc
    lift = np.where(c > 0.0, terms.d / c, np.nan)
    if settings.relative == "delta":
        half = q * np.sqrt(np.maximum(0.0, terms.v_d - 2.0 * lift * v_dc + lift * lift * terms.v_c)) / c
        return lift, lift - half, lift + half
    a = c * c - q * q * terms.v_c
    b = terms.d * c - q * q * v_dc
    inner = c * c * terms.v_d - 2.0 * terms.d * c * v_dc + terms.d * terms.d * terms.v_c
    root = q * np.sqrt(np.maximum(0.0, inner - q * q * (terms.v_d * terms.v_c - v_dc * v_dc)))
    bounded = a > 0.0
    return lift, np.where(bounded, (b - root) / a, np.nan), np.where(bounded, (b + root) / a, np.nan)


def _multipliers(settings: Settings, units: Floats) -> Floats:
    """Return how many standard errors the always-valid interval reaches; NaN before the first look."""
    alpha = settings.alpha
    if settings.alternative == "two-sided":
        r = units * settings.looks.rho2(alpha)
        log_term = math.log(1.0 / alpha) + 0.5 * np.log1p(r)
    else:
        r = units * settings.looks.rho2(2.0 * alpha)
        log_term = np.log1p(np.sqrt(1.0 + r) / (2.0 * alpha))
    return np.where(units < settings.looks.first_look, np.nan, np.sqrt(2.0 * (1.0 + r) / r * log_term))


def _always_p(settings: Settings, units: Floats, z: Floats) -> Floats:
    if settings.alternative == "two-sided":
        r = units * settings.looks.rho2(settings.alpha)
        return np.minimum(1.0, np.sqrt(1.0 + r) * np.exp(-0.5 * z * z * r / (1.0 + r)))
    r = units * settings.looks.rho2(2.0 * settings.alpha)
    p = np.minimum(1.0, np.sqrt(1.0 + r) / (2.0 * np.expm1(0.5 * z * z * r / (1.0 + r))))
    wrong = z <= 0.0 if settings.alternative == "greater" else z >= 0.0
    return np.where(wrong, 1.0, p)


def _same(treatment: Batch, baseline: Batch) -> None:
    if treatment.mean.shape != baseline.mean.shape:
        raise InvalidInput(
            "baseline", baseline.mean.shape, f"must have the shape of the treatment {treatment.mean.shape}"
        )


def _effect(estimate: float, low: float, high: float, reason: str | None) -> Effect:
    found = Effect(_number(estimate), _number(low), _number(high))
    return found if None not in (found.estimate, found.low, found.high) else replace(found, reason=reason)


def _number(x: float) -> float | None:
    return float(x) if math.isfinite(x) else None


def _one_sided(settings: Settings) -> str | None:
    return None if settings.alternative == "two-sided" else f"one-sided ({settings.alternative}): one bound only"
