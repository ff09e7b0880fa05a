"""Can the experiment be trusted at all?

Formulas
    a segment or a day explains a broken split where the rest, without it, is whole; all are corrected together (Holm)
    Twyman's law: an effect that the prior finds incredible is more likely a bug
    novelty and primacy: slope of the daily effect over days since exposure, with the covariance of a unit's days
    (a contrast of the arms' daily means, so that nothing is assumed about correlation)
    interaction of two experiments: difference of differences over the cells of their crossing
    A/A: the user's own units split at random many times; the p-values must be uniform
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import betainc, chdtrc, kolmogorov, ndtr, stdtr

from groundswell import limits
from groundswell.errors import InvalidInput
from groundswell.model.moments import Moments
from groundswell.stats.batches import Batch, compare_many
from groundswell.stats.contrasts import Settings
from groundswell.stats.multiplicity import adjust_p_values
from groundswell.stats.posteriors import Prior
from groundswell.stats.results import Comparison, Effect, Note
from groundswell.stats.sample_ratios import sample_ratio

__all__ = [
    "AATest",
    "Interaction",
    "SplitCause",
    "Trend",
    "aa_test",
    "explain_split",
    "interaction",
    "multiple_exposure",
    "pre_period",
    "trend",
    "twyman",
]

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class SplitCause:
    """A segment whose split is broken: its adjusted p-value, its counts, and whether the rest is whole without it."""

    dimension: str
    value: str
    p_value: float
    observed: dict[str, int]
    rest_is_whole: bool


def explain_split(
    counts: Mapping[str, Mapping[str, Mapping[str, int]]],
    weights: Mapping[str, float],
    *,
    alarm: float = limits.srm_alarm_p,
) -> list[SplitCause]:
    """Return the segments, or days, that explain a broken split, most telling first.

    ``counts`` is dimension -> value -> variant -> units. P-values are corrected over everything searched (Holm).
    """
    found: list[tuple[str, str, float, dict[str, int], float | None]] = []
    for dimension, values in counts.items():
        whole = {v: sum(cell.get(v, 0) for cell in values.values()) for v in weights}
        for value, cell in values.items():
            here = {v: cell.get(v, 0) for v in weights}
            p = sample_ratio(here, weights, alarm=alarm).p_value
            if p is None:
                continue
            rest = {v: whole[v] - here[v] for v in weights}
            found.append((dimension, value, p, here, sample_ratio(rest, weights, alarm=alarm).p_value))
    adjusted = adjust_p_values([p for _, _, p, _, _ in found], "holm").tolist()
    causes = [
        SplitCause(d, v, p, here, rest is None or rest >= alarm)
        for (d, v, _, here, rest), p in zip(found, adjusted, strict=True)
        if p < alarm
    ]
    return sorted(causes, key=lambda cause: (not cause.rest_is_whole, cause.p_value))


def pre_period(comparisons: Mapping[str, Comparison], *, alpha: float = 0.001) -> tuple[Note, ...]:
    """Warn of metrics that differed before exposure, corrected over all of them (Holm): the split was not at random."""
    known = {name: c.p_value for name, c in comparisons.items() if c.p_value is not None}
    adjusted = adjust_p_values(list(known.values()), "holm").tolist()
    return tuple(
        Note(
            "pre-period-imbalance",
            f"{name} differed before exposure already (adjusted p = {p:.2g}): look for a broken split or a bot, "
            "then adjust for it",
        )
        for name, p in zip(known, adjusted, strict=True)
        if p < alpha
    )


def twyman(comparison: Comparison, prior: Prior | None = None, *, incredible: float = 1e-3) -> Note | None:
    """Return a warning where the relative effect is larger than ``prior`` can believe; by default of sd 10%.

    The estimate's own error widens what is credible, so that noise is no miracle.
    """
    effect, error = comparison.relative, comparison.standard_error
    believed = prior or Prior(0.0, 0.1, "relative", "most effects are below 10%")
    if effect.estimate is None or error is None or not comparison.baseline.estimate or believed.sd is None:
        return None
    spread = math.hypot(believed.sd, error / abs(comparison.baseline.estimate))
    chance = 2.0 * float(ndtr(-abs(effect.estimate - believed.mean) / spread))
    if chance >= incredible:
        return None
    text = f"a lift of {effect.estimate:+.0%} would come up once in {1 / max(chance, 1e-300):.3g} such experiments: "
    return Note(
        "twyman", text + "any figure that looks interesting is usually wrong; check logging before believing it"
    )


def multiple_exposure(seen_in_two: int, units: int, *, share_max: float = 0.001) -> Note | None:
    """Return a warning where more than ``share_max`` of the units saw two variants."""
    if not 0 <= seen_in_two <= units:
        raise InvalidInput("seen_in_two", seen_in_two, f"must be between 0 and units ({units})")
    if units == 0 or seen_in_two <= share_max * units:
        return None
    text = f"{seen_in_two:,} of {units:,} units ({seen_in_two / units:.2%}) saw two variants and are excluded: "
    return Note("multiple-exposure", text + "check that assignment is sticky and identities are not shared")


@dataclass(frozen=True, slots=True)
class Trend:
    """The slope of the daily effect. ``kind`` is novelty (fading), primacy (growing) or steady."""

    kind: str
    slope: Effect
    p_value: float | None
    daily: tuple[Effect, ...]
    reason: str | None = None


def trend(treatment: Moments, baseline: Moments, *, alpha: float = 0.05) -> Trend:
    """Test whether the effect changes over days since exposure.

    Variable j of the moments is a unit's value on its j-th day; all units must have had all days.
    """
    k = treatment.k
    if k != baseline.k or k < 2:
        raise InvalidInput("moments.k", (k, baseline.k), "must be the same number of days, at least 2")
    if min(treatment.count, baseline.count) < 2:
        reason = "an arm has fewer than 2 units that have had all days"
        return Trend("unknown", Effect(reason=reason), None, (), reason)
    days = np.arange(k) - (k - 1) / 2.0
    weight = days / float(days @ days)
    d = (treatment.mean - baseline.mean) + (treatment.mean_low - baseline.mean_low)
    parts = [m.covariance() / m.count for m in (treatment, baseline)]
    v = parts[0] + parts[1]
    slope, variance = float(weight @ d), float(weight @ v @ weight)
    q = Settings(alpha=alpha).normal_quantile
    daily = tuple(
        Effect(float(x), float(x - q * s), float(x + q * s)) for x, s in zip(d, np.sqrt(np.diag(v)), strict=True)
    )
    if not variance > 0.0:
        reason = "the daily values do not vary: there is no slope to test"
        return Trend("unknown", Effect(reason=reason), None, daily, reason)
    shares = [float(weight @ p @ weight) / variance for p in parts]
    df = 1.0 / (shares[0] ** 2 / (treatment.count - 1) + shares[1] ** 2 / (baseline.count - 1))
    z = slope / math.sqrt(variance)
    p = 2.0 * float(stdtr(df, -abs(z)))
    half = q * math.sqrt(variance)
    kind = "steady" if p > alpha else ("primacy" if slope * float(d.mean()) > 0.0 else "novelty")
    return Trend(kind, Effect(slope, slope - half, slope + half), p, daily)


@dataclass(frozen=True, slots=True)
class Interaction:
    """Does one experiment change the other's effect? ``effects`` are differences of differences, by pair of arms."""

    p_value: float | None
    statistic: float | None
    degrees_of_freedom: int
    effects: dict[tuple[str, str], Effect]
    reason: str | None = None


