"""Decisions on purpose: margins, equivalence, guardrails, and one summary with the rule that gave it.

Formulas
    non-inferiority: one-sided test that the effect is better than minus the margin; a margin that is a share of the
    baseline is the contrast t - (1 - m) c, so that the baseline's own error counts (Hauschke & Hothorn 2007)
    equivalence: two one-sided tests, each at alpha (Schuirmann 1987)
    ship where a goal improves and every guardrail is non-inferior (Schultzberg, Ankargren & Fraanje 2024): requiring
    all guardrails needs no correction of alpha
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from scipy.special import ndtr, ndtri, stdtr, stdtrit

from groundswell import limits
from groundswell.errors import InvalidInput
from groundswell.stats.contrasts import Geometry, geometry_of
from groundswell.stats.multiplicity import adjust_p_values
from groundswell.stats.results import Comparison
from groundswell.stats.sample_ratios import SampleRatio

__all__ = ["Decision", "Margin", "MarginTest", "decide", "equivalent", "guardrail", "non_inferior"]

Better = Literal["higher", "lower"]
Verdict = Literal["safe", "harmed", "unclear"]


@dataclass(frozen=True, slots=True)
class Margin:
    """How much worse still counts as unharmed: ``size`` > 0, as a share of the baseline or absolute.

    ``fixed_baseline`` takes the baseline's estimate for its true mean, as some platforms do; it errs for noisy ones.
    """

    size: float
    relative: bool = True
    fixed_baseline: bool = False

    def __post_init__(self) -> None:
        if not (self.size > 0.0 and math.isfinite(self.size)):
            raise InvalidInput("margin.size", self.size, "must be > 0 and finite")


@dataclass(frozen=True, slots=True)
class MarginTest:
    """A test against a margin. ``bound`` is the confidence bound, on the scale of the margin, that ``passed`` reads.

    ``null`` is the absolute effect that was tested; for equivalence the bound is the one nearer to its limit.
    """

    method: str
    p_value: float | None
    passed: bool | None
    bound: float | None
    null: float | None
    alpha: float
    reason: str | None = None


def non_inferior(
    comparison: Comparison, margin: Margin, *, better: Better = "higher", alpha: float | None = None
) -> MarginTest:
    """Test that the treatment is not worse than the baseline by the margin; one-sided at ``alpha``."""
    level, up = _level(comparison, alpha), _up(better)
    method = "non-inferiority"
    shifted = _shifted(comparison, margin, -1.0 if up else 1.0)
    if isinstance(shifted, str):
        return MarginTest(method, None, None, None, None, level, shifted)
    gap, error, null = shifted
    df = comparison.degrees_of_freedom
    p = _tail(gap / error if up else -gap / error, df)
    bound = _bound(comparison, margin, level, lower=up)
    return MarginTest(method, p, p <= level, bound, null, level)


def equivalent(comparison: Comparison, margin: Margin, *, alpha: float | None = None) -> MarginTest:
    """Test that the effect lies within the margin on both sides (TOST); agrees with the 1 - 2 alpha interval."""
    level = _level(comparison, alpha)
    method = "equivalence by two one-sided tests"
    worse, more = _shifted(comparison, margin, -1.0), _shifted(comparison, margin, 1.0)
    if isinstance(worse, str):
        return MarginTest(method, None, None, None, None, level, worse)
    if isinstance(more, str):
        return MarginTest(method, None, None, None, None, level, more)
    df = comparison.degrees_of_freedom
    p_low, p_high = _tail(worse[0] / worse[1], df), _tail(-more[0] / more[1], df)
    lower = p_low >= p_high
    bound = _bound(comparison, margin, level, lower=lower)
    p = max(p_low, p_high)
    return MarginTest(method, p, p <= level, bound, worse[2] if lower else more[2], level)


def guardrail(
    comparison: Comparison, margin: Margin, *, better: Better = "higher", alpha: float | None = None
) -> tuple[Verdict, MarginTest]:
    """Return ``safe`` (non-inferior), ``harmed`` (worse than none at ``alpha``, and not shown safe), or ``unclear``."""
    test = non_inferior(comparison, margin, better=better, alpha=alpha)
    if test.passed:
        return "safe", test
    if comparison.statistic is None:
        return "unclear", test
    z = comparison.statistic if better == "lower" else -comparison.statistic
    worse = _tail(z, comparison.degrees_of_freedom) <= test.alpha
    return ("harmed" if worse else "unclear"), test


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do, the ``rule`` that gave it, and what was seen. ``verdicts`` names each metric's own."""

    action: Literal["ship", "stop", "continue", "not trustworthy"]
    rule: str
    reasons: tuple[str, ...]
    verdicts: dict[str, str]


