"""Quantiles of values that come many to a unit: latency by request, randomised by person.

Formulas
    outer interval (Deng, Knoblich & Lu 2018): the share of values below the quantile is a ratio metric over units; its
    standard error, by the delta method, says how far up and down the order statistics the interval reaches, and a
    twentieth of those on either side is no assumption about the density
    jackknife: leave out one bucket of units at a time; consistent for quantiles as buckets grow (Shao & Wu 1989)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri

from groundswell.errors import InvalidInput
from groundswell.stats.results import Note
from groundswell.stats.samples import Sample

__all__ = ["quantile_samples"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def quantile_samples(
    values: ArrayLike,
    quantiles: Sequence[float],
    *,
    unit: ArrayLike | None = None,
    method: Literal["outer", "jackknife"] = "outer",
    buckets: int = 100,
) -> list[Sample]:
    """Return one arm's quantiles, each a ``Sample`` for ``compare``; exact order statistics, one sort for all.

    ``unit`` labels who each value belongs to (small non-negative integers are fastest); None is one value a unit.

    >>> from groundswell.stats import compare
    >>> slow = quantile_samples(list(range(1, 1001)), [0.5, 0.99])
    >>> fast = quantile_samples(list(range(0, 500)), [0.5, 0.99])
    >>> compare(slow[0], fast[0]).absolute.estimate
    251.0
    """
    x = np.asarray(values, dtype=np.float64)
    _check(x, quantiles, buckets)
    code, units = _codes(unit, len(x))
    if len(x) == 0:
        return [Sample(0, None, None, kind="quantile", reason="no value in this arm") for _ in quantiles]
    if units < 2:
        return [Sample(units, None, None, kind="quantile", reason="one unit only: a variance needs two")] * len(
            quantiles
        )
    if method == "jackknife":
        order = np.argsort(x, kind="stable")
        return [_jackknife(x[order], code[order], units, q, buckets) for q in quantiles]
    events = np.bincount(code, minlength=units).astype(np.float64)
    ordered = np.sort(x)
    return [_outer(x, ordered, code, events, q) for q in quantiles]


def _outer(x: Floats, ordered: Floats, code: Ints, events: Floats, q: float) -> Sample:
    n, units = len(x), len(events)
    rank = min(n - 1, max(0, math.ceil(q * n) - 1))
    estimate = float(ordered[rank])
    below = np.bincount(code[x <= estimate], minlength=units)
    # variance of sum(below) / sum(events) about the share q, by the delta method
    residual = below - (below.sum() / n) * events
    error = math.sqrt(float(residual @ residual) * units / (units - 1.0)) / n
    if error == 0.0:
        top = rank == n - 1 and ordered[0] < ordered[-1]
        reason = _few("above", q, "lower") if top else _ALL_ALIKE
        return Sample(units, estimate, None, kind="quantile", reason=reason)
    reach = error * _Z
    low, high = math.floor((q - reach) * n), math.ceil((q + reach) * n)
    if high >= n:
        return Sample(units, estimate, None, kind="quantile", reason=_few("above", q, "lower"))
    if low < 1:
        return Sample(units, estimate, None, kind="quantile", reason=_few("below", q, "higher"))
    lower, upper = float(ordered[low - 1]), float(ordered[high])
    notes: tuple[Note, ...] = ()
    if not lower < estimate < upper:
        lower, upper = _neighbours(ordered, estimate, lower, upper)
        notes = (_TIED,)
    if upper <= lower:
        return Sample(units, estimate, None, kind="quantile", reason=_ALL_ALIKE)
    half = (upper - lower) / (2.0 * _Z)
    return Sample(units, estimate, half * half * units, units - 1.0, kind="quantile", notes=notes)


def _few(side: str, q: float, other: str) -> str:
    return f"too few values lie {side} the {q:g} quantile to bound it: wait for more, or ask for a {other} one"


def _neighbours(ordered: Floats, estimate: float, lower: float, upper: float) -> tuple[float, float]:
    """Return the next values that differ from a tied quantile, so that a tie is not taken for certainty."""
    if lower >= estimate:
        i = int(np.searchsorted(ordered, estimate, side="left"))
        lower = float(ordered[i - 1]) if i > 0 else estimate
    if upper <= estimate:
        i = int(np.searchsorted(ordered, estimate, side="right"))
        upper = float(ordered[i]) if i < len(ordered) else estimate
    return lower, upper


def _jackknife(ordered: Floats, code: Ints, units: int, q: float, buckets: int) -> Sample:
    n = len(ordered)
    b = min(buckets, units)
    # neighbours in code are spread over buckets by a multiplicative hash, whatever order units came in
    bucket = ((code.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(33)) % np.uint64(b)
    bucket = bucket.astype(np.int64)
    rank = min(n - 1, max(0, math.ceil(q * n) - 1))
    size, below = np.bincount(bucket, minlength=b), np.bincount(bucket[: rank + 1], minlength=b)
    used = [j for j in range(b) if 0 < size[j] < n]
    if len(used) < 2:
        return Sample(units, float(ordered[rank]), None, kind="quantile", reason="too few buckets of units hold values")
    left = np.empty(len(used))
    for k, j in enumerate(used):
        others = n - int(size[j])
        target = min(others - 1, max(0, math.ceil(q * others) - 1))
        left[k] = ordered[_index_without(bucket, j, rank, target + 1 - (rank + 1 - int(below[j])))]
    variance = (len(used) - 1.0) / len(used) * float(((left - left.mean()) ** 2).sum())
    if variance <= 0.0:
        return Sample(units, float(ordered[rank]), None, kind="quantile", reason=_ALL_ALIKE)
    return Sample(units, float(ordered[rank]), variance * units, len(used) - 1.0, kind="quantile")


def _index_without(bucket: Ints, j: int, rank: int, steps: int) -> int:
    """Return the index that is ``steps`` values not in bucket ``j`` after ``rank``; 0 is the last one up to it."""
    if steps > 0:
        window = 4 * steps + 64
        while True:
            others = np.flatnonzero(bucket[rank + 1 : rank + 1 + window] != j)
            if len(others) >= steps:
                return rank + 1 + int(others[steps - 1])
            window *= 2
    # the last value at or before ``rank`` that is not the bucket's, and -steps before that
    back = -steps
    window = 4 * back + 64
    while True:
        start = max(0, rank + 1 - window)
        others = np.flatnonzero(bucket[start : rank + 1] != j)
        if len(others) > back:
            return start + int(others[len(others) - 1 - back])
        window *= 2


def _codes(unit: ArrayLike | None, n: int) -> tuple[Ints, int]:
    if unit is None:
        return np.arange(n), n
    labels = np.asarray(unit)
    if labels.shape != (n,):
        raise InvalidInput("unit", labels.shape, f"must have the shape of values, ({n},)")
    if n and labels.dtype.kind in "iu" and int(labels.min()) >= 0 and int(labels.max()) < max(4 * n, _CODES_MIN):
        seen = np.bincount(labels) > 0
        if seen.all():
            return labels.astype(np.int64, copy=False), len(seen)
        return (np.cumsum(seen) - 1)[labels], int(seen.sum())
    found, code = np.unique(labels, return_inverse=True)
    return code.astype(np.int64), len(found)


def _check(x: Floats, quantiles: Sequence[float], buckets: int) -> None:
    if x.ndim != 1:
        raise InvalidInput("values", x.shape, "must be one-dimensional")
    if not np.isfinite(x).all():
        raise InvalidInput("values", float(x[~np.isfinite(x)][0]), "must be finite")
    for q in quantiles:
        if not 0.0 < q < 1.0:
            raise InvalidInput("quantiles", q, "must lie between 0 and 1")
    if not 10 <= buckets <= 10_000:
        raise InvalidInput("buckets", buckets, "must be between 10 and 10,000")


_Z = -float(ndtri(0.025))
_CODES_MIN = 1_000_000
_ALL_ALIKE = "the values around this quantile are all alike: it has no variance to compare by"
_TIED = Note(
    "tied-quantile",
    "many values equal this quantile: its error comes from the neighbouring values, which is wide; use a finer measure",
)
