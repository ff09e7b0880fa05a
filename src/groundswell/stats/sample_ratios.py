"""Sample ratio: did the arms get the share of units they were given?

Formula: Pearson's chi-square; where an expected count is below 5, the exact multinomial test (the probability of
every outcome no likelier than the one observed), enumerated while that is feasible, simulated with
a fixed seed beyond. At every look at once: the Dirichlet-multinomial mixture (Lindon & Malek 2022, NeurIPS), whose
inverse Bayes factor is an always-valid p-value.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import chdtrc, gammaln

from groundswell import limits
from groundswell.errors import InvalidInput

__all__ = ["SampleRatio", "sample_ratio", "sequential_sample_ratio"]

_EXPECTED_MIN = 5.0
_OUTCOMES_MAX = 2_000_000  # enumerated exactly in well under a second
_LOG_ODDS_MAX = 700.0
_SIMULATED = 200_000  # a p-value of .001 is known to 7%
_SEED = 20_240_607
_TIE = 1e-9  # outcomes as likely as the observed one up to rounding count as no likelier


@dataclass(frozen=True, slots=True)
class SampleRatio:
    """The test of the split. ``ok`` is None where there is nothing to test, with its ``reason``."""

    method: str
    observed: dict[str, int]
    expected: dict[str, float]
    p_value: float | None
    statistic: float | None
    degrees_of_freedom: int | None
    ok: bool | None
    alarm: float
    seed: int | None = None
    reason: str | None = None


def sample_ratio(
    observed: Mapping[str, int], weights: Mapping[str, float], *, alarm: float = limits.srm_alarm_p
) -> SampleRatio:
    """Test observed units by variant against the weights they were given; ``ok`` is ``p_value >= alarm``.

    >>> sample_ratio({"control": 5000, "treatment": 5300}, {"control": 50, "treatment": 50}).p_value < 0.01
    True
    """
    _check(observed, weights, alarm)
    whole, total = float(sum(weights.values())), sum(observed.values())
    counts = {name: int(count) for name, count in observed.items()}
    expected = {name: total * weights[name] / whole for name in observed}
    live = [name for name in observed if weights[name] > 0.0]
    verdict = _judge(
        np.array([counts[name] for name in live], dtype=np.int64),
        np.array([weights[name] / whole for name in live]),
        [name for name in observed if weights[name] == 0.0 and observed[name] > 0],
    )
    ok = None if verdict.p is None else verdict.p >= alarm
    return SampleRatio(
        verdict.method,
        counts,
        expected,
        verdict.p,
        verdict.statistic,
        verdict.df,
        ok,
        alarm,
        verdict.seed,
        verdict.reason,
    )


def sequential_sample_ratio(
    observed: Mapping[str, int],
    weights: Mapping[str, float],
    *,
    concentration: float = 1_000.0,
    alarm: float = limits.srm_alarm_p,
) -> SampleRatio:
    """Test the split at any number of looks: the chance of *ever* alarming without cause is ``alarm`` at most.

    ``concentration`` is fixed before data: splits off by about one over its root are found soonest.
    """
    _check(observed, weights, alarm)
    if not (concentration > 0.0 and math.isfinite(concentration)):
        raise InvalidInput("concentration", concentration, "must be > 0 and finite")
    whole, total = float(sum(weights.values())), sum(observed.values())
    counts = {name: int(count) for name, count in observed.items()}
    expected = {name: total * weights[name] / whole for name in observed}
    method = "Dirichlet-multinomial, valid at every look"
    live = [name for name in observed if weights[name] > 0.0]
    stray = [name for name in observed if weights[name] == 0.0 and observed[name] > 0]
    if stray or len(live) < 2 or total == 0:
        verdict = _judge(np.array([counts[n] for n in live], dtype=np.int64), np.ones(len(live)), stray)
        ok = None if verdict.p is None else False
        return SampleRatio(method, counts, expected, verdict.p, None, None, ok, alarm, None, verdict.reason)
    n = np.array([counts[name] for name in live], dtype=np.float64)
    share = np.array([weights[name] / whole for name in live])
    a = concentration * share
    log_odds = float(
        gammaln(a.sum()) - gammaln(a.sum() + n.sum()) + (gammaln(a + n) - gammaln(a)).sum() - (n * np.log(share)).sum()
    )
    p = min(1.0, math.exp(-max(-_LOG_ODDS_MAX, log_odds)) if log_odds < _LOG_ODDS_MAX else 0.0)
    return SampleRatio(method, counts, expected, p, log_odds, None, p >= alarm, alarm)


class _Verdict(NamedTuple):
    method: str
    p: float | None
    statistic: float | None = None
    df: int | None = None
    seed: int | None = None
    reason: str | None = None


def _check(observed: Mapping[str, int], weights: Mapping[str, float], alarm: float) -> None:
    if not 0.0 < alarm < 1.0:
        raise InvalidInput("alarm", alarm, "must lie between 0 and 1")
    if set(observed) != set(weights):
        raise InvalidInput("observed", sorted(observed), f"must name the variants that have weights: {sorted(weights)}")
    for name, count in observed.items():
        if count < 0:
            raise InvalidInput(f"observed[{name}]", count, "must be >= 0")
    for name, weight in weights.items():
        if not (weight >= 0.0 and math.isfinite(weight)):
            raise InvalidInput(f"weights[{name}]", weight, "must be >= 0 and finite")
    if not any(weights.values()):
        raise InvalidInput("weights", dict(weights), "must not all be 0")


def _judge(n: NDArray[np.int64], share: NDArray[np.float64], stray: list[str]) -> _Verdict:
    """Test counts ``n`` against shares; ``stray`` names variants of weight 0 that have units."""
    total, k = int(n.sum()), len(n)
    if stray:
        return _Verdict("impossible outcome", 0.0, reason=f"{stray[0]} has weight 0 and yet it has units")
    if k < 2:
        return _Verdict("none", None, reason="one variant only: there is no ratio to test")
    if total == 0:
        return _Verdict("none", None, reason="no unit is exposed yet")
    expected = total * share
    if expected.min() >= _EXPECTED_MIN:
        statistic = float(((n - expected) ** 2 / expected).sum())
        return _Verdict("chi-square", float(chdtrc(k - 1, statistic)), statistic, k - 1)
    if math.comb(total + k - 1, k - 1) <= _OUTCOMES_MAX:
        return _Verdict("exact multinomial", _exact(n, share))
    return _Verdict(f"exact multinomial, {_SIMULATED:,} simulated outcomes", _simulated(n, share), seed=_SEED)


def _log_probability(n: NDArray[np.int64], share: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the log probability of outcomes ``n`` (..., k) up to a constant."""
    return (n * np.log(share) - gammaln(n + 1.0)).sum(axis=-1)


