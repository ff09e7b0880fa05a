"""Units that come in clusters: randomised by household, measured by person.

Everything is computed from cluster totals and sizes, so that nothing finer need be kept.

Formulas
    variance: CR2, cluster residual over the root of one minus its leverage (Bell & McCaffrey 2002)
    degrees of freedom: Satterthwaite's, under equal independent errors (the same; Imbens & Kolesar 2016)
    few clusters: wild cluster bootstrap with the null imposed (Cameron, Gelbach & Miller 2008): Rademacher weights,
    every sign pattern where there are few; Webb's (2014) six points below a dozen clusters; intervals invert the test
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from groundswell.errors import InvalidInput
from groundswell.stats.results import Effect, Note
from groundswell.stats.roots import solve
from groundswell.stats.samples import Pair, Sample

__all__ = ["Clusters", "WildBootstrap", "clustered", "wild_bootstrap"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Clusters:
    """An arm's clusters: the metric's ``totals`` and the number of units, ``sizes``, in each; shape (clusters,)."""

    totals: Floats
    sizes: Floats

    @classmethod
    def of(cls, totals: ArrayLike, sizes: ArrayLike) -> Clusters:
        """Check and return clusters; those without units are left out.

        Raises:
            InvalidInput: the shapes differ, or a number is not finite, or a size is negative.
        """
        t, n = np.asarray(totals, dtype=np.float64), np.asarray(sizes, dtype=np.float64)
        if t.shape != n.shape or t.ndim != 1:
            raise InvalidInput("sizes", n.shape, f"must have the shape of totals, {t.shape}, one number a cluster")
        if not (np.isfinite(t).all() and np.isfinite(n).all()):
            raise InvalidInput("totals", "NaN or infinite", "must be finite")
        if (n < 0).any():
            raise InvalidInput("sizes", float(n.min()), "must be >= 0")
        if (t[n == 0] != 0).any():
            raise InvalidInput("totals", float(t[n == 0].max()), "must be 0 in a cluster without units")
        return cls(t[n > 0], n[n > 0])

    @classmethod
    def of_values(cls, values: ArrayLike, cluster: ArrayLike) -> Clusters:
        """Return clusters from one value a unit and the label of its cluster."""
        labels, index = np.unique(np.asarray(cluster), return_inverse=True)
        x = np.asarray(values, dtype=np.float64)
        if x.shape != index.shape:
            raise InvalidInput("cluster", index.shape, f"must have the shape of values, {x.shape}")
        k = len(labels)
        return cls.of(np.bincount(index, x, k), np.bincount(index, minlength=k))

    @property
    def mean(self) -> float:
        """Mean over units."""
        return float(self.totals.sum() / self.sizes.sum())


def clustered(treatment: Clusters, baseline: Clusters) -> Pair:
    """Return two arms of clusters for ``contrast``: CR2 variance, Bell & McCaffrey's degrees of freedom."""
    arms = [_arm(treatment), _arm(baseline)]
    samples = [arm.sample for arm in arms]
    if any(sample.reason for sample in samples):
        return Pair(samples[0], samples[1])
    trace = sum(arm.trace for arm in arms)
    df = trace * trace / sum(arm.trace_of_square for arm in arms)
    few = min(len(treatment.sizes), len(baseline.sizes))
    notes: tuple[Note, ...] = ()
    if few < _CLUSTERS_FEW:
        text = f"an arm has {few} clusters only: check the result by wild_bootstrap, or randomise finer units"
        notes = (Note("few-clusters", text),)
    return Pair(
        samples[0],
        samples[1],
        parts=tuple((s.error_variance, s.df) for s in samples),
        df=df,
        adjustment="errors clustered by the randomised unit (CR2), Bell-McCaffrey degrees of freedom",
        notes=notes,
    )


@dataclass(frozen=True, slots=True)
class WildBootstrap:
    """A test by resampling signs of clusters. ``draws`` is how many patterns were used, ``exhaustive`` whether all."""

    method: str
    absolute: Effect
    p_value: float | None
    alpha: float
    draws: int
    exhaustive: bool
    seed: int | None
    reason: str | None = None


