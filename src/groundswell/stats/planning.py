"""Before the experiment: how many units, how small an effect, how much power, how long.

Formulas
    fixed look: the noncentral t with Satterthwaite's degrees of freedom; beyond ten thousand of them the normal
    always-valid: the same, with the interval's own reach at that number of units in place of the quantile (the power
    at that look; over all looks up to it, it is larger)
    group sequential: the fixed test's information times the plan's inflation
    covariates, strata: the variance times one minus the reduction reached in history
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from scipy.special import nctdtr, ndtr, ndtri, stdtrit

from groundswell.errors import InvalidInput
from groundswell.stats import sequences
from groundswell.stats.group_sequential import GroupPlan, planned_drift
from groundswell.stats.results import Alternative
from groundswell.stats.roots import solve
from groundswell.stats.samples import Sample
from groundswell.stats.sequences import Looks

__all__ = [
    "Day",
    "History",
    "Study",
    "best_split",
    "detectable_effect",
    "duration",
    "inflation",
    "power",
    "power_curve",
    "sample_size",
]

Kind = Literal["mean", "proportion"]


@dataclass(frozen=True, slots=True)
class History:
    """What is known of the baseline: ``mean`` and the ``variance`` of a unit's value (of its influence, for a ratio).

    ``kind`` proportion lets the treatment's variance follow its own rate.
    """

    mean: float
    variance: float
    kind: Kind = "mean"

    def __post_init__(self) -> None:
        if not math.isfinite(self.mean):
            raise InvalidInput("mean", self.mean, "must be finite")
        if not (self.variance > 0.0 and math.isfinite(self.variance)):
            raise InvalidInput("variance", self.variance, "must be > 0 and finite")

    @classmethod
    def of(cls, sample: Sample) -> History:
        """Return the history of an arm seen before.

        Raises:
            InvalidInput: the arm has no variance.
        """
        if sample.estimate is None or not sample.variance:
            raise InvalidInput("sample", sample.reason or "variance 0", "must have a mean and a variance above 0")
        return cls(sample.estimate, sample.variance)

    @classmethod
    def of_proportion(cls, rate: float) -> History:
        """Return the history of a proportion."""
        if not 0.0 < rate < 1.0:
            raise InvalidInput("rate", rate, "must lie between 0 and 1")
        return cls(rate, rate * (1.0 - rate), "proportion")


@dataclass(frozen=True, slots=True)
class Study:
    """How the experiment will be run and read.

    Attributes:
        share: the treatment's share of the units of these two arms.
        reduction: share of the variance that covariates or strata will remove.
        margin: an effect this much worse than none still counts as unharmed (non-inferiority; one-sided).
        looks: read the always-valid interval; ``group`` reads a group sequential plan; neither is one fixed look.
        reference: the t distribution, or the normal whatever the number of units.
    """

    alpha: float = 0.05
    power: float = 0.8
    alternative: Alternative = "two-sided"
    share: float = 0.5
    reduction: float = 0.0
    margin: float = 0.0
    looks: Looks | None = None
    group: GroupPlan | None = None
    reference: Literal["t", "z"] = "t"

    def __post_init__(self) -> None:
        for name, low, high in (("alpha", 0.0, 1.0), ("share", 0.0, 1.0)):
            if not low < getattr(self, name) < high:
                raise InvalidInput(name, getattr(self, name), f"must lie between {low:g} and {high:g}")
        if not self.alpha < self.power < 1.0:
            raise InvalidInput("power", self.power, f"must lie between alpha ({self.alpha}) and 1")
        if not 0.0 <= self.reduction < 1.0:
            raise InvalidInput("reduction", self.reduction, "must be >= 0 and < 1")
        if not self.margin >= 0.0:
            raise InvalidInput("margin", self.margin, "must be >= 0")
        if self.margin > 0.0 and self.alternative == "two-sided":
            raise InvalidInput("alternative", self.alternative, "must be greater or less where there is a margin")
        if self.looks is not None and self.group is not None:
            raise InvalidInput("group", self.group, "must not be set together with looks: choose one way of looking")


def power(history: History, effect: float, units: int, study: Study | None = None) -> float:
    """Return the chance that ``units`` units (both arms together) show an absolute ``effect``.

    >>> round(power(History.of_proportion(0.1), 0.01, 30_000), 3)
    0.807
    """
    chosen = study or Study()
    if not math.isfinite(effect):
        raise InvalidInput("effect", effect, "must be finite")
    n_t = units * chosen.share
    n_c = units - n_t
    if min(n_t, n_c) < 2.0:
        return 0.0
    v_t, v_c = _variances(history, effect, chosen)
    v_t, v_c = v_t / n_t, v_c / n_c
    error = math.sqrt(v_t + v_c)
    sign = -1.0 if chosen.alternative == "less" else 1.0
    ncp = (sign * effect + chosen.margin) / error
    two_sided = chosen.alternative == "two-sided"
    if two_sided:
        ncp = abs(ncp)
    if chosen.looks is not None:
        if units < chosen.looks.first_look:
            return 0.0
        q = sequences.multiplier(chosen.looks, units, chosen.alpha, chosen.alternative)
        df = math.inf
    else:
        if chosen.group is not None:
            ncp /= math.sqrt(inflation(chosen.group))
        share = v_t / (v_t + v_c)
        df = 1.0 / (share * share / (n_t - 1.0) + (1.0 - share) ** 2 / (n_c - 1.0))
        df = math.inf if chosen.reference == "z" else df
        tail = chosen.alpha / 2.0 if two_sided else chosen.alpha
        q = -float(ndtri(tail)) if df > _DF_NORMAL else -float(stdtrit(df, tail))
    if df > _DF_NORMAL:
        return float(ndtr(ncp - q)) + (float(ndtr(-ncp - q)) if two_sided else 0.0)
    return _above(df, ncp, q) + (_above(df, -ncp, q) if two_sided else 0.0)


def sample_size(history: History, effect: float, study: Study | None = None) -> int | None:
    """Return how many units, both arms together, show ``effect`` with the study's power; None if 1e15 do not."""
    chosen = study or Study()
    sign = -1.0 if chosen.alternative == "less" else 1.0
    if effect == 0.0 and chosen.margin == 0.0:
        raise InvalidInput("effect", effect, "must not be 0: no number of units shows nothing")
    if chosen.alternative != "two-sided" and sign * effect + chosen.margin <= 0.0:
        raise InvalidInput("effect", effect, f"must lie on the side of the alternative ({chosen.alternative})")

    def gap(log_units: float) -> float:
        return power(history, effect, math.ceil(math.exp(log_units)), chosen) - chosen.power

    low = math.log(max(4.0, 2.0 / min(chosen.share, 1.0 - chosen.share)))
    high = math.log(_UNITS_MAX)
    if gap(high) < 0.0:
        return None
    if gap(low) >= 0.0:
        return math.ceil(math.exp(low))
    units = math.ceil(math.exp(solve(gap, low, high, tolerance=1e-13)))
    while power(history, effect, units, chosen) < chosen.power:
        units += 1
    while power(history, effect, units - 1, chosen) >= chosen.power:
        units -= 1
    return units


