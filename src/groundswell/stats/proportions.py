"""Proportions by inverting one test, and exact tests for tiny counts.

Formulas
    score test with its variance under the null (Miettinen & Nurminen 1985, Stat. Med. 4): absolute effect, relative
    effect and p-value come from the same statistic, so that they cannot contradict each other; without the factor
    N / (N - 1) it is Pearson's chi-square and the intervals of Mee (1984) and Koopman (1984)
    an arm's own interval: Wilson (1927)
    exact: Fisher's test with the central p-value (twice the smaller tail), which the conditional interval of the odds
    ratio inverts; for counts over exposure, the conditional binomial test and Clopper & Pearson's interval of the share
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import betainc, betainccinv, betaincinv, gammaln, ndtr, ndtri

from groundswell.errors import InvalidInput
from groundswell.stats.contrasts import Settings, bounded, contrast
from groundswell.stats.results import Alternative, Comparison, Effect
from groundswell.stats.roots import solve
from groundswell.stats.samples import Pair, Sample

__all__ = ["Exact", "compare_proportions", "exact_counts", "exact_proportions", "wilson"]

Counts = tuple[int, int]


def compare_proportions(
    treatment: Counts, baseline: Counts, settings: Settings | None = None, *, correction: bool = True
) -> Comparison:
    """Compare two proportions, (successes, trials) each, by the score test; ``correction`` is Miettinen & Nurminen's.

    >>> result = compare_proportions((56, 70), (48, 80))
    >>> round(result.absolute.low, 4), round(result.absolute.high, 4)
    (0.0528, 0.3382)
    """
    _check(treatment, baseline)
    chosen = settings or Settings()
    pair = Pair(Sample.of_proportion(*treatment), Sample.of_proportion(*baseline))
    base = contrast(pair, chosen)
    method = "score test (Miettinen-Nurminen)" if correction else "score test (Pearson)"
    if min(treatment[1], baseline[1]) == 0:
        return replace(base, method=method)
    arms = {"treatment": wilson(*treatment, alpha=chosen.alpha), "baseline": wilson(*baseline, alpha=chosen.alpha)}
    score = _Score(treatment, baseline, correction=correction)
    d = treatment[0] / treatment[1] - baseline[0] / baseline[1]
    q = -float(ndtri(chosen.alpha / 2.0 if chosen.alternative == "two-sided" else chosen.alpha))
    z = score.of_difference(chosen.null)
    if z is None:
        reason = "all units did the same in both arms: there is nothing to test"
        return replace(base, method=method, **arms, p_value=None, relative_p_value=None, reason=reason)
    p = _p_value(z, chosen.alternative)
    absolute = bounded(d, *score.difference_interval(d, q), chosen.alternative)
    relative = _relative(treatment, baseline, score, q, chosen.alternative)
    return replace(
        base,
        **arms,
        method=method,
        absolute=absolute,
        relative=relative,
        p_value=p,
        relative_p_value=p if relative.estimate is not None and chosen.null == 0.0 else None,
        statistic=z,
        degrees_of_freedom=None,
        reason=None,
        assumptions=("units are independent of each other", *base.assumptions[1:]),
    )


def wilson(successes: int, trials: int, *, alpha: float = 0.05) -> Effect:
    """Return a proportion with Wilson's interval."""
    if not 0 <= successes <= trials:
        raise InvalidInput("successes", successes, f"must be between 0 and trials ({trials})")
    if trials == 0:
        return Effect(reason="no unit in this arm")
    q = float(ndtri(alpha / 2.0))
    p, shrink = successes / trials, q * q / trials
    centre = (p + shrink / 2.0) / (1.0 + shrink)
    half = -q / (1.0 + shrink) * math.sqrt(p * (1.0 - p) / trials + shrink / (4.0 * trials))
    low = 0.0 if successes == 0 else centre - half
    return Effect(p, low, 1.0 if successes == trials else centre + half)


@dataclass(frozen=True, slots=True)
class Exact:
    """An exact test: ``ratio`` is an odds ratio (proportions) or a rate ratio (counts) with the interval it inverts."""

    method: str
    p_value: float | None
    ratio: Effect
    alpha: float
    assumptions: tuple[str, ...]
    reason: str | None = None


