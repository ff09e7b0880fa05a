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
from groundswell.stats.samples import Pair, Reference, Sample
from groundswell.stats.sequences import Looks

__all__ = [
    "SKEWNESS_UNITS",
    "Geometry",
    "Settings",
    "arm_interval",
    "bounded",
    "compare",
    "contrast",
    "geometry_of",
    "relative_error",
]

TestName = Literal["welch", "pooled", "z"]


@dataclass(frozen=True, slots=True)
class Settings:
    """How two arms are compared. Fix it before looking at data.

    Attributes:
        alpha: size of the test; 1 - alpha is the coverage of every interval.
        alternative: ``greater`` and ``less`` are one-sided: the treatment is larger, smaller.
        test: ``welch`` (default), ``pooled`` (Student, equal variances) or ``z`` (normal).
        relative: ``fieller`` (default, agrees with the test) or ``delta`` (first order).
        null: the absolute difference that is tested; other than 0, the relative effect has no p-value of its own.
        looks: tuning of the always-valid interval.
    """

    alpha: float = limits.alpha_default
    alternative: Alternative = "two-sided"
    test: TestName = "welch"
    relative: Literal["fieller", "delta"] = "fieller"
    null: float = 0.0
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
        if not math.isfinite(self.null):
            raise InvalidInput("null", self.null, "must be finite")
        if self.relative not in ("fieller", "delta"):
            raise InvalidInput("relative", self.relative, "must be fieller or delta")

    @property
    def normal_quantile(self) -> float:
        """The two-sided quantile of the normal at ``alpha``."""
        return -float(ndtri(self.alpha / 2.0))


def compare(treatment: Sample | Moments, baseline: Sample | Moments, settings: Settings | None = None) -> Comparison:
    """Compare two independent arms. ``Moments`` of one variable are means, of two a ratio (numerator, denominator).

    >>> result = compare(Moments.of([3.0, 4.0, 5.0, 6.0]), Moments.of([1.0, 2.0, 3.0, 4.0]))
    >>> result.absolute.estimate, round(result.p_value, 4)
    (2.0, 0.071)
    """
    return contrast(Pair(_sample(treatment), _sample(baseline)), settings)


def contrast(pair: Pair, settings: Settings | None = None) -> Comparison:
    """Compare two arms whose estimates may share an adjustment, as ``cuped`` and ``post_stratify`` return them."""
    chosen = settings or _DEFAULT
    treatment, baseline = pair.treatment, pair.baseline
    reason = _why_not(pair)
    notes = (*treatment.notes, *baseline.notes, *pair.notes)
    if reason is not None:
        return _nothing(pair, chosen, reason, notes)
    geometry, df = _geometry(pair, chosen.test)
    units = treatment.count + baseline.count
    z = (geometry.d - chosen.null) / math.sqrt(geometry.v_d)
    q = _quantile(chosen.alpha, df, chosen.alternative)
    p = _p_value(z, df, chosen.alternative)
    if units < chosen.looks.first_look:
        why = f"the first look was fixed at {chosen.looks.first_look} units; {units} so far"
        always, always_relative, always_p = Effect(geometry.d, reason=why), Effect(reason=why), None
    else:
        m = sequences.multiplier(chosen.looks, units, chosen.alpha, chosen.alternative)
        always, always_relative = geometry.absolute(m, chosen.alternative), geometry.relative(m, chosen)
        always_p = sequences.p_value(chosen.looks, units, z, chosen.alpha, chosen.alternative)
    relative = geometry.relative(q, chosen)
    return Comparison(
        method=_TESTS[chosen.test],
        alpha=chosen.alpha,
        alternative=chosen.alternative,
        treatment_n=treatment.count,
        baseline_n=baseline.count,
        treatment=arm_interval(treatment, chosen.alpha),
        baseline=arm_interval(baseline, chosen.alpha),
        absolute=geometry.absolute(q, chosen.alternative),
        relative=relative,
        p_value=p,
        relative_p_value=None if relative.estimate is None else geometry.relative_p(p, df, chosen),
        statistic=z,
        degrees_of_freedom=None if df == math.inf else df,
        always_valid=always,
        always_valid_relative=always_relative,
        always_valid_p=always_p,
        standard_error=math.sqrt(geometry.v_d),
        variance_reduction=pair.variance_reduction,
        assumptions=_ASSUMPTIONS if pair.adjustment is None else (*_ASSUMPTIONS, pair.adjustment),
        warnings=(*notes, *_diagnose(treatment, "treatment"), *_diagnose(baseline, "baseline")),
        pair=pair,
        settings=chosen,
    )