def detectable_effect(history: History, units: int, study: Study | None = None) -> float | None:
    """Return the smallest absolute effect that ``units`` units show with the study's power; None where none does."""
    chosen = study or Study()
    sign = -1.0 if chosen.alternative == "less" else 1.0
    scale = math.sqrt(history.variance)

    def gap(size: float) -> float:
        return power(history, sign * size, units, chosen) - chosen.power

    high = scale / math.sqrt(max(units, 1))
    limit = 1e6 * scale if history.kind == "mean" else _room(history, sign)
    while gap(min(high, limit)) < 0.0:
        if high >= limit:
            return None
        high *= 2.0
    if chosen.margin > 0.0 and gap(0.0) >= 0.0:
        return 0.0
    return sign * solve(gap, 0.0, min(high, limit), tolerance=1e-12 * min(1.0, scale))


def power_curve(
    history: History, effects: Sequence[float], units: Sequence[int], study: Study | None = None
) -> list[list[float]]:
    """Return power for each of ``units`` (rows) and each of ``effects`` (columns)."""
    return [[power(history, effect, n, study) for effect in effects] for n in units]


@dataclass(frozen=True, slots=True)
class Day:
    """One day of a plan: units exposed by its end, and the smallest effect they then show, absolute and relative."""

    day: int
    units: int
    detectable: float | None
    detectable_relative: float | None