def interaction(
    cells: Mapping[tuple[str, str], Moments], baselines: tuple[str, str], *, alpha: float = 0.05
) -> Interaction:
    """Test the interaction of two experiments from the moments (k = 1) of each pair (arm of one, arm of the other)."""
    first = [a for a in dict.fromkeys(a for a, _ in cells) if a != baselines[0]]
    second = [b for b in dict.fromkeys(b for _, b in cells) if b != baselines[1]]
    needed = [(a, b) for a in (baselines[0], *first) for b in (baselines[1], *second)]
    missing = [cell for cell in needed if cell not in cells]
    if missing or not first or not second:
        raise InvalidInput("cells", sorted(cells), f"must hold every pair of arms; missing: {missing}")
    if any(cells[cell].count < 2 for cell in needed):
        reason = "a pair of arms has fewer than 2 units"
        return Interaction(None, None, 0, {}, reason)
    means = np.array([float(cells[c].mean[0]) for c in needed])
    variances = np.array([float(cells[c].covariance()[0, 0]) / cells[c].count for c in needed])
    at = {cell: i for i, cell in enumerate(needed)}
    rows: list[Floats] = []
    keys = [(a, b) for a in first for b in second]
    for a, b in keys:
        row = np.zeros(len(needed))
        row[at[a, b]] = row[at[baselines]] = 1.0
        row[at[a, baselines[1]]] = row[at[baselines[0], b]] = -1.0
        rows.append(row)
    contrast = np.array(rows)
    d, v = contrast @ means, contrast @ np.diag(variances) @ contrast.T
    if np.linalg.matrix_rank(v) < len(d):
        reason = "some cells do not vary: there is nothing to test against"
        return Interaction(None, None, 0, {}, reason)
    statistic = float(d @ np.linalg.solve(v, d))
    q = Settings(alpha=alpha).normal_quantile
    effects = {
        key: Effect(float(x), float(x - q * s), float(x + q * s))
        for key, x, s in zip(keys, d, np.sqrt(np.diag(v)), strict=True)
    }
    return Interaction(float(chdtrc(len(d), statistic)), statistic, len(d), effects)


