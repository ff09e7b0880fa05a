"""Two arms compared: absolute and relative effect, p-value, and the interval that holds at every look.

Invariants
    each interval excludes "no effect" exactly where its own p-value is <= alpha, relative and absolute alike
    data that cannot be compared give None with a reason; only a wrong call raises

Formulas
    Welch (1947) with Satterthwaite's degrees of freedom
    relative effect: Fieller (1954), written for d / c with d = t - c so that small lifts keep their digits; its
    t quantile is that of the absolute test, so both intervals agree on zero
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from scipy.special import ndtr, ndtri, stdtr, stdtrit

from groundswell import limits
from groundswell.errors import InvalidInput
from groundswell.model.moments import Moments
from groundswell.stats import sequences
from groundswell.stats.results import Alternative, Comparison, Effect, Note
from groundswell.stats.samples import Pair, Sample
from groundswell.stats.sequences import Looks

__all__ = ["Settings", "arm_interval", "compare", "contrast"]

TestName = Literal["welch", "pooled", "z"]


@dataclass(frozen=True, slots=True)
class Settings:
    """How two arms are compared. Fix it before looking at data.

    Attributes:
        alpha: size of the test; 1 - alpha is the coverage of every interval.
        alternative: ``greater`` and ``less`` are one-sided: the treatment is larger, smaller.
        test: ``welch`` (default), ``pooled`` (Student, equal variances) or ``z`` (normal).
        relative: ``fieller`` (default, agrees with the test) or ``delta`` (first order).
        looks: tuning of the always-valid interval.
    """

    alpha: float = limits.alpha_default
    alternative: Alternative = "two-sided"
    test: TestName = "welch"
    relative: Literal["fieller", "delta"] = "fieller"
    looks: Looks = field(default_factory=Looks)

    def __post_init__(self) -> None:
        if not 0.0 < self.alpha < 1.0:
            raise InvalidInput("alpha", self.alpha, "must lie between 0 and 1", next_step="write 0.05")
        if self.alternative not in ("two-sided", "greater", "less"):
            raise InvalidInput("alternative", self.alternative, "must be two-sided, greater or less")
        if self.alternative != "two-sided" and self.alpha >= 0.5:
            raise InvalidInput("alpha", self.alpha, "must be below 0.5 for a one-sided test")
        if self.test not in _TESTS:
            raise InvalidInput("test", self.test, "must be welch, pooled or z")
        if self.relative not in ("fieller", "delta"):
            raise InvalidInput("relative", self.relative, "must be fieller or delta")


def compare(treatment: Sample | Moments, baseline: Sample | Moments, settings: Settings | None = None) -> Comparison:
    """Compare two independent arms. ``Moments`` of one variable are means, of two a ratio (numerator, denominator).

    >>> result = compare(Moments.of([3.0, 4.0, 5.0, 6.0]), Moments.of([1.0, 2.0, 3.0, 4.0]))
    >>> result.absolute.estimate, round(result.p_value, 4)
    (2.0, 0.0707)
    """
    return contrast(Pair(_sample(treatment), _sample(baseline)), settings)


def contrast(pair: Pair, settings: Settings | None = None) -> Comparison:
    """Compare two arms whose estimates may share an adjustment, as ``cuped`` and ``post_stratify`` return them."""
    chosen = settings or _DEFAULT
    treatment, baseline = pair.treatment, pair.baseline
    reason = _why_not(treatment, baseline, pair.covariance)
    notes = (*treatment.notes, *baseline.notes, *pair.notes)
    if reason is not None:
        return _nothing(treatment, baseline, chosen, reason, notes)
    assert treatment.estimate is not None
    assert baseline.estimate is not None
    units = treatment.count + baseline.count
    v_t, v_c, df = _error_variances(treatment, baseline, chosen.test)
    d = (treatment.estimate - baseline.estimate) + (treatment.estimate_low - baseline.estimate_low)
    geometry = _Geometry(d, baseline.estimate, v_t, v_c, pair.covariance)
    z = geometry.d / math.sqrt(geometry.v_d)
    q = _quantile(chosen.alpha, df, chosen.alternative)
    p = _p_value(z, df, chosen.alternative)
    if units < chosen.looks.first_look:
        why = f"the first look was fixed at {chosen.looks.first_look} units; {units} so far"
        always, always_relative, always_p = Effect(geometry.d, reason=why), Effect(reason=why), None
    else:
        m = sequences.multiplier(chosen.looks, units, chosen.alpha, chosen.alternative)
        always, always_relative = geometry.absolute(m, chosen.alternative), geometry.relative(m, chosen)
        always_p = sequences.p_value(chosen.looks, units, z, chosen.alpha, chosen.alternative)
    return Comparison(
        method=_TESTS[chosen.test],
        alpha=chosen.alpha,
        alternative=chosen.alternative,
        treatment_n=treatment.count,
        baseline_n=baseline.count,
        treatment=arm_interval(treatment, chosen.alpha),
        baseline=arm_interval(baseline, chosen.alpha),
        absolute=geometry.absolute(q, chosen.alternative),
        relative=geometry.relative(q, chosen),
        p_value=p,
        statistic=z,
        degrees_of_freedom=None if df == math.inf else df,
        always_valid=always,
        always_valid_relative=always_relative,
        always_valid_p=always_p,
        assumptions=_ASSUMPTIONS if pair.adjustment is None else (*_ASSUMPTIONS, pair.adjustment),
        warnings=(*notes, *_diagnose(treatment, "treatment"), *_diagnose(baseline, "baseline")),
    )


def arm_interval(sample: Sample, alpha: float = limits.alpha_default) -> Effect:
    """Return an arm's own estimate with its two-sided t interval."""
    if sample.estimate is None or sample.variance is None:
        return Effect(sample.estimate, reason=sample.reason)
    half = float(stdtrit(sample.df, 1.0 - alpha / 2.0)) * math.sqrt(sample.error_variance)
    return Effect(sample.estimate, sample.estimate - half, sample.estimate + half)


