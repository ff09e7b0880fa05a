"""The Poisson bootstrap by unit: the general fallback, for means, ratios and quantiles.

Each unit gets a Poisson(1) weight in each replicate (Chamandy, Muralidharan, Najmi & Naidu 2012), made from a counter
so that the same seed and unit give the same weight on any machine, in any order. Intervals are percentiles of the
replicates and the p-value inverts them, so that they agree; both are rough below a few hundred units.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from groundswell.errors import InvalidInput
from groundswell.stats.results import Effect, Note

__all__ = ["Bootstrap", "bootstrap_means", "bootstrap_quantiles"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Bootstrap:
    """A bootstrap comparison. ``standard_error`` is of the absolute effect."""

    method: str
    absolute: Effect
    relative: Effect
    p_value: float | None
    standard_error: float | None
    alpha: float
    draws: int
    seed: int
    warnings: tuple[Note, ...] = ()
    reason: str | None = None


def bootstrap_means(
    treatment: ArrayLike,
    baseline: ArrayLike,
    *,
    treatment_keys: ArrayLike | None = None,
    baseline_keys: ArrayLike | None = None,
    alpha: float = 0.05,
    draws: int = 1_000,
    seed: int = 0,
) -> Bootstrap:
    """Compare means of per-unit values, shape (n,), or ratios of per-unit (numerator, denominator), shape (n, 2).

    ``*_keys`` are the units' own 64-bit identities (such as ``unit_hash``); by default their positions, arms apart.
    """
    _check(alpha, draws)
    parts = [_table("treatment", treatment), _table("baseline", baseline)]
    method = f"Poisson bootstrap by unit, {'ratio' if parts[0].shape[1] == 2 else 'mean'}"
    if parts[0].shape[1] != parts[1].shape[1]:
        raise InvalidInput("baseline", parts[1].shape, "must have the columns of the treatment")
    empty = [name for name, part in zip(("treatment", "baseline"), parts, strict=True) if len(part) < 2]
    if empty:
        return _nothing(method, f"{empty[0]}: fewer than 2 units", alpha, draws, seed)
    keys = [_keys(treatment_keys, len(parts[0]), 1), _keys(baseline_keys, len(parts[1]), 2)]
    drawn: list[Floats] = []
    whole: list[float] = []
    for part, key in zip(parts, keys, strict=True):
        y = np.ascontiguousarray(part[:, 0])
        x = np.ascontiguousarray(part[:, 1]) if part.shape[1] == 2 else np.ones(len(y))
        if x.sum() == 0.0:
            return _nothing(method, "the denominator sums to 0: there is nothing to divide by", alpha, draws, seed)
        sums_y, sums_x = _sums(y, x, key, draws, seed)
        whole.append(float(y.sum() / x.sum()))
        with np.errstate(divide="ignore", invalid="ignore"):
            drawn.append(sums_y / sums_x)
    return _told(method, whole, drawn, alpha, seed, units=min(map(len, parts)))


def bootstrap_quantiles(
    treatment: ArrayLike,
    baseline: ArrayLike,
    quantile: float,
    *,
    treatment_unit: ArrayLike | None = None,
    baseline_unit: ArrayLike | None = None,
    alpha: float = 0.05,
    draws: int = 1_000,
    seed: int = 0,
) -> Bootstrap:
    """Compare a quantile of values that come many to a unit; ``*_unit`` labels who each value belongs to."""
    from groundswell.stats.resampling_kernels import WEIGHTS, quantile_ranks, weights_of

    _check(alpha, draws)
    if not 0.0 < quantile < 1.0:
        raise InvalidInput("quantile", quantile, "must lie between 0 and 1")
    method = f"Poisson bootstrap by unit, {quantile:g} quantile"
    at = np.array([quantile])
    drawn: list[Floats] = []
    whole: list[float] = []
    fewest = len(np.asarray(treatment))
    for salt, values, unit in ((1, treatment, treatment_unit), (2, baseline, baseline_unit)):
        x = _table("values", values)[:, 0]
        code = np.arange(len(x)) if unit is None else np.unique(np.asarray(unit), return_inverse=True)[1]
        units = int(code.max()) + 1 if len(code) else 0
        if units < 2 or len(code) != len(x):
            return _nothing(method, "an arm has fewer than 2 units", alpha, draws, seed)
        fewest = min(fewest, units)
        order = np.argsort(x, kind="stable")
        ordered, sorted_code = x[order], np.ascontiguousarray(code[order], dtype=np.int64)
        keys = _keys(None, units, salt)
        out = np.empty(draws)

        def one(
            replicate: int,
            keys: NDArray[np.uint64] = keys,
            sorted_code: NDArray[np.int64] = sorted_code,
            ordered: Floats = ordered,
            out: Floats = out,
        ) -> None:
            weight, rank = np.empty(len(keys), dtype=np.uint8), np.zeros(1, dtype=np.int64)
            weights_of(keys, np.uint64(seed), WEIGHTS, replicate, weight)
            quantile_ranks(sorted_code, weight, at, rank)
            out[replicate] = ordered[rank[0]]

        _in_threads(one, draws)
        whole.append(float(ordered[max(0, int(np.ceil(quantile * len(x))) - 1)]))
        drawn.append(out)
    return _told(method, whole, drawn, alpha, seed, units=fewest)


def _sums(y: Floats, x: Floats, keys: NDArray[np.uint64], draws: int, seed: int) -> tuple[Floats, Floats]:
    """Return each replicate's weighted sums; chunks are fixed, so that the number of threads changes no digit."""
    from groundswell.stats.resampling_kernels import WEIGHTS, weighted_sums

    padded = -(-draws // 4) * 4
    edges = np.linspace(0, len(y), min(_CHUNKS, len(y)) + 1).astype(np.int64)
    sums = np.zeros((len(edges) - 1, 2, padded))

    def one(i: int) -> None:
        part = slice(int(edges[i]), int(edges[i + 1]))
        weighted_sums(np.stack([y[part], x[part]]), keys[part], np.uint64(seed), WEIGHTS, sums[i])

    _in_threads(one, len(sums))
    total = sums.sum(axis=0)
    return total[0, :draws], total[1, :draws]


def _in_threads(work: Callable[[int], None], times: int) -> None:
    with ThreadPoolExecutor(max_workers=min(_THREADS_MAX, os.cpu_count() or 1)) as pool:
        for _ in pool.map(work, range(times)):
            pass


def _told(method: str, whole: list[float], drawn: list[Floats], alpha: float, seed: int, *, units: int) -> Bootstrap:
    d = drawn[0] - drawn[1]
    usable = np.isfinite(d)
    if not usable.all():
        reason = "some replicates have no unit to divide by: there are too few units for a bootstrap"
        return _nothing(method, reason, alpha, len(d), seed)
    draws = len(d)
    low, high = _percentiles(d, alpha)
    estimate = whole[0] - whole[1]
    with np.errstate(divide="ignore", invalid="ignore"):
        lift = d / np.abs(drawn[1])
    if whole[1] == 0.0:
        relative = Effect(reason="the baseline is 0: there is nothing to be relative to")
    elif not np.isfinite(lift).all() or (np.sign(drawn[1]) != np.sign(whole[1])).any():
        relative = Effect(
            estimate / abs(whole[1]), reason="the baseline is not clearly different from 0: the lift is unbounded"
        )
    else:
        relative = Effect(estimate / abs(whole[1]), *_percentiles(lift, alpha))
    extreme = min(int((d <= 0.0).sum()), int((d >= 0.0).sum()))
    p = min(1.0, 2.0 * (extreme + 1) / (draws + 1))
    notes: tuple[Note, ...] = ()
    if units < _UNITS_FEW:
        notes = (
            Note("few-units", f"{units} units in the smaller arm: a bootstrap interval is too narrow by some percent"),
        )
    if d.std() == 0.0:
        return _nothing(method, "no unit differs from another in either arm", alpha, draws, seed)
    return Bootstrap(method, Effect(estimate, low, high), relative, p, float(d.std(ddof=1)), alpha, draws, seed, notes)


def _percentiles(d: Floats, alpha: float) -> tuple[float, float]:
    """Return the order statistics that agree with the p-value: (draws + 1) alpha / 2 from each end."""
    ordered = np.sort(d)
    k = max(1, int(np.floor((len(d) + 1) * alpha / 2.0)))
    return float(ordered[k - 1]), float(ordered[-k])


def _table(name: str, values: ArrayLike) -> Floats:
    x = np.asarray(values, dtype=np.float64)
    x = x[:, np.newaxis] if x.ndim == 1 else x
    if x.ndim != 2 or x.shape[1] not in (1, 2):
        raise InvalidInput(name, x.shape, "must have shape (n,), or (n, 2) for a ratio")
    if not np.isfinite(x).all():
        raise InvalidInput(name, float(x[~np.isfinite(x)][0]), "must be finite")
    return x


def _keys(keys: ArrayLike | None, n: int, salt: int) -> NDArray[np.uint64]:
    if keys is None:
        return np.arange(n, dtype=np.uint64) | np.uint64(salt << 62)
    found = np.asarray(keys)
    if found.shape != (n,) or found.dtype.kind not in "iu":
        raise InvalidInput("keys", (found.shape, str(found.dtype)), f"must be {n} integers")
    return np.ascontiguousarray(found).astype(np.uint64)


def _nothing(method: str, reason: str, alpha: float, draws: int, seed: int) -> Bootstrap:
    empty = Effect(reason=reason)
    return Bootstrap(method, empty, empty, None, None, alpha, draws, seed, (), reason)


def _check(alpha: float, draws: int) -> None:
    if not 0.0 < alpha < 1.0:
        raise InvalidInput("alpha", alpha, "must lie between 0 and 1")
    if not _DRAWS_MIN <= draws <= _DRAWS_MAX:
        raise InvalidInput("draws", draws, f"must be between {_DRAWS_MIN} and {_DRAWS_MAX:,}")


_CHUNKS = 64
_THREADS_MAX = 16
_DRAWS_MIN = 100
_DRAWS_MAX = 100_000
_UNITS_FEW = 200
