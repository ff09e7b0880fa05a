"""Variance reduction from moments: CUPED and its kin, and post-stratification.

Every method here is one linear map of the arms' means. With C the covariance of the means of outcomes and covariates,
block-diagonal over arms, the adjusted means A m have covariance A C A', and each arm's own share of it is an
independent part of the difference's variance.

Formulas
    CUPED: y - theta (x - overall mean of x)      Deng, Xu, Kohavi & Walker 2013 (WSDM)
    theta within arms: analysis of covariance; theta of each arm ("each"): Lin 2013 (Ann. Appl. Stat. 7), with the term
    of the covariates' mean, which conditional standard errors leave out (Negi & Wooldridge 2021, Econometric Reviews)
    post-stratification: stratum means weighted by the share of units in it, shares counted as estimated
    (Miratrix, Sekhon & Yu 2013, JRSS B; the multinomial term for shares of an infinite population)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from groundswell.errors import InvalidInput
from groundswell.model.moments import Moments
from groundswell.stats.one_covariate import adjust_one
from groundswell.stats.regression import independent_columns, inverse_of, slopes
from groundswell.stats.results import Note
from groundswell.stats.samples import Pair, Reference, Sample, shape_of, usable

__all__ = ["Adjustment", "Joint", "adjust_arms", "cuped", "linearised", "pair_of", "post_stratify", "weigh_strata"]

Floats = NDArray[np.float64]
Theta = Literal["within", "total", "each"] | float


@dataclass(frozen=True, slots=True)
class Adjustment:
    """How covariates are used.

    Attributes:
        theta: ``within`` (one theta, from both arms about their own means), ``total`` (one theta, of both arms thrown
            together, as first published), ``each`` (a theta an arm: Lin), or a number fixed beforehand.
        errors: ``unequal`` (each arm its own residual variance) or ``equal`` (classical least squares).
        reference: a relative effect divides by the baseline's ``adjusted`` or ``unadjusted`` mean.
        small_sample: count the degrees of freedom that theta takes, and the cost of unbalanced covariates.
    """

    theta: Theta = "within"
    errors: Literal["unequal", "equal"] = "unequal"
    reference: Literal["adjusted", "unadjusted"] = "adjusted"
    small_sample: bool = True

    def __post_init__(self) -> None:
        if isinstance(self.theta, float) and not math.isfinite(self.theta):
            raise InvalidInput("theta", self.theta, "must be finite")
        for name, allowed in _ALLOWED.items():
            if name == "theta" and isinstance(self.theta, float):
                continue
            if getattr(self, name) not in allowed:
                raise InvalidInput(name, getattr(self, name), f"must be one of {', '.join(allowed)}")
        if self.errors == "equal" and self.theta != "within":
            raise InvalidInput("theta", self.theta, "must be within where errors are equal: that is least squares")


def cuped(
    treatment: Moments,
    baseline: Moments,
    *,
    outcomes: Literal[1, 2] = 1,
    adjustment: Adjustment | None = None,
    others: Sequence[Moments] = (),
) -> Pair:
    """Adjust two arms for covariates measured before exposure.

    Variables come in order: 1 outcome (a mean) or 2 (numerator and denominator of a ratio), then the covariates.
    ``others`` are further arms of the experiment that help to estimate a common theta. A covariate that is constant, or
    a combination of others, changes nothing and is named.
    """
    chosen = adjustment or Adjustment()
    broken = _unusable(treatment, baseline, outcomes, chosen)
    if broken is not None:
        return broken
    words = _describe(chosen, treatment.k - outcomes)
    if outcomes == 1 and treatment.k == 2 and not others and chosen.theta in ("within", "total"):
        plain = _one_covariate(treatment, baseline, chosen, words)
        if plain is not None:
            return plain
    joint, notes = adjust_arms(treatment, baseline, outcomes, chosen, others)
    return pair_of(joint, outcomes, reference=chosen.reference, words=words, notes=notes)


def _one_covariate(treatment: Moments, baseline: Moments, chosen: Adjustment, words: str) -> Pair | None:
    if chosen.errors == "equal":
        return None
    return adjust_one(
        treatment,
        baseline,
        total=chosen.theta == "total",
        reference=chosen.reference,
        small_sample=chosen.small_sample,
        words=words,
    )


def post_stratify(
    strata: Sequence[tuple[Moments, Moments]],
    *,
    outcomes: Literal[1, 2] = 1,
    adjustment: Adjustment | None = None,
    df: Literal["strata", "arms"] = "strata",
) -> Pair:
    """Weigh strata, (treatment, baseline) each, by their share of units; ``adjustment`` uses covariates within each.

    A stratum where an arm has too few units for a variance joins the largest one. ``df`` is Satterthwaite's over
    strata, or that of the two arms without strata.
    """
    if not strata:
        raise InvalidInput("strata", list(strata), "must hold at least one stratum")
    chosen = adjustment or Adjustment()
    merged = Moments.merged([t for t, _ in strata]), Moments.merged([c for _, c in strata])
    broken = _unusable(*merged, outcomes, chosen)
    if broken is not None:
        return broken
    kept, joined = _joined(strata, _units_min(merged[0].k - outcomes, chosen))
    notes: tuple[Note, ...] = ()
    if joined:
        notes = (Note("small-strata", f"{joined} strata have too few units in an arm and joined the largest stratum"),)
    joints: list[Joint] = []
    for t, c in kept:
        joint, extra = adjust_arms(t, c, outcomes, chosen, ())
        joints.append(joint)
        notes += extra
    words = f"post-stratified over {len(kept)} strata, weighted by their share of all units"
    if merged[0].k > outcomes:
        words += "; " + _describe(chosen, merged[0].k - outcomes)
    plain_variance, arms_df = _unadjusted(*merged, outcomes)
    arms_df = arms_df if df == "arms" else None
    pair = pair_of(weigh_strata(joints), outcomes, reference=chosen.reference, words=words, notes=notes, df=arms_df)
    if pair.parts is None or plain_variance <= 0.0:
        return pair
    return replace(pair, variance_reduction=1.0 - sum(v for v, _ in pair.parts) / plain_variance)


def linearised(moments: Moments, ratios: Sequence[tuple[int, int]]) -> Moments:
    """Return ratios of variables as if they were means: the delta method's influence values.

    ``ratios`` names (numerator, denominator) columns; the result has one variable for each, whose mean is the ratio.
    """
    rows = np.zeros((len(ratios), moments.k))
    values = np.zeros(len(ratios))
    for i, (y, x) in enumerate(ratios):
        mx = float(moments.mean[x])
        if mx == 0.0:
            return Moments(moments.count, np.full(len(ratios), np.nan), np.eye(len(ratios)), values, values)
        values[i] = float(moments.mean[y]) / mx
        rows[i, y], rows[i, x] = 1.0 / mx, -values[i] / mx
    unknown = np.full(len(ratios), np.nan)
    return Moments(moments.count, values, rows @ moments.m2 @ rows.T, unknown, unknown)


@dataclass(frozen=True, slots=True)
class Joint:
    """Adjusted and raw means of both arms, (treatment outcomes..., baseline outcomes...) twice, and their covariance.

    ``sources`` are independent covariance terms that add up to it, each with its degrees of freedom.
    """

    counts: tuple[int, int]
    means: Floats  # (4 q,): adjusted treatment, adjusted baseline, raw treatment, raw baseline
    sources: tuple[tuple[Floats, float], ...]
    shape: tuple[tuple[float | None, float | None], ...]

    @property
    def covariance(self) -> Floats:
        return np.sum([c for c, _ in self.sources], axis=0)


def adjust_arms(
    treatment: Moments, baseline: Moments, q: int, chosen: Adjustment, others: Sequence[Moments]
) -> tuple[Joint, tuple[Note, ...]]:
    """Return the joint means of a pair of arms after adjusting, and what was left out."""
    p = treatment.k - q
    thetas, left_out = _thetas(treatment, baseline, q, chosen.theta, others)
    used = p - len(left_out)
    n_t, n_c = treatment.count, baseline.count
    share_t = n_t / (n_t + n_c)
    means_t, means_c = treatment.mean + treatment.mean_low, baseline.mean + baseline.mean_low
    eye, nought = np.eye(q), np.zeros((q, q))
    # rows: adjusted treatment, adjusted baseline, raw treatment, raw baseline; columns: outcomes, covariates of an arm
    of_t = np.block(
        [
            [eye, -(1.0 - share_t) * thetas[0].T],
            [nought, share_t * thetas[1].T],
            [eye, np.zeros((q, p))],
            [nought, np.zeros((q, p))],
        ]
    )
    of_c = np.block(
        [
            [nought, (1.0 - share_t) * thetas[0].T],
            [eye, -share_t * thetas[1].T],
            [nought, np.zeros((q, p))],
            [eye, np.zeros((q, p))],
        ]
    )
    means = of_t @ means_t + of_c @ means_c
    if chosen.errors == "equal" and used:
        sources = _classical(treatment, baseline, thetas[0], q, used)
    else:
        taken = (used, used) if chosen.theta == "each" else (used * share_t, used * (1.0 - share_t))
        estimated = chosen.small_sample and not isinstance(chosen.theta, float)
        if not estimated:
            taken = (0, 0)
        sources = (
            (of_t @ treatment.m2 @ of_t.T / (n_t * (n_t - 1.0 - taken[0])), n_t - 1.0 - taken[0]),
            (of_c @ baseline.m2 @ of_c.T / (n_c * (n_c - 1.0 - taken[1])), n_c - 1.0 - taken[1]),
        )
        if estimated and used:
            sources = (*sources, _imbalance(treatment, baseline, thetas, q, chosen.theta))
    shape = tuple(shape_of(m.count, float(m.m2[0, 0]), float(m.m3[0]), float(m.m4[0])) for m in (treatment, baseline))
    notes = tuple(
        Note("covariate-left-out", f"covariate {j + 1} is constant or a combination of the others: it changes nothing")
        for j in left_out
    )
    return Joint((n_t, n_c), means, sources, shape), notes


def _thetas(
    treatment: Moments, baseline: Moments, q: int, how: Theta, others: Sequence[Moments]
) -> tuple[tuple[Floats, Floats], tuple[int, ...]]:
    """Return each arm's slopes, shape (covariates, outcomes), and the covariates left out."""
    if isinstance(how, float):
        if treatment.k != 2 or q != 1:
            raise InvalidInput("theta", how, "can be a number for one outcome and one covariate only")
        return (np.array([[how]]), np.array([[how]])), ()
    within = treatment.m2 + baseline.m2
    for other in others:
        within = within + other.m2
    if how == "each":
        kept = independent_columns(treatment.m2[q:, q:])
        kept = [j for j in kept if j in independent_columns(baseline.m2[q:, q:])]
        out = tuple(j for j in range(treatment.k - q) if j not in kept)
        each = [np.zeros((treatment.k - q, q)) for _ in range(2)]
        for theta, arm in zip(each, (treatment, baseline), strict=True):
            rows = [q + j for j in kept]
            if kept:
                theta[kept] = slopes(arm.m2[np.ix_(rows, rows)], arm.m2[rows, :q])[0]
        return (each[0], each[1]), out
    total = Moments.merged([treatment, baseline, *others]).m2 if how == "total" else within
    theta, out = slopes(total[q:, q:], total[q:, :q])
    return (theta, theta), out