@dataclass(frozen=True, slots=True)
class _Geometry:
    """Difference ``d``, baseline ``c``, variances of the two estimates and their covariance."""

    d: float
    c: float
    v_t: float
    v_c: float
    v_tc: float

    @property
    def v_d(self) -> float:
        return self.v_t + self.v_c - 2.0 * self.v_tc

    def absolute(self, q: float, alternative: Alternative) -> Effect:
        half = q * math.sqrt(self.v_d)
        return _bounded(self.d, self.d - half, self.d + half, alternative)

    def relative(self, q: float, settings: Settings) -> Effect:
        c = abs(self.c)  # a lift has the sign of the difference, also where the baseline is negative
        if c == 0.0:
            return Effect(reason="the baseline's mean is 0: there is nothing to be relative to")
        lift = self.d / c
        v_dc = math.copysign(1.0, self.c) * (self.v_tc - self.v_c)
        if settings.relative == "delta":
            v = (self.v_d - 2.0 * lift * v_dc + lift * lift * self.v_c) / (c * c)
            half = q * math.sqrt(max(0.0, v))
            return _bounded(lift, lift - half, lift + half, settings.alternative)
        a = c * c - q * q * self.v_c
        if a <= 0.0:
            return Effect(lift, reason=_UNBOUNDED)
        b = self.d * c - q * q * v_dc
        inner = c * c * self.v_d - 2.0 * self.d * c * v_dc + self.d * self.d * self.v_c
        root = q * math.sqrt(max(0.0, inner - q * q * (self.v_d * self.v_c - v_dc * v_dc)))
        return _bounded(lift, (b - root) / a, (b + root) / a, settings.alternative)


def _bounded(estimate: float, low: float, high: float, alternative: Alternative) -> Effect:
    if alternative == "greater":
        return Effect(estimate, low, None, "one-sided (greater): there is no upper bound")
    if alternative == "less":
        return Effect(estimate, None, high, "one-sided (less): there is no lower bound")
    return Effect(estimate, low, high)


def _sample(arm: Sample | Moments) -> Sample:
    if isinstance(arm, Sample):
        return arm
    return Sample.of_mean(arm) if arm.k == 1 else Sample.of_ratio(arm)