@dataclass(frozen=True, slots=True)
class AATest:
    """An A/A test on the user's own units.

    Attributes:
        false_alarms: share of splits with p <= alpha, with the exact interval of what alpha itself would give.
        uniform_p: Kolmogorov-Smirnov p-value that the p-values are uniform.
        ok: neither says that the test errs.
    """

    splits: int
    alpha: float
    false_alarms: Effect
    uniform_p: float
    ok: bool
    seed: int
    warnings: tuple[Note, ...]


def aa_test(
    values: ArrayLike, *, share: float = 0.5, splits: int = 1_000, alpha: float = 0.05, seed: int = 0
) -> AATest:
    """Split per-unit values, shape (n,) or (n, 2) for a ratio, at random ``splits`` times and test each split.

    Whatever is wrong with the metric's analysis (clustered units, heavy tails) shows as too many false alarms.
    """
    table = np.asarray(values, dtype=np.float64)
    table = table[:, np.newaxis] if table.ndim == 1 else table
    if table.ndim != 2 or table.shape[1] not in (1, 2) or not np.isfinite(table).all():
        raise InvalidInput("values", table.shape, "must be finite numbers of shape (n,) or (n, 2)")
    if not 0.0 < share < 1.0:
        raise InvalidInput("share", share, "must lie between 0 and 1")
    if not 100 <= splits <= 100_000:
        raise InvalidInput("splits", splits, "must be between 100 and 100,000")
    n, k = table.shape
    if n * min(share, 1.0 - share) < 2.0:
        raise InvalidInput("values", n, "must hold at least 2 units an arm")
    treatment, baseline = _random_splits(table, share, splits, seed)
    p = compare_many(treatment, baseline, Settings(alpha=alpha)).p_value
    p = np.sort(p[np.isfinite(p)])
    if len(p) < splits // 2:
        raise InvalidInput("values", k, "must vary: half of the splits could not be tested")
    m = len(p)
    alarms = int((p <= alpha).sum())
    rank = np.arange(1, m + 1) / m
    distance = float(max((rank - p).max(), (p - rank + 1.0 / m).max()))
    uniform = float(kolmogorov(distance * math.sqrt(m)))
    # the chance under alpha of at least, and of at most, so many alarms
    at_least = float(betainc(alarms, m - alarms + 1, alpha)) if alarms else 1.0
    at_most = 1.0 - float(betainc(alarms + 1, m - alarms, alpha)) if alarms < m else 1.0
    notes: list[Note] = []
    if at_least < _AA_ALARM:
        text = f"{alarms / m:.1%} of A/A splits are called at alpha {alpha:g}: this metric calls too often;"
        notes.append(Note("too-many-false-alarms", f"{text} check the unit of analysis, winsorise, or bootstrap"))
    if at_most < _AA_ALARM:
        text = f"only {alarms / m:.1%} of A/A splits are called at alpha {alpha:g}: the test is timid on this metric"
        notes.append(Note("too-few-false-alarms", text))
    half = Settings(alpha=0.05).normal_quantile * math.sqrt(alpha * (1.0 - alpha) / m)
    effect = Effect(alarms / m, alarms / m - half, alarms / m + half)
    ok = not notes and uniform >= _AA_ALARM
    return AATest(m, alpha, effect, uniform, ok, seed, tuple(notes))


def _random_splits(table: Floats, share: float, splits: int, seed: int) -> tuple[Batch, Batch]:
    """Return both arms' moments of every split, by matrix products over blocks of units."""
    n, k = table.shape
    centre = table.mean(axis=0)
    x = table - centre
    columns = np.column_stack([np.ones(n), x, *(x[:, i] * x[:, j] for i in range(k) for j in range(i, k))])
    rng = np.random.default_rng(seed)
    sums = np.zeros((splits, columns.shape[1]))
    for start in range(0, n, _BLOCK):
        block = columns[start : start + _BLOCK]
        chosen = rng.random((splits, len(block)), dtype=np.float32) < share
        sums += chosen.astype(np.float64) @ block
    whole = columns.sum(axis=0)
    return _batch(sums, k, centre), _batch(whole - sums, k, centre)


def _batch(sums: Floats, k: int, centre: Floats) -> Batch:
    count = sums[:, 0]
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = sums[:, 1 : k + 1] / count[:, np.newaxis]
        m2 = np.empty((len(count), k, k))
        at = k + 1
        for i in range(k):
            for j in range(i, k):
                m2[:, i, j] = m2[:, j, i] = sums[:, at] - count * mean[:, i] * mean[:, j]
                at += 1
    return Batch.of(count, mean + centre, m2)


_AA_ALARM = 0.001
_BLOCK = 4_096