def _classical(
    treatment: Moments, baseline: Moments, theta: Floats, q: int, used: int
) -> tuple[tuple[Floats, float], ...]:
    """Return the covariance of least squares with equal errors, evaluated at the covariates' estimated mean."""
    n_t, n_c = treatment.count, baseline.count
    n = n_t + n_c
    df = n - 2.0 - used
    within = treatment.m2 + baseline.m2
    sxx = within[q:, q:]
    residual = (within[:q, :q] - theta.T @ within[q:, :q]) / df
    x_t, x_c = (m.mean[q:] + m.mean_low[q:] if m.mean_low.ndim else m.mean[q:] for m in (treatment, baseline))
    centre = (n_t * x_t + n_c * x_c) / n
    inverse = inverse_of(sxx)
    gaps = np.array([x_t - centre, x_c - centre])
    design = np.diag([1.0 / n_t, 1.0 / n_c]) + gaps @ inverse @ gaps.T
    total = treatment + baseline
    sxx_mean = total.m2[q:, q:] / (n - 1.0) / n
    of_mean = theta.T @ sxx_mean @ theta + residual * float(np.trace(inverse @ sxx_mean))
    adjusted = np.kron(design, residual) + np.kron(np.ones((2, 2)), of_mean)
    raw = np.kron(np.diag([1.0 / n_t, 1.0 / n_c]), within[:q, :q] / (n - 2.0))
    # raw means enter only as a reference; their covariance with adjusted ones is that of the residual and of theta x
    cross = np.kron(np.diag([1.0 / n_t, 1.0 / n_c]), residual) + np.kron(np.ones((2, 2)), theta.T @ sxx_mean @ theta)
    return ((np.asarray(np.block([[adjusted, cross], [cross.T, raw]]), dtype=np.float64), df),)