def duration(
    history: Sequence[tuple[int, History]], effect: float, study: Study | None = None
) -> tuple[int | None, list[Day]]:
    """Return on which day (1-based) ``effect`` becomes detectable, and the whole curve.

    ``history`` holds, for each day of the user's own past, units seen by its end and their metric by then; a metric
    that grows with exposure has a mean and variance of its own each day. Day None: the history is too short to say.
    """
    chosen = study or Study()
    curve: list[Day] = []
    reached: int | None = None
    before = 0
    for day, (units, past) in enumerate(history, start=1):
        if units < before:
            raise InvalidInput(f"history[{day - 1}].units", units, f"must not fall: units are cumulative (>= {before})")
        before = units
        size = detectable_effect(past, units, chosen)
        curve.append(Day(day, units, size, None if size is None or past.mean == 0.0 else size / abs(past.mean)))
        if reached is None and power(past, effect, units, chosen) >= chosen.power:
            reached = day
    return reached, curve


def best_split(sds: Sequence[float], *, baseline: int = 0) -> list[float]:
    """Return the shares of arms that make the sum of variances of all differences from the baseline least.

    ``sds`` are standard deviations by arm. With k equal treatments the baseline gets sqrt(k) times a treatment's share.

    >>> [round(share, 3) for share in best_split([1.0, 1.0, 1.0])]
    [0.414, 0.293, 0.293]
    """
    if len(sds) < 2:
        raise InvalidInput("sds", list(sds), "must hold at least two arms")
    if not all(sd > 0.0 and math.isfinite(sd) for sd in sds):
        raise InvalidInput("sds", list(sds), "must be > 0 and finite")
    if not 0 <= baseline < len(sds):
        raise InvalidInput("baseline", baseline, f"must be an index below {len(sds)}")
    weight = [sd * (math.sqrt(len(sds) - 1.0) if i == baseline else 1.0) for i, sd in enumerate(sds)]
    return [w / sum(weight) for w in weight]


def inflation(plan: GroupPlan) -> float:
    """Return how much more information a group sequential plan needs than one look, for the same power."""
    fixed = -float(ndtri(plan.alpha / plan.sides)) + float(ndtri(plan.power))
    return (planned_drift(plan) / fixed) ** 2


def _above(df: float, ncp: float, q: float) -> float:
    """Return P(T > q) of a noncentral t."""
    below = float(nctdtr(df, ncp, q)) if abs(ncp) < _NCP_MAX else math.nan
    if math.isfinite(below):
        return 1.0 - below
    # where the library's sum gives up (far tails, many degrees of freedom): Johnson & Welch (1940)
    return float(ndtr((ncp - q * (1.0 - 0.25 / df)) / math.sqrt(1.0 + q * q / (2.0 * df))))


def _variances(history: History, effect: float, study: Study) -> tuple[float, float]:
    left = 1.0 - study.reduction
    if history.kind == "mean":
        return history.variance * left, history.variance * left
    rate = history.mean + effect
    if not 0.0 <= rate <= 1.0:
        raise InvalidInput("effect", effect, f"must leave a rate between 0 and 1 (baseline {history.mean:g})")
    return rate * (1.0 - rate) * left, history.variance * left


def _room(history: History, sign: float) -> float:
    """Return how far a rate can move."""
    return 1.0 - history.mean if sign > 0.0 else history.mean


_DF_NORMAL = 1e4
_NCP_MAX = 30.0
_UNITS_MAX = 1e15