def wild_bootstrap(
    treatment: Clusters, baseline: Clusters, *, alpha: float = 0.05, draws: int = 9_999, seed: int = 0
) -> WildBootstrap:
    """Test the difference of two clustered arms by the wild cluster bootstrap; the interval inverts the same test."""
    if not 0.0 < alpha < 1.0:
        raise InvalidInput("alpha", alpha, "must lie between 0 and 1")
    if not 99 <= draws <= _DRAWS_MAX:
        raise InvalidInput("draws", draws, f"must be between 99 and {_DRAWS_MAX:,}")
    g = len(treatment.sizes) + len(baseline.sizes)
    if min(len(treatment.sizes), len(baseline.sizes)) < 2:
        reason = "an arm has fewer than 2 clusters: its variance is unknown"
        return WildBootstrap("wild cluster bootstrap", Effect(reason=reason), None, alpha, 0, False, None, reason)
    weights, name, exhaustive = _weights(g, draws, seed)
    d = treatment.mean - baseline.mean
    error = math.sqrt(sum(_arm(arm).sample.error_variance for arm in (treatment, baseline)))
    if error == 0.0:
        reason = "no cluster differs from another in either arm: the variance is 0"
        return WildBootstrap(name, Effect(d, reason=reason), None, alpha, 0, False, None, reason)

    def p(null: float) -> float:
        return _p_value(treatment, baseline, null, weights)

    reach = error * 4.0
    while min(p(d - reach), p(d + reach)) > alpha and reach < error * _REACH_MAX:
        reach *= 2.0
    if min(p(d - reach), p(d + reach)) > alpha:
        effect = Effect(d, reason="too few clusters to bound the effect at this level")
    else:
        low = solve(lambda x: p(x) - alpha, d - reach, d, tolerance=1e-6)
        high = solve(lambda x: p(x) - alpha, d, d + reach, tolerance=1e-6)
        effect = Effect(d, low, high)
    return WildBootstrap(name, effect, p(0.0), alpha, len(weights), exhaustive, None if exhaustive else seed)


@dataclass(frozen=True, slots=True)
class _Arm:
    sample: Sample
    trace: float
    trace_of_square: float


def _arm(clusters: Clusters) -> _Arm:
    """Return an arm's CR2 variance and the traces that its degrees of freedom need."""
    g = len(clusters.sizes)
    if g < 2:
        reason = "no unit in this arm" if g == 0 else "one cluster only: a variance needs two"
        estimate = None if g == 0 else clusters.mean
        return _Arm(Sample(g, estimate, None, kind="clustered mean", reason=reason), 0.0, 0.0)
    n, units = clusters.sizes, float(clusters.sizes.sum())
    residual = clusters.totals - n * clusters.mean
    leverage = n / units
    variance = float((residual * residual / (1.0 - leverage)).sum()) / units**2
    w = n * n / (1.0 - leverage)
    square = float((n * n).sum()) / units**4 + (float(w.sum()) ** 2 - float((w * w).sum())) / units**6
    trace = 1.0 / units
    sample = Sample(g, clusters.mean, variance * g, trace * trace / square, kind="clustered mean")
    return _Arm(sample, trace, square)


def _weights(clusters: int, draws: int, seed: int) -> tuple[Floats, str, bool]:
    if 2**clusters <= draws + 1:
        every = np.array(list(itertools.product((-1.0, 1.0), repeat=clusters)))
        # below a dozen clusters the signs take too few values; Webb's six points take many more
        if clusters >= _WEBB_BELOW:
            return every, "wild cluster bootstrap, every sign pattern", True
    rng = np.random.default_rng(seed)
    if clusters < _WEBB_BELOW:
        points = np.array([-math.sqrt(1.5), -1.0, -math.sqrt(0.5), math.sqrt(0.5), 1.0, math.sqrt(1.5)])
        return points[rng.integers(0, 6, (draws, clusters))], "wild cluster bootstrap, Webb weights", False
    signs = np.where(rng.integers(0, 2, (draws, clusters)) == 0, -1.0, 1.0)
    return signs, "wild cluster bootstrap, Rademacher weights", False


def _p_value(treatment: Clusters, baseline: Clusters, null: float, weights: Floats) -> float:
    """Return the share of sign patterns whose t is as large as the observed one, under a difference of ``null``."""
    n = np.concatenate([treatment.sizes, baseline.sizes])
    totals = np.concatenate([treatment.totals - null * treatment.sizes, baseline.totals])
    k = len(treatment.sizes)
    residual = totals - n * (totals.sum() / n.sum())
    observed = _t(residual[np.newaxis, :], n, k)[0]
    drawn = _t(weights * residual, n, k)
    extreme = np.abs(drawn) >= abs(observed) * (1.0 - 1e-12)
    return float((extreme.sum() + 1) / (len(weights) + 1))


def _t(totals: Floats, n: Floats, k: int) -> Floats:
    """Return t (CR1) of each row of cluster totals; the first ``k`` clusters are the treatment's."""
    d = np.zeros(len(totals))
    v = np.zeros(len(totals))
    for sign, part in ((1.0, slice(None, k)), (-1.0, slice(k, None))):
        size = n[part]
        units = size.sum()
        mean = totals[:, part].sum(axis=1) / units
        residual = totals[:, part] - size * mean[:, np.newaxis]
        v += (residual * residual).sum(axis=1) / units**2 * len(size) / (len(size) - 1)
        d += sign * mean
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(v > 0.0, d / np.sqrt(v), np.where(d == 0.0, 0.0, np.inf))


_CLUSTERS_FEW = 20
_WEBB_BELOW = 12
_DRAWS_MAX = 999_999
_REACH_MAX = 4_096.0