def _imbalance(
    treatment: Moments, baseline: Moments, thetas: tuple[Floats, Floats], q: int, how: Theta
) -> tuple[Floats, float]:
    """Return what an estimated theta adds where the arms' covariates differ: residual variance times leverage."""
    gap = (treatment.mean[q:] - baseline.mean[q:]).astype(np.float64)
    n = treatment.count + baseline.count
    cost = np.zeros((4 * q, 4 * q))
    residuals = [
        m.m2[:q, :q] - t.T @ m.m2[q:, :q] - m.m2[:q, q:] @ t + t.T @ m.m2[q:, q:] @ t
        for m, t in zip((treatment, baseline), thetas, strict=True)
    ]
    df = max(1.0, n - 2.0 - len(gap))
    for arm, other in ((0, 1), (1, 0)):
        moments, weight = (treatment, baseline)[arm], (treatment, baseline)[other].count / n
        rows = slice(arm * q, (arm + 1) * q)
        if how == "each":
            sxx, residual = moments.m2[q:, q:], residuals[arm] / max(1.0, moments.count - 1.0 - len(gap))
            cost[rows, rows] = residual * weight**2 * float(gap @ inverse_of(sxx) @ gap)
        else:
            sxx, residual = treatment.m2[q:, q:] + baseline.m2[q:, q:], (residuals[0] + residuals[1]) / df
            leverage = float(gap @ inverse_of(sxx) @ gap)
            cost[rows, rows] = residual * leverage * weight**2
            across = slice(other * q, (other + 1) * q)
            cost[rows, across] = -residual * leverage * weight * (1.0 - weight)
    return cost, df