def exact_proportions(treatment: Counts, baseline: Counts, *, alpha: float = 0.05) -> Exact:
    """Test two proportions by Fisher's exact test, two-sided as twice the smaller tail.

    Meant for tiny counts: it enumerates the smaller margin, up to a million successes.
    """
    _check(treatment, baseline)
    (a, n_t), (c, n_c) = treatment, baseline
    method = "Fisher's exact test, central"
    successes = a + c
    if min(n_t, n_c) == 0 or successes in (0, n_t + n_c):
        reason = "all units did the same, or an arm is empty: the margins leave one table only"
        return Exact(method, None, Effect(reason=reason), alpha, _EXACT, reason)
    low, high = max(0, successes - n_c), min(n_t, successes)
    if high - low > _TABLES_MAX:
        reason = f"{high - low + 1:,} tables are not few; use the score test"
        return Exact(method, None, Effect(reason=reason), alpha, _EXACT, reason)
    x = np.arange(low, high + 1, dtype=np.float64)
    logs = -(gammaln(x + 1) + gammaln(n_t - x + 1) + gammaln(successes - x + 1) + gammaln(n_c - successes + x + 1))

    def tail(log_odds: float, *, above: bool) -> float:
        weight = logs + x * log_odds
        mass = np.exp(weight - weight.max())
        return float(mass[x >= a].sum() / mass.sum()) if above else float(mass[x <= a].sum() / mass.sum())

    p = min(1.0, 2.0 * min(tail(0.0, above=True), tail(0.0, above=False)))
    least = (
        math.exp(solve(lambda t: tail(t, above=True) - alpha / 2.0, -_LOG_ODDS_MAX, _LOG_ODDS_MAX)) if a > low else 0.0
    )
    most = (
        math.exp(solve(lambda t: tail(t, above=False) - alpha / 2.0, -_LOG_ODDS_MAX, _LOG_ODDS_MAX))
        if a < high
        else None
    )
    divisor = (n_t - a) * c
    odds = a * (n_c - c) / divisor if divisor else None
    reason = None if most is not None and odds is not None else "no upper bound: the count is at its limit"
    return Exact(method, p, Effect(odds, least, most, reason), alpha, _EXACT)


def exact_counts(treatment: tuple[int, float], baseline: tuple[int, float], *, alpha: float = 0.05) -> Exact:
    """Test two Poisson rates, (events, exposure) each: given the sum, one arm's events are binomial."""
    for name, (events, exposure) in (("treatment", treatment), ("baseline", baseline)):
        if events < 0 or not (exposure > 0.0 and math.isfinite(exposure)):
            raise InvalidInput(name, (events, exposure), "must be (events >= 0, exposure > 0)")
    (a, e_t), (c, e_c) = treatment, baseline
    method = "conditional binomial test of two Poisson rates"
    if a + c == 0:
        reason = "no event in either arm"
        return Exact(method, None, Effect(reason=reason), alpha, _EXACT, reason)
    # the interval of the share of events that are the treatment's
    least = float(betaincinv(a, c + 1, alpha / 2.0)) if a else 0.0
    most = float(betainccinv(a + 1, c, alpha / 2.0)) if c else 1.0
    share = e_t / (e_t + e_c)
    p = min(1.0, 2.0 * min(_binomial_tail(a, a + c, share), _binomial_tail(c, a + c, 1.0 - share)))
    scale = e_c / e_t
    ratio = a / c * scale if c else None
    high = most / (1.0 - most) * scale if c else None
    return Exact(
        method, p, Effect(ratio, least / (1.0 - least) * scale, high, None if c else _NO_BASELINE), alpha, _EXACT
    )


def _binomial_tail(k: int, n: int, p: float) -> float:
    """Return P(X >= k)."""
    return float(betainc(k, n - k + 1, p)) if k > 0 else 1.0