def decide(
    goals: Mapping[str, tuple[Comparison, Better]],
    guardrails: Mapping[str, tuple[Comparison, Better, Margin]] | None = None,
    *,
    sample_ratio: SampleRatio | None = None,
    units_min: int = 0,
    at_end: bool = False,
    alpha: float = limits.alpha_default,
) -> Decision:
    """Return what to do with an experiment.

    While it runs, goals are read by their always-valid p-values; ``at_end``, the one planned look, by their fixed ones.
    Goals share ``alpha`` by Holm; guardrails keep it each, one-sided.
    """
    if not goals:
        raise InvalidInput("goals", dict(goals), "must hold at least one metric")
    verdicts: dict[str, str] = {}
    if sample_ratio is not None and sample_ratio.ok is False:
        told = f"sample ratio p = {sample_ratio.p_value:.2g}, below {sample_ratio.alarm:g}"
        return Decision("not trustworthy", _RULES[0], (told,), verdicts)
    units = min(min(c.treatment_n, c.baseline_n) for c, _ in goals.values())
    if units < units_min:
        return Decision("continue", _RULES[1], (f"{units:,} units in the smaller arm, {units_min:,} wanted",), verdicts)
    verdicts |= _goal_verdicts(goals, at_end=at_end, alpha=alpha)
    for name, (comparison, better, margin) in (guardrails or {}).items():
        verdicts[name] = guardrail(comparison, margin, better=better, alpha=alpha)[0]
    return _ruled(verdicts, at_end=at_end)


def _ruled(verdicts: dict[str, str], *, at_end: bool) -> Decision:
    told = {kind: tuple(f"{n} {words}" for n, v in verdicts.items() if v == kind) for kind, words in _TOLD.items()}
    open_questions = (*told["improved"], *told["unclear"])
    if told["harmed"]:
        return Decision("stop", _RULES[2], told["harmed"], verdicts)
    if told["worse"]:
        return Decision("stop", _RULES[3], told["worse"], verdicts)
    if told["improved"] and not told["unclear"]:
        return Decision("ship", _RULES[4], told["improved"], verdicts)
    if at_end:
        return Decision("stop", _RULES[5], open_questions or ("no goal improved",), verdicts)
    return Decision("continue", _RULES[6], open_questions or ("no goal has moved clearly yet",), verdicts)


def _goal_verdicts(goals: Mapping[str, tuple[Comparison, Better]], *, at_end: bool, alpha: float) -> dict[str, str]:
    p_values = {name: (c.p_value if at_end else c.always_valid_p) for name, (c, _) in goals.items()}
    known = {name: p for name, p in p_values.items() if p is not None}
    adjusted = dict(zip(known, adjust_p_values(list(known.values()), "holm").tolist(), strict=True))
    verdicts: dict[str, str] = {}
    for name, (comparison, better) in goals.items():
        z = comparison.statistic
        if name not in adjusted or z is None:
            verdicts[name] = "not computable" if comparison.reason else "too early"
        elif adjusted[name] > alpha:
            verdicts[name] = "no clear change"
        else:
            verdicts[name] = "improved" if (z > 0.0) is (better == "higher") else "worse"
    return verdicts


def _shifted(comparison: Comparison, margin: Margin, side: float) -> tuple[float, float, float] | str:
    """Return the effect's distance from ``side`` times the margin, its standard error, and the absolute null."""
    if comparison.reason is not None or comparison.pair is None:
        return comparison.reason or "the comparison does not carry its arms"
    g = _geometry(comparison)
    if not margin.relative:
        null = side * margin.size
        return g.d - null, math.sqrt(g.v_d), null
    if g.c == 0.0:
        return "the baseline's mean is 0: a margin cannot be a share of it"
    m = side * margin.size * math.copysign(1.0, g.c)
    null = m * g.c
    if margin.fixed_baseline:
        return g.d - null, math.sqrt(g.v_d), null
    variance = g.v_d - 2.0 * m * g.v_dc + m * m * g.v_c
    if variance <= 0.0:
        return "the contrast with the margin has no variance"
    return g.d - null, math.sqrt(variance), null


def _bound(comparison: Comparison, margin: Margin, alpha: float, *, lower: bool) -> float | None:
    """Return the one-sided confidence bound on the margin's own scale."""
    df = comparison.degrees_of_freedom
    q = -float(ndtri(alpha)) if df is None else -float(stdtrit(df, alpha))
    g = _geometry(comparison)
    if margin.relative and not margin.fixed_baseline:
        low, high = g.fieller(q)
        return low if lower else high
    bound = g.d - q * math.sqrt(g.v_d) if lower else g.d + q * math.sqrt(g.v_d)
    return bound / abs(g.c) if margin.relative else bound


def _geometry(comparison: Comparison) -> Geometry:
    assert comparison.pair is not None
    return geometry_of(comparison.pair, comparison.settings.test if comparison.settings else "welch")


def _tail(z: float, df: float | None) -> float:
    """Return P(beyond z)."""
    return float(ndtr(-z)) if df is None else float(stdtr(df, -z))


def _level(comparison: Comparison, alpha: float | None) -> float:
    level = comparison.alpha if alpha is None else alpha
    if not 0.0 < level < 0.5:
        raise InvalidInput("alpha", level, "must lie between 0 and 0.5 for a one-sided test")
    return level


def _up(better: str) -> bool:
    if better not in ("higher", "lower"):
        raise InvalidInput("better", better, "must be higher or lower")
    return better == "higher"


_TOLD = {
    "harmed": "is harmed",
    "worse": "got worse",
    "improved": "improved",
    "unclear": "is not shown safe",
}
_RULES = (
    "the split of units is not the planned one: no number is to be trusted until that is explained",
    "too few units to read anything",
    "a guardrail is harmed",
    "a goal got worse",
    "a goal improved and every guardrail is shown safe",
    "the end was reached without a goal improved and every guardrail safe",
    "nothing is decided yet",
)