def arm_interval(sample: Sample, alpha: float = limits.alpha_default) -> Effect:
    """Return an arm's own estimate with its two-sided t interval."""
    if sample.estimate is None or sample.variance is None:
        return Effect(sample.estimate, reason=sample.reason)
    half = float(stdtrit(sample.df, 1.0 - alpha / 2.0)) * math.sqrt(sample.error_variance)
    if not math.isfinite(half):
        return Effect(sample.estimate, reason=sample.reason or "the variance is beyond what a double holds")
    return Effect(sample.estimate, sample.estimate - half, sample.estimate + half, sample.reason)


def relative_error(pair: Pair) -> float | None:
    """Return the standard error of the relative effect to first order; None where the baseline's mean is 0."""
    geometry = geometry_of(pair, "z")
    error = geometry.delta_error() if geometry.c != 0.0 else math.inf
    return error if math.isfinite(error) else None


def geometry_of(pair: Pair, test: TestName) -> Geometry:
    """Return a pair's difference, what it is relative to, and their variances."""
    return _geometry(pair, test)[0]


@dataclass(frozen=True, slots=True)
class Geometry:
    """What a comparison is made of: difference ``d`` and reference ``c``: their variances and covariance.

    ``lift_at`` is the lift at which the delta method is linearised.
    """

    d: float
    v_d: float
    c: float
    v_c: float
    v_dc: float
    lift_at: float | None

    def absolute(self, q: float, alternative: Alternative) -> Effect:
        half = q * math.sqrt(self.v_d)
        return bounded(self.d, self.d - half, self.d + half, alternative)

    def delta_error(self) -> float:
        """Return the standard error of the lift, to first order."""
        c = abs(self.c)
        lift = self.d / c if self.lift_at is None else self.lift_at
        v_dc = self.v_dc if self.c > 0.0 else -self.v_dc
        return math.sqrt(max(0.0, self.v_d - 2.0 * lift * v_dc + lift * lift * self.v_c)) / c

    def relative(self, q: float, settings: Settings) -> Effect:
        c = abs(self.c)  # a lift has the sign of the difference, also where the baseline is negative
        if c == 0.0:
            return Effect(reason=_NO_REFERENCE)
        lift = self.d / c
        if not abs(lift) <= _LIFT_MAX:
            return Effect(reason=_NO_REFERENCE)
        if settings.relative == "delta":
            half = q * self.delta_error()
            if not half <= _LIFT_MAX:
                return Effect(lift, reason=_UNBOUNDED)
            return bounded(lift, lift - half, lift + half, settings.alternative)
        low, high = self.fieller(q)
        if low is None or high is None:
            return Effect(lift, reason=_UNBOUNDED)
        return bounded(lift, low, high, settings.alternative)

    def fieller(self, q: float) -> tuple[float | None, float | None]:
        """Return Fieller's bounds of the lift at ``q`` standard errors; None where they are unbounded."""
        c, v_dc = abs(self.c), self.v_dc if self.c > 0.0 else -self.v_dc
        a = c * c - q * q * self.v_c
        if a <= 0.0:
            return None, None
        b = self.d * c - q * q * v_dc
        inner = c * c * self.v_d - 2.0 * self.d * c * v_dc + self.d * self.d * self.v_c
        root = q * math.sqrt(max(0.0, inner - q * q * (self.v_d * self.v_c - v_dc * v_dc)))
        low, high = (b - root) / a, (b + root) / a
        return (low, high) if math.isfinite(low) and math.isfinite(high) else (None, None)

    def relative_p(self, p: float, df: float, settings: Settings) -> float | None:
        """Return the p-value of no lift; Fieller's is that of no difference."""
        if settings.null != 0.0:
            return None
        if settings.relative == "fieller":
            return p if self.c != 0.0 else None
        error = self.delta_error() if self.c != 0.0 else 0.0
        return _p_value(self.d / abs(self.c) / error, df, settings.alternative) if error > 0.0 else None