class _Score:
    """The score statistic of a difference or a ratio of proportions, by its constrained maximum likelihood."""

    def __init__(self, treatment: Counts, baseline: Counts, *, correction: bool) -> None:
        (self._x_t, self._n_t), (self._x_c, self._n_c) = treatment, baseline
        n = self._n_t + self._n_c
        self._factor = n / (n - 1.0) if correction else 1.0
        self._p_t, self._p_c = self._x_t / self._n_t, self._x_c / self._n_c

    def of_difference(self, delta: float) -> float | None:
        """Return z of a difference ``delta``; None where the constrained variance is 0 and nothing contradicts it."""
        n = float(self._n_t + self._n_c)
        # Farrington & Manning (1990): the cubic of the baseline's constrained proportion
        l3 = n
        l2 = (self._n_t + 2.0 * self._n_c) * delta - n - (self._x_t + self._x_c)
        l1 = (self._n_c * delta - n - 2.0 * self._x_c) * delta + self._x_t + self._x_c
        l0 = self._x_c * delta * (1.0 - delta)
        third = l2 / (3.0 * l3)
        q = third**3 - l1 * l2 / (6.0 * l3 * l3) + l0 / (2.0 * l3)
        p = math.copysign(math.sqrt(max(0.0, third * third - l1 / (3.0 * l3))), q)
        angle = math.acos(max(-1.0, min(1.0, q / p**3))) if p != 0.0 else 0.0
        base = 2.0 * p * math.cos((math.pi + angle) / 3.0) - third
        base = min(1.0, 1.0 - delta, max(0.0, -delta, base))
        moved = base + delta
        variance = (moved * (1.0 - moved) / self._n_t + base * (1.0 - base) / self._n_c) * self._factor
        gap = (self._p_t - self._p_c) - delta
        if variance <= 0.0:
            return None if abs(gap) < _SAME else math.copysign(math.inf, gap)
        return gap / math.sqrt(variance)

    def of_ratio(self, ratio: float) -> float:
        """Return z of a ratio of proportions."""
        n = float(self._n_t + self._n_c)
        a = n * ratio
        b = -(self._n_t * ratio + self._x_t + self._n_c + self._x_c * ratio)
        c = float(self._x_t + self._x_c)
        base = 2.0 * c / (-b + math.sqrt(max(0.0, b * b - 4.0 * a * c)))  # the root that does not cancel
        base = min(1.0, 1.0 / ratio, max(0.0, base))
        moved = min(1.0, base * ratio)
        variance = moved * (1.0 - moved) / self._n_t + ratio * ratio * base * (1.0 - base) / self._n_c
        gap = self._p_t - ratio * self._p_c
        if variance <= 0.0:
            return 0.0 if abs(gap) < _SAME else math.copysign(math.inf, gap)
        return gap / math.sqrt(variance * self._factor)

    def difference_interval(self, d: float, q: float) -> tuple[float, float]:
        def beyond(delta: float, target: float) -> float:
            z = self.of_difference(delta)
            return (0.0 if z is None else max(-_Z_MAX, min(_Z_MAX, z))) - target

        low = solve(lambda x: beyond(x, q), -1.0, d) if d > -1.0 else -1.0
        high = solve(lambda x: beyond(x, -q), d, 1.0) if d < 1.0 else 1.0
        return low, high

    def ratio_interval(self, ratio: float, q: float) -> tuple[float, float | None]:
        """Bounds of the ratio, searched on its logarithm."""

        def beyond(log_ratio: float, target: float) -> float:
            return max(-_Z_MAX, min(_Z_MAX, self.of_ratio(math.exp(log_ratio)))) - target

        start = math.log(ratio) if ratio > 0.0 else -_LOG_RATIO_MAX
        low = math.exp(solve(lambda x: beyond(x, q), -_LOG_RATIO_MAX, start)) if ratio > 0.0 else 0.0
        top = beyond(_LOG_RATIO_MAX, -q)
        high = None if top > 0.0 else math.exp(solve(lambda x: beyond(x, -q), start, _LOG_RATIO_MAX))
        return low, high


def _relative(treatment: Counts, baseline: Counts, score: _Score, q: float, alternative: Alternative) -> Effect:
    if baseline[0] == 0:
        if treatment[0] == 0 or alternative == "less":
            return Effect(reason=_NO_BASELINE)
        start = math.exp(_LOG_RATIO_MAX)
        low = math.exp(
            solve(
                lambda x: max(-_Z_MAX, min(_Z_MAX, score.of_ratio(math.exp(x)))) - q, -_LOG_RATIO_MAX, math.log(start)
            )
        )
        return Effect(None, low - 1.0, None, _NO_BASELINE)
    ratio = (treatment[0] / treatment[1]) / (baseline[0] / baseline[1])
    low, high = score.ratio_interval(ratio, q)
    if high is None:
        return Effect(ratio - 1.0, low - 1.0, None, _NO_BASELINE)
    return bounded(ratio - 1.0, low - 1.0, high - 1.0, alternative)


def _p_value(z: float, alternative: Alternative) -> float:
    tail = float(ndtr(-abs(z) if alternative == "two-sided" else (-z if alternative == "greater" else z)))
    return 2.0 * tail if alternative == "two-sided" else tail


def _check(treatment: Counts, baseline: Counts) -> None:
    for name, (successes, trials) in (("treatment", treatment), ("baseline", baseline)):
        if not 0 <= successes <= trials:
            raise InvalidInput(name, (successes, trials), "must be (successes, trials) with 0 <= successes <= trials")


_SAME = 1e-12
_Z_MAX = 1e6
_LOG_RATIO_MAX = 60.0
_LOG_ODDS_MAX = 60.0
_TABLES_MAX = 1_000_000
_NO_BASELINE = "the baseline has no success: the relative effect has no upper bound"
_EXACT = ("units are independent of each other", "given the margins, every table is as likely as its count of ways")