def _exact(n: NDArray[np.int64], share: NDArray[np.float64]) -> float:
    logs = _log_probability(_outcomes(int(n.sum()), len(n)), share)
    observed = _log_probability(n, share)
    weight = np.exp(logs - logs.max())
    return min(1.0, float(weight[logs <= observed + _TIE].sum() / weight.sum()))


def _outcomes(total: int, k: int) -> NDArray[np.int64]:
    """Return every way to put ``total`` units into ``k`` arms, shape (outcomes, k)."""
    rows = np.arange(total + 1, dtype=np.int64)[:, np.newaxis]
    for _ in range(k - 2):
        left = total - rows.sum(axis=1)
        index = np.repeat(np.arange(len(rows)), left + 1)
        starts = np.cumsum(left + 1) - (left + 1)
        column = np.arange(len(index)) - np.repeat(starts, left + 1)
        rows = np.column_stack([rows[index], column])
    return np.column_stack([rows, total - rows.sum(axis=1)])


def _simulated(n: NDArray[np.int64], share: NDArray[np.float64]) -> float:
    draws = np.random.default_rng(_SEED).multinomial(int(n.sum()), share / share.sum(), size=_SIMULATED)
    as_rare = _log_probability(draws, share) <= _log_probability(n, share) + _TIE
    return float((as_rare.sum() + 1) / (_SIMULATED + 1))
