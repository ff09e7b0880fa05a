"""Every arm against the baseline, or against every other, with one error rate over all of them.

Formulas
    many to one: Dunnett (1955); estimates share the baseline's error, so that they are correlated l_i l_j with
    l_i^2 = v_0 / (v_0 + v_i), and the maximum has a double integral over the baseline and the pooled deviation
    all pairs: Tukey-Kramer, and Games-Howell (1976) where variances differ, by the studentised range
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln, ndtr

from groundswell.errors import InvalidInput
from groundswell.model.moments import Moments
from groundswell.stats.results import Effect
from groundswell.stats.roots import solve
from groundswell.stats.samples import Sample

__all__ = ["Simultaneous", "all_pairs", "many_to_one"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Simultaneous:
    """Comparisons by (treatment, baseline) with family-wise p-values and simultaneous intervals.

    ``critical`` is how many standard errors each interval reaches; it is None where a pair has its own.
    """

    method: str
    alpha: float
    critical: float | None
    effects: dict[tuple[str, str], Effect]
    p_values: dict[tuple[str, str], float | None]
    reason: str | None = None


def many_to_one(
    arms: Mapping[str, Moments | Sample], baseline: str, *, alpha: float = 0.05, equal_variances: bool = False
) -> Simultaneous:
    """Compare every arm with ``baseline``: Dunnett's test, two-sided.

    With unequal variances each arm keeps its own, and the fewest of Satterthwaite's degrees of freedom count.
    """
    method = f"Dunnett, {'equal' if equal_variances else 'unequal'} variances"
    samples, reason = _samples(arms, alpha)
    if baseline not in arms:
        raise InvalidInput("baseline", baseline, f"must be one of {sorted(arms)}")
    others = [name for name in arms if name != baseline]
    if reason is not None:
        return _nothing(method, alpha, [(o, baseline) for o in others], reason)
    v, df = _error_variances(samples, equal=equal_variances)
    v_0 = v[baseline]
    error = np.array([math.sqrt(v[o] + v_0) for o in others])
    load = np.array([math.sqrt(v_0 / (v[o] + v_0)) for o in others])
    d = np.array([_estimate(samples[o]) - _estimate(samples[baseline]) for o in others])
    nu = df if equal_variances else min(_pair_df(samples, v, o, baseline) for o in others)

    def beyond(c: float) -> float:
        return 1.0 - _dunnett(c, load, nu)

    c = _quantile(beyond, alpha)
    keys = [(o, baseline) for o in others]
    return Simultaneous(
        method,
        alpha,
        c,
        {k: Effect(float(x), float(x - c * e), float(x + c * e)) for k, x, e in zip(keys, d, error, strict=True)},
        {k: max(0.0, beyond(abs(x) / e)) for k, x, e in zip(keys, d.tolist(), error.tolist(), strict=True)},
    )


def all_pairs(
    arms: Mapping[str, Moments | Sample], *, alpha: float = 0.05, equal_variances: bool = False
) -> Simultaneous:
    """Compare all pairs: Tukey-Kramer with equal variances, else Games-Howell. Keys are (later arm, earlier arm)."""
    method = "Tukey-Kramer" if equal_variances else "Games-Howell"
    samples, reason = _samples(arms, alpha)
    names = list(arms)
    keys = [(b, a) for i, a in enumerate(names) for b in names[i + 1 :]]
    if reason is not None:
        return _nothing(method, alpha, keys, reason)
    v, pooled_df = _error_variances(samples, equal=equal_variances)
    effects: dict[tuple[str, str], Effect] = {}
    p_values: dict[tuple[str, str], float | None] = {}
    critical: dict[float, float] = {}
    for t, c in keys:
        nu = pooled_df if equal_variances else _pair_df(samples, v, t, c)
        error, d = math.sqrt(v[t] + v[c]), _estimate(samples[t]) - _estimate(samples[c])

        def beyond(x: float, nu: float = nu) -> float:
            return 1.0 - _studentised_range(x * math.sqrt(2.0), len(names), nu)

        if nu not in critical:
            critical[nu] = _quantile(beyond, alpha)
        half = critical[nu] * error
        effects[t, c] = Effect(d, d - half, d + half)
        p_values[t, c] = max(0.0, beyond(abs(d) / error))
    return Simultaneous(method, alpha, next(iter(critical.values())) if equal_variances else None, effects, p_values)


def _samples(arms: Mapping[str, Moments | Sample], alpha: float) -> tuple[dict[str, Sample], str | None]:
    if len(arms) < 2:
        raise InvalidInput("arms", len(arms), "must be at least 2")
    if not 0.0 < alpha < 1.0:
        raise InvalidInput("alpha", alpha, "must lie between 0 and 1")
    samples: dict[str, Sample] = {}
    for name, arm in arms.items():
        if isinstance(arm, Sample):
            samples[name] = arm
        else:
            samples[name] = Sample.of_mean(arm) if arm.k == 1 else Sample.of_ratio(arm)
    for name, sample in samples.items():
        if sample.reason is not None:
            return samples, f"{name}: {sample.reason}"
    if any(sample.error_variance <= 0.0 for sample in samples.values()):
        return samples, "the values of an arm are all alike: its variance is 0"
    return samples, None


def _nothing(method: str, alpha: float, keys: list[tuple[str, str]], reason: str) -> Simultaneous:
    empty = Effect(reason=reason)
    return Simultaneous(method, alpha, None, dict.fromkeys(keys, empty), dict.fromkeys(keys), reason)


def _estimate(sample: Sample) -> float:
    assert sample.estimate is not None
    return sample.estimate


def _error_variances(samples: dict[str, Sample], *, equal: bool) -> tuple[dict[str, float], float]:
    if not equal:
        return {name: s.error_variance for name, s in samples.items()}, math.inf
    df = sum(s.df for s in samples.values())
    pooled = sum(s.df * s.error_variance * s.count for s in samples.values()) / df
    return {name: pooled / s.count for name, s in samples.items()}, df


def _pair_df(samples: dict[str, Sample], v: dict[str, float], a: str, b: str) -> float:
    share = v[a] / (v[a] + v[b])
    return 1.0 / (share * share / samples[a].df + (1.0 - share) ** 2 / samples[b].df)


def _deviations(nu: float) -> tuple[Floats, Floats]:
    """Return nodes and probability weights of a pooled deviation with ``nu`` degrees of freedom, chi / sqrt(nu)."""
    if nu > _DF_NORMAL:
        return np.ones(1), np.ones(1)
    spread = _REACH / math.sqrt(2.0 * nu)
    low, high = max(1e-10, 1.0 - spread), 1.0 + spread * (1.0 + 6.0 / nu)
    edges = np.linspace(low, high, 9)
    half = (edges[1] - edges[0]) / 2.0
    s = (edges[:-1, np.newaxis] + half * (_NODES + 1.0)).ravel()
    log_density = nu / 2.0 * math.log(nu / 2.0) + math.log(2.0) - float(gammaln(nu / 2.0))
    log_density = log_density + (nu - 1.0) * np.log(s) - nu * s * s / 2.0
    weight = np.exp(log_density) * np.tile(half * _WEIGHTS, 8)
    return s, weight / weight.sum()


def _dunnett(c: float, load: Floats, nu: float) -> float:
    """Return P(all |T_i| <= c)."""
    s, weight = _deviations(nu)
    rest = np.sqrt(np.maximum(_REST_MIN, 1.0 - load * load))
    centre = _Z[:, np.newaxis] * load
    inside = np.ones((len(s), len(_Z)))
    for i in range(len(load)):
        reach = np.outer(s, np.full(len(_Z), c))
        inside *= ndtr((reach + centre[:, i]) / rest[i]) - ndtr((-reach + centre[:, i]) / rest[i])
    return float(weight @ inside @ _Z_MASS)


def _studentised_range(q: float, k: int, nu: float) -> float:
    """Return P(range of ``k`` normals over their deviation <= q)."""
    s, weight = _deviations(nu)
    gap = ndtr(_Z[np.newaxis, :] + np.outer(s, np.full(len(_Z), q))) - ndtr(_Z)
    return float(weight @ (k * gap ** (k - 1)) @ _Z_MASS)


def _quantile(beyond: Callable[[float], float], alpha: float) -> float:
    """Return where the decreasing ``beyond`` is ``alpha``."""
    low, high = 0.0, 2.0
    while beyond(high) > alpha and high < _CRITICAL_MAX:
        low, high = high, 2.0 * high
    return solve(lambda c: beyond(c) - alpha, low, high, tolerance=1e-10)


_REST_MIN = 1e-10  # an arm whose error is nothing beside the baseline's
_REACH = 10.0
_DF_NORMAL = 1e6
_CRITICAL_MAX = 1e6
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(16)


def _normal_nodes() -> tuple[Floats, Floats]:
    edges = np.linspace(-9.0, 9.0, 19)
    z = (edges[:-1, np.newaxis] + (_NODES + 1.0) / 2.0).ravel()
    return z, np.exp(-0.5 * z * z) / math.sqrt(2.0 * math.pi) * np.tile(_WEIGHTS / 2.0, 18)


_Z, _Z_MASS = _normal_nodes()