def bounded(estimate: float, low: float, high: float, alternative: Alternative) -> Effect:
    """Return the effect with the bounds that a one- or two-sided test has."""
    if alternative == "greater":
        return Effect(estimate, low, None, "one-sided (greater): there is no upper bound")
    if alternative == "less":
        return Effect(estimate, None, high, "one-sided (less): there is no lower bound")
    return Effect(estimate, low, high)


def _sample(arm: Sample | Moments) -> Sample:
    if isinstance(arm, Sample):
        return arm
    return Sample.of_mean(arm) if arm.k == 1 else Sample.of_ratio(arm)


def _why_not(pair: Pair) -> str | None:
    for name, sample in (("treatment", pair.treatment), ("baseline", pair.baseline)):
        if sample.reason is not None:
            return f"{name}: {sample.reason}"
    spread = (
        sum(v for v, _ in pair.parts) if pair.parts else (pair.treatment.error_variance + pair.baseline.error_variance)
    )
    if spread <= 0.0:
        return "no unit differs from another in either arm: the variance is 0, so there is nothing to test against"
    if not math.isfinite(spread):
        return "the variance is beyond what a double holds; rescale the metric"
    return None


def _nothing(pair: Pair, settings: Settings, reason: str, notes: tuple[Note, ...]) -> Comparison:
    treatment, baseline = pair.treatment, pair.baseline
    d = lift = None
    if treatment.estimate is not None and baseline.estimate is not None:
        d = treatment.estimate - baseline.estimate
        lift = d / abs(baseline.estimate) if baseline.estimate != 0.0 else math.inf
        lift = lift if abs(lift) <= _LIFT_MAX else None
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
        relative_p_value=None,
        statistic=None,
        degrees_of_freedom=None,
        always_valid=Effect(d, reason=reason),
        always_valid_relative=Effect(lift, reason=reason),
        always_valid_p=None,
        standard_error=None,
        variance_reduction=pair.variance_reduction,
        assumptions=_ASSUMPTIONS,
        warnings=notes,
        reason=reason,
        pair=pair,
        settings=settings,
    )


def _geometry(pair: Pair, test: TestName) -> tuple[Geometry, float]:
    """Return the difference and what it is relative to, and the degrees of freedom of its variance."""
    treatment, baseline = pair.treatment, pair.baseline
    assert treatment.estimate is not None
    assert baseline.estimate is not None
    d = (treatment.estimate - baseline.estimate) + (treatment.estimate_low - baseline.estimate_low)
    if pair.parts is not None:
        if test == "pooled":
            raise InvalidInput("test", test, "must be welch or z: an adjusted comparison has no pooled variance")
        v_d = sum(v for v, _ in pair.parts)
        df = pair.df or _satterthwaite(pair.parts)
        v_c = baseline.error_variance
        reference = pair.reference or Reference(baseline.estimate, v_c, -v_c)
        return (
            Geometry(d, v_d, reference.value, reference.variance, reference.covariance, reference.lift_at),
            math.inf if test == "z" else df,
        )
    v_t, v_c = treatment.error_variance, baseline.error_variance
    if test == "pooled":
        df = treatment.df + baseline.df
        assert treatment.variance is not None
        assert baseline.variance is not None
        pooled = (treatment.df * treatment.variance + baseline.df * baseline.variance) / df
        v_t, v_c = pooled / treatment.count, pooled / baseline.count
    else:
        df = math.inf if test == "z" else _satterthwaite(((v_t, treatment.df), (v_c, baseline.df)))
    return Geometry(d, v_t + v_c, baseline.estimate, v_c, -v_c, None), df


def _satterthwaite(parts: tuple[tuple[float, float], ...]) -> float:
    """Return the degrees of freedom of a sum of variances, in shares so that squares neither overflow nor vanish."""
    total = sum(v for v, _ in parts)
    return 1.0 / sum((v / total) * (v / total) / df for v, df in parts if v != 0.0)


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
    needed = SKEWNESS_UNITS * sample.skewness * sample.skewness
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
_NO_REFERENCE = "the baseline's mean is 0: there is nothing to be relative to"
_UNBOUNDED = (
    "the baseline's mean is not clearly different from 0, so the relative effect has no bounded interval; "
    "use the absolute effect or wait for more units"
)
_LIFT_MAX = 1e100  # a lift beyond it has a baseline of nothing
SKEWNESS_UNITS = 355.0
_DEFAULT = Settings()