def _why_not(treatment: Sample, baseline: Sample, covariance: float) -> str | None:
    for name, sample in (("treatment", treatment), ("baseline", baseline)):
        if sample.reason is not None:
            return f"{name}: {sample.reason}"
    if treatment.error_variance + baseline.error_variance - 2.0 * covariance <= 0.0:
        return "no unit differs from another in either arm: the variance is 0, so there is nothing to test against"
    return None


def _nothing(
    treatment: Sample, baseline: Sample, settings: Settings, reason: str, notes: tuple[Note, ...]
) -> Comparison:
    known = treatment.estimate is not None and baseline.estimate is not None
    d = treatment.estimate - baseline.estimate if known else None  # type: ignore[operator]
    lift = None if d is None or baseline.estimate == 0.0 else d / abs(baseline.estimate)  # type: ignore[arg-type]
    return Comparison(
        method=_TESTS[settings.test],
        alpha=settings.alpha,
        alternative=settings.alternative,
        treatment_n=treatment.count,
        baseline_n=baseline.count,
        treatment=arm_interval(treatment, settings.alpha),
        baseline=arm_interval(baseline, settings.alpha),
        absolute=Effect(d, reason=reason),
        relative=Effect(lift, reason=reason),
        p_value=None,
        statistic=None,
        degrees_of_freedom=None,
        always_valid=Effect(d, reason=reason),
        always_valid_relative=Effect(lift, reason=reason),
        always_valid_p=None,
        assumptions=_ASSUMPTIONS,
        warnings=notes,
        reason=reason,
    )


def _error_variances(treatment: Sample, baseline: Sample, test: TestName) -> tuple[float, float, float]:
    """Return the variance of each arm's estimate and the degrees of freedom of their difference."""
    v_t, v_c = treatment.error_variance, baseline.error_variance
    if test == "z":
        return v_t, v_c, math.inf
    if test == "pooled":
        df = treatment.df + baseline.df
        assert treatment.variance is not None
        assert baseline.variance is not None
        pooled = (treatment.df * treatment.variance + baseline.df * baseline.variance) / df
        return pooled / treatment.count, pooled / baseline.count, df
    # Satterthwaite, in shares of the total so that squares neither overflow nor vanish
    share = v_t / (v_t + v_c)
    return v_t, v_c, 1.0 / (share * share / treatment.df + (1.0 - share) * (1.0 - share) / baseline.df)


def _quantile(alpha: float, df: float, alternative: Alternative) -> float:
    tail = alpha / 2.0 if alternative == "two-sided" else alpha
    return -float(ndtri(tail)) if df == math.inf else -float(stdtrit(df, tail))


def _p_value(z: float, df: float, alternative: Alternative) -> float:
    if alternative == "two-sided":
        z = -abs(z)
    elif alternative == "greater":
        z = -z
    tail = float(ndtr(z)) if df == math.inf else float(stdtr(df, z))
    return 2.0 * tail if alternative == "two-sided" else tail


def _diagnose(sample: Sample, name: str) -> tuple[Note, ...]:
    """Warn where the normal approximation is not to be trusted (Kohavi et al. 2014: 355 * skewness^2 units)."""
    if sample.skewness is None:
        return ()
    needed = _SKEWNESS_UNITS * sample.skewness * sample.skewness
    if sample.count >= needed:
        return ()
    return (
        Note(
            "skewed",
            f"{name}: skewness {sample.skewness:.1f} wants {math.ceil(needed):,} units for the normal approximation, "
            f"there are {sample.count:,}; wait, winsorise, or bootstrap",
        ),
    )


_TESTS: dict[TestName, str] = {"welch": "Welch t", "pooled": "Student t, pooled variance", "z": "z"}
_ASSUMPTIONS = (
    "units are independent of each other",
    "both arms' means are approximately normal",
    "p_value and the fixed intervals: one look, planned before the start",
    "always_valid: any number of looks from the first look on; a unit's value no longer grows once counted",
)
_UNBOUNDED = (
    "the baseline's mean is not clearly different from 0, so the relative effect has no bounded interval; "
    "use the absolute effect or wait for more units"
)
_SKEWNESS_UNITS = 355.0
_DEFAULT = Settings()