def weigh_strata(joints: Sequence[Joint]) -> Joint:
    """Combine strata by their share of units."""
    if len(joints) == 1:
        return joints[0]
    sizes = np.array([sum(j.counts) for j in joints], dtype=np.float64)
    n = float(sizes.sum())
    share = sizes / n
    stacked = np.array([j.means for j in joints])
    means = share @ stacked
    sources = [(c * w * w, df) for j, w in zip(joints, share.tolist(), strict=True) for c, df in j.sources]
    spread = np.einsum("s,si,sj->ij", share, stacked - means, stacked - means) / n
    sources.append((spread, max(1.0, n - len(joints))))
    counts = sum(j.counts[0] for j in joints), sum(j.counts[1] for j in joints)
    return Joint(counts, means, tuple(sources), ((None, None), (None, None)))


def pair_of(
    joint: Joint, q: int, *, reference: str, words: str, notes: tuple[Note, ...] = (), df: float | None = None
) -> Pair:
    """Reduce joint means to two samples, a difference and what it is relative to."""
    values, gradients = np.zeros(4), np.zeros((4, 4 * q))
    for i in range(4):
        block = joint.means[i * q : (i + 1) * q]
        if q == 1:
            values[i], gradients[i, i] = block[0], 1.0
            continue
        if block[1] == 0.0:
            nothing = Sample(joint.counts[i % 2], None, None, kind="ratio", reason="the denominator sums to 0")
            return Pair(nothing, nothing, adjustment=words, notes=notes)
        values[i] = block[0] / block[1]
        gradients[i, i * q], gradients[i, i * q + 1] = 1.0 / block[1], -values[i] / block[1]
    covariance = gradients @ joint.covariance @ gradients.T
    contrast = np.array([1.0, -1.0, 0.0, 0.0]) @ gradients
    parts = tuple((max(0.0, float(contrast @ c @ contrast)), d) for c, d in joint.sources)
    raw = float(covariance[2, 2] + covariance[3, 3] - 2.0 * covariance[2, 3])
    adjusted = sum(v for v, _ in parts)
    reason = _REPEATED if raw > 0.0 and adjusted <= _EXPLAINED * raw else None
    reason = reason or usable(values.tolist(), [adjusted, *np.diag(covariance).tolist()])
    if reason is not None:
        lost = [Sample(n, None, None, kind="mean" if q == 1 else "ratio", reason=reason) for n in joint.counts]
        return Pair(lost[0], lost[1], adjustment=words, notes=notes)
    samples = [
        Sample(
            joint.counts[i],
            float(values[i]),
            max(0.0, float(covariance[i, i])) * joint.counts[i],
            float(joint.counts[i] - 1),
            *joint.shape[i],
            kind="mean" if q == 1 else "ratio",
        )
        for i in range(2)
    ]
    j = 1 if reference == "adjusted" else 3
    return Pair(
        samples[0],
        samples[1],
        parts=parts,
        reference=Reference(float(values[j]), float(covariance[j, j]), float(covariance[0, j] - covariance[1, j])),
        df=df,
        adjustment=words,
        variance_reduction=1.0 - adjusted / raw if raw > 0.0 else None,
        notes=notes,
    )


