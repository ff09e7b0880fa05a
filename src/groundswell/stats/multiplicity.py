"""Many tests at once: adjusted p-values, which are rejected, and the intervals that go with them.

Formulas
    family-wise error: Bonferroni; Sidak (1967); Holm (1979), with Sidak's step; Hochberg (1988); Hommel (1988)
    false discovery rate: Benjamini & Hochberg (1995); Benjamini & Yekutieli (2001)
    intervals of what is selected by a false discovery rate: Benjamini & Yekutieli (2005), level 1 - R alpha / m
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from groundswell.errors import InvalidInput
from groundswell.stats.contrasts import contrast
from groundswell.stats.results import Comparison, Effect

__all__ = ["Corrected", "Correction", "Family", "adjust_p_values", "correct", "correct_tiers"]

Floats = NDArray[np.float64]
Correction = Literal[
    "none",
    "bonferroni",
    "sidak",
    "holm",
    "holm-sidak",
    "hochberg",
    "hommel",
    "benjamini-hochberg",
    "benjamini-yekutieli",
]
Tier = Literal["goal", "secondary", "guardrail"]


@dataclass(frozen=True, slots=True)
class Corrected:
    """One comparison within its family. ``absolute`` and ``relative`` are adjusted, or say why there is no interval."""

    p_value: float | None
    rejected: bool
    absolute: Effect
    relative: Effect
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Family:
    """Comparisons that share one error rate. ``controls`` names it and ``assumes`` what it needs."""

    method: Correction
    alpha: float
    controls: str
    assumes: str
    interval_alpha: float | None
    comparisons: dict[str, Corrected]


def adjust_p_values(p_values: ArrayLike, method: Correction) -> Floats:
    """Return adjusted p-values: reject where they are <= alpha.

    >>> adjust_p_values([0.01, 0.04, 0.03], "holm").tolist()
    [0.03, 0.06, 0.06]
    """
    p = np.asarray(p_values, dtype=np.float64)
    if p.ndim != 1:
        raise InvalidInput("p_values", p.shape, "must be one-dimensional")
    if not ((p >= 0.0) & (p <= 1.0)).all():
        raise InvalidInput("p_values", p.tolist(), "must lie between 0 and 1")
    if method not in _RULES:
        raise InvalidInput("method", method, f"must be one of {', '.join(_RULES)}")
    if len(p) == 0:
        return p.copy()
    order = np.argsort(p, kind="stable")
    adjusted = np.empty_like(p)
    adjusted[order] = np.clip(_RULES[method].adjust(p[order]), 0.0, 1.0)
    return adjusted


def correct(
    comparisons: Mapping[str, Comparison], method: Correction = "holm", *, alpha: float | None = None
) -> Family:
    """Correct a family of comparisons; those without a p-value stay as they are and are not counted.

    Intervals are simultaneous for Bonferroni and Sidak, and hold on average over what is selected for
    Benjamini-Hochberg and -Yekutieli; the stepwise methods have none, and say so.
    """
    if method not in _RULES:
        raise InvalidInput("method", method, f"must be one of {', '.join(_RULES)}")
    levels = {c.alpha for c in comparisons.values()}
    if alpha is None:
        if len(levels) > 1:
            raise InvalidInput("alpha", sorted(levels), "must be given where comparisons differ in it")
        alpha = levels.pop() if levels else 0.05
    if not 0.0 < alpha < 1.0:
        raise InvalidInput("alpha", alpha, "must lie between 0 and 1")
    tested = {name: c.p_value for name, c in comparisons.items() if c.p_value is not None}
    adjusted = dict(zip(tested, adjust_p_values(list(tested.values()), method).tolist(), strict=True))
    rejected = {name for name, p in adjusted.items() if p <= alpha}
    rule = _RULES[method]
    level = rule.interval(alpha, len(tested), len(rejected)) if tested else alpha
    out: dict[str, Corrected] = {}
    for name, c in comparisons.items():
        if name not in adjusted:
            out[name] = Corrected(None, False, c.absolute, c.relative, c.reason)
            continue
        absolute, relative = _intervals(c, level, rule, selected=name in rejected)
        out[name] = Corrected(adjusted[name], name in rejected, absolute, relative)
    return Family(method, alpha, rule.controls, rule.assumes, level, out)


def correct_tiers(comparisons: Mapping[str, tuple[Tier, Comparison]], *, alpha: float = 0.05) -> dict[Tier, Family]:
    """Correct goals by Holm, secondary metrics by Benjamini-Hochberg, and leave guardrails alone.

    Goals decide, so no goal may be called by chance; secondary metrics inform, so a share of false calls is bounded;
    shipping needs *every* guardrail to pass, which is no chance to err more often, so each keeps alpha to itself.
    """
    methods: dict[Tier, Correction] = {"goal": "holm", "secondary": "benjamini-hochberg", "guardrail": "none"}
    for name, (tier, _) in comparisons.items():
        if tier not in methods:
            raise InvalidInput(f"tier of {name}", tier, "must be goal, secondary or guardrail")
    return {
        tier: correct({n: c for n, (t, c) in comparisons.items() if t == tier}, method, alpha=alpha)
        for tier, method in methods.items()
    }


def _intervals(c: Comparison, level: float | None, rule: _Rule, *, selected: bool) -> tuple[Effect, Effect]:
    reason = None
    if level is None:
        reason = "this stepwise method has no matching interval; use bonferroni or sidak for intervals"
    elif rule.selects and not selected:
        reason = "not selected: intervals are adjusted for what the false discovery rate selected"
    elif c.pair is None or c.settings is None:
        reason = "the comparison does not carry its arms"
    if reason is not None or c.pair is None or c.settings is None or level is None:
        return Effect(c.absolute.estimate, reason=reason), Effect(c.relative.estimate, reason=reason)
    again = contrast(c.pair, replace(c.settings, alpha=level))
    return again.absolute, again.relative


@dataclass(frozen=True, slots=True)
class _Rule:
    """A correction of sorted p-values; ``interval`` gives the level of its intervals from (alpha, tests, rejected)."""

    adjust: Callable[[Floats], Floats]
    interval: Callable[[float, int, int], float | None]
    controls: str
    assumes: str
    selects: bool = False


def _steps_down(p: Floats) -> Floats:
    return np.maximum.accumulate(p)


def _steps_up(p: Floats) -> Floats:
    return np.minimum.accumulate(p[::-1])[::-1]


def _left(p: Floats) -> Floats:
    """Return how many hypotheses are left at each step: m, m - 1, ..., 1."""
    return np.arange(len(p), 0, -1, dtype=np.float64)


def _sidak(p: Floats, m: Floats | float) -> Floats:
    with np.errstate(divide="ignore"):
        return -np.expm1(m * np.log1p(-p))


def _hommel(p: Floats) -> Floats:
    """Return Hommel's adjusted p-values (Wright 1992's algorithm)."""
    m = len(p)
    adjusted = p.copy()
    rank = np.arange(1, m + 1)
    for k in range(m, 1, -1):
        c = float((k * p[m - k :] / rank[:k]).min())
        adjusted[m - k :] = np.maximum(adjusted[m - k :], c)
        adjusted[: m - k] = np.maximum(adjusted[: m - k], np.minimum(c, k * p[: m - k]))
    return adjusted


def _no_interval(alpha: float, tests: int, rejected: int) -> float | None:
    del alpha, tests, rejected


def _harmonic(m: int) -> float:
    return float((1.0 / np.arange(1, m + 1)).sum())


def _shares(p: Floats) -> Floats:
    return len(p) / np.arange(1, len(p) + 1)


_FWER = "family-wise error rate: the chance of any false call is at most alpha"
_FDR = "false discovery rate: of what is called, at most a share alpha is false on average"
_ANY = "nothing about how the tests depend on each other"
_POSITIVE = "tests that are independent or positively dependent (PRDS), as metrics of one experiment mostly are"
_RULES: dict[str, _Rule] = {
    "none": _Rule(lambda p: p, lambda a, _m, _r: a, "each test's own error rate only", _ANY),
    "bonferroni": _Rule(lambda p: len(p) * p, lambda a, m, _r: a / m, _FWER, _ANY),
    "sidak": _Rule(
        lambda p: _sidak(p, float(len(p))), lambda a, m, _r: float(-np.expm1(np.log1p(-a) / m)), _FWER, _POSITIVE
    ),
    "holm": _Rule(lambda p: _steps_down(_left(p) * p), _no_interval, _FWER, _ANY),
    "holm-sidak": _Rule(lambda p: _steps_down(_sidak(p, _left(p))), _no_interval, _FWER, _POSITIVE),
    "hochberg": _Rule(lambda p: _steps_up(_left(p) * p), _no_interval, _FWER, _POSITIVE),
    "hommel": _Rule(_hommel, _no_interval, _FWER, _POSITIVE),
    "benjamini-hochberg": _Rule(
        lambda p: _steps_up(_shares(p) * p), lambda a, m, r: max(r, 1) * a / m, _FDR, _POSITIVE, selects=True
    ),
    "benjamini-yekutieli": _Rule(
        lambda p: _steps_up(_shares(p) * p * _harmonic(len(p))),
        lambda a, m, r: max(r, 1) * a / m / _harmonic(m),
        _FDR,
        _ANY,
        selects=True,
    ),
}