def _joined(strata: Sequence[tuple[Moments, Moments]], units_min: int) -> tuple[list[tuple[Moments, Moments]], int]:
    """Return strata that can carry a variance in each arm, and how many joined the largest."""
    ordered = sorted(strata, key=lambda pair: pair[0].count + pair[1].count, reverse=True)
    kept = [pair for pair in ordered if min(pair[0].count, pair[1].count) >= units_min]
    small = [pair for pair in ordered if min(pair[0].count, pair[1].count) < units_min]
    if not kept:
        return [(Moments.merged([t for t, _ in strata]), Moments.merged([c for _, c in strata]))], len(strata) - 1
    for t, c in small:
        kept[0] = (kept[0][0] + t, kept[0][1] + c)
    return kept, len(small)


def _unusable(treatment: Moments, baseline: Moments, q: int, chosen: Adjustment) -> Pair | None:
    """Return a pair that says why nothing can be computed; None where it can."""
    if treatment.k != baseline.k:
        raise InvalidInput("baseline.k", baseline.k, f"must be that of the treatment ({treatment.k})")
    if q not in (1, 2) or treatment.k < q:
        raise InvalidInput("outcomes", q, "must be 1 (a mean) or 2 (a ratio), each a variable of the moments")
    samples: list[Sample] = []
    for m in (treatment, baseline):
        if m.count < _units_min(m.k - q, chosen):
            reason = f"{m.count} units cannot carry {m.k - q} covariates; wait for more units"
        else:
            reason = usable(m.mean.tolist(), m.m2.ravel().tolist())
            if reason is None:
                continue
        samples.append(Sample(m.count, None, None, reason=reason))
    if not samples:
        return None
    return Pair(samples[0], samples[-1], notes=(), adjustment=None)


def _units_min(covariates: int, chosen: Adjustment) -> int:
    return 2 + (covariates if chosen.theta == "each" else min(covariates, 1))


def _unadjusted(treatment: Moments, baseline: Moments, q: int) -> tuple[float, float]:
    """Return variance and Satterthwaite's degrees of freedom of the two arms' difference without adjusting."""
    variances: list[float] = []
    for m in (treatment, baseline):
        sub = Moments(m.count, m.mean[:q], m.m2[:q, :q], m.m3[:q], m.m4[:q])
        variances.append((Sample.of_mean(sub) if q == 1 else Sample.of_ratio(sub)).error_variance)
    total = sum(variances)
    if total <= 0.0:
        return 0.0, float(treatment.count + baseline.count - 2)
    terms = ((variances[0] / total) ** 2 / (treatment.count - 1), (variances[1] / total) ** 2 / (baseline.count - 1))
    return total, 1.0 / sum(terms)


def _describe(chosen: Adjustment, covariates: int) -> str:
    theta = chosen.theta if isinstance(chosen.theta, str) else "fixed"
    return f"adjusted for {covariates} covariates measured before exposure, {_THETAS[theta]}, {chosen.errors} errors"


_EXPLAINED = 1e-10  # of the variance: what is left then is rounding
_REPEATED = "the covariates explain the metric wholly: one repeats it; use only what was measured before exposure"
_THETAS = {
    "within": "one theta within arms",
    "total": "one theta of both arms together",
    "each": "a theta an arm (Lin)",
    "fixed": "a theta fixed beforehand",
}
_ALLOWED = {
    "theta": ("within", "total", "each"),
    "errors": ("unequal", "equal"),
    "reference": ("adjusted", "unadjusted"),
}
