"""Group sequential tests: a few planned looks, each with its own boundary, one error rate over all of them.

Invariants
    looks are state: a look is taken once, with what it saw, and never taken back; asking again is no look
    information never falls from look to look
    alpha already spent at earlier looks is spent

Formulas
    Armitage, McPherson & Rowe (1969): the density of the statistic among those still going on, look by look, by
    quadrature (Jennison & Turnbull 2000, chapter 19); Lan & DeMets (1983) spending; Kim & DeMets (1987) power family;
    Hwang, Shih & DeCani (1990); O'Brien & Fleming (1979) and Pocock (1977) for equally spaced looks;
    stage-wise ordering for p-value and estimate at the end (Tsiatis, Rosner & Mehta 1984)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from groundswell.errors import InvalidInput
from groundswell.stats.results import Effect
from groundswell.stats.roots import solve

__all__ = [
    "Boundaries",
    "GroupLook",
    "GroupPlan",
    "GroupTest",
    "boundaries",
    "classic_boundaries",
    "planned_drift",
    "spent",
]

Floats = NDArray[np.float64]
Spending = Literal["obrien-fleming", "pocock", "power", "hwang-shih-decani"]
LOOKS_MAX = 200  # each costs a quadrature over those before; nobody plans more


@dataclass(frozen=True, slots=True)
class GroupPlan:
    """What is fixed before the first look.

    Attributes:
        information_max: planned information at the last look: 1 / variance of the estimate, or units.
        sides: 2, or 1 where only a larger treatment counts.
        spending, shape: how alpha is spent over the fraction t of information: ``obrien-fleming``, ``pocock``,
            ``power`` (alpha t^shape) or ``hwang-shih-decani`` (shape is gamma).
        futility: how beta is spent on stopping without hope (one-sided plans); None never stops so.
        power: of the planned effect, which ``futility`` protects.
        planned: fractions of information at which looks are planned; looks taken elsewhere keep alpha all the same.
        binding: whether the upper boundary relies on stopping for futility; safer not to.
    """

    information_max: float
    alpha: float = 0.05
    sides: Literal[1, 2] = 2
    spending: Spending = "obrien-fleming"
    shape: float = 2.0
    futility: Spending | None = None
    futility_shape: float = 2.0
    power: float = 0.8
    planned: tuple[float, ...] = (0.2, 0.4, 0.6, 0.8, 1.0)
    binding: bool = False

    def __post_init__(self) -> None:
        if not (self.information_max > 0.0 and math.isfinite(self.information_max)):
            raise InvalidInput("information_max", self.information_max, "must be > 0 and finite")
        if not 0.0 < self.alpha < (1.0 if self.sides == 2 else 0.5):
            raise InvalidInput("alpha", self.alpha, "must lie between 0 and 1, below 0.5 for one side")
        if self.sides not in (1, 2):
            raise InvalidInput("sides", self.sides, "must be 1 or 2")
        if self.futility is not None and self.sides == 2:
            raise InvalidInput("futility", self.futility, "needs a one-sided plan (sides=1)")
        if not self.alpha < self.power < 1.0:
            raise InvalidInput("power", self.power, f"must lie between alpha ({self.alpha}) and 1")
        _check(self.planned)
        for kind in (self.spending, self.futility):
            if kind is not None and kind not in _SPENDINGS:
                raise InvalidInput("spending", kind, f"must be one of {', '.join(_SPENDINGS)}")
        if self.spending == "power" and not self.shape > 0.0:
            raise InvalidInput("shape", self.shape, "must be > 0 for power spending")


@dataclass(frozen=True, slots=True)
class Boundaries:
    """Boundaries of the standardised statistic at each look; ``futility`` is -inf where there is none.

    ``crossing`` is the probability under no effect of stopping for an effect at each look (both sides together).
    """

    fractions: tuple[float, ...]
    upper: tuple[float, ...]
    futility: tuple[float, ...]
    crossing: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class GroupLook:
    """One look: what was seen, the boundary it was held to, and what followed."""

    information: float
    z: float
    upper: float
    futility: float
    spent: float
    decision: Literal["effect", "futility", "continue", "no effect shown"]


@dataclass(frozen=True, slots=True)
class GroupTest:
    """A plan and the looks taken so far. ``look`` gives a new state; keep that."""

    plan: GroupPlan
    looks: tuple[GroupLook, ...] = ()

    @property
    def decision(self) -> str:
        """What the last look decided; ``continue`` before the first."""
        return self.looks[-1].decision if self.looks else "continue"

    def look(self, information: float, z: float, *, last: bool = False) -> GroupTest:
        """Take a look at ``information`` with the statistic ``z`` and return the new state.

        ``last`` spends all that is left of alpha, as a look at or past the planned information does.

        Raises:
            InvalidInput: information fell or stood still since the last look, or the test has stopped for an effect.
        """
        if not (math.isfinite(information) and math.isfinite(z)):
            raise InvalidInput("z", z, "must be finite, with finite information")
        before = self.looks[-1].information if self.looks else 0.0
        if not information > before:
            raise InvalidInput("information", information, f"must be above that of the last look ({before:g})")
        if self.decision in ("effect", "no effect shown"):
            raise InvalidInput(
                "look", len(self.looks) + 1, f"must not follow a look that ended the test ({self.decision})"
            )
        seen = [look.information for look in self.looks]
        last = last or information >= self.plan.information_max
        whole = information if last else self.plan.information_max
        bounds = boundaries(self.plan, [i / whole for i in [*seen, information]], earlier=self.looks, last=last)
        upper, futility = bounds.upper[-1], bounds.futility[-1]
        if z >= upper or (self.plan.sides == 2 and z <= -upper):
            decision: Literal["effect", "futility", "continue", "no effect shown"] = "effect"
        elif last:
            decision = "no effect shown"
        else:
            decision = "futility" if z <= futility else "continue"
        look = GroupLook(information, z, upper, futility, sum(bounds.crossing), decision)
        return replace(self, looks=(*self.looks, look))

    def interval(self, estimate: float, standard_error: float) -> Effect:
        """Return the repeated confidence interval at the last look: it holds at all looks together."""
        if not self.looks:
            return Effect(estimate, reason="no look has been taken")
        if not math.isfinite(self.looks[-1].upper):
            return Effect(estimate, reason="nothing of alpha was spent at this look")
        half = self.looks[-1].upper * standard_error
        if self.plan.sides == 1:
            return Effect(estimate, estimate - half, None, "one-sided plan: there is no upper bound")
        return Effect(estimate, estimate - half, estimate + half)

    def p_value(self) -> float | None:
        """Return the p-value of the last look under stage-wise ordering; None before the first look."""
        if not self.looks:
            return None
        upper = self._beyond(0.0, self.looks[-1].z)
        return min(1.0, 2.0 * min(upper, self._beyond(0.0, -self.looks[-1].z))) if self.plan.sides == 2 else upper

    def final(self, standard_error: float) -> Effect:
        """Return the median-unbiased estimate and its interval after the test has stopped, on the estimate's scale."""
        if self.decision == "continue" or not self.looks:
            return Effect(reason="the test goes on: use interval()")
        root_i = math.sqrt(self.looks[-1].information)
        z = self.looks[-1].z
        tail = self.plan.alpha / self.plan.sides

        def drift_at(target: float) -> float:
            return solve(lambda x: self._beyond(x / root_i, z) - target, z - _Z_FAR, z + _Z_FAR) / root_i

        scale = standard_error * root_i
        high = drift_at(1.0 - tail) * scale if self.plan.sides == 2 else None
        reason = None if self.plan.sides == 2 else "one-sided plan: there is no upper bound"
        return Effect(drift_at(0.5) * scale, drift_at(tail) * scale, high, reason)

    def _beyond(self, drift: float, z: float) -> float:
        """Return P(as extreme upwards as ``z`` at the last look) in stage-wise order, under ``drift``."""
        times = [look.information for look in self.looks]
        walk = _Walk(drift)
        total = 0.0
        for look, time in zip(self.looks[:-1], times[:-1], strict=True):
            total += walk.above(time, look.upper)
            low = -look.upper if self.plan.sides == 2 else (look.futility if self.plan.binding else -math.inf)
            walk.step(time, low, look.upper)
        return min(1.0, total + walk.above(times[-1], z))


def spent(kind: Spending, t: float, alpha: float, shape: float = 2.0) -> float:
    """Return how much of ``alpha`` is spent at fraction ``t`` of information; all of it from 1 on."""
    if t >= 1.0:
        return alpha
    if t <= 0.0:
        return 0.0
    if kind == "obrien-fleming":
        return 2.0 * float(ndtr(ndtri(alpha / 2.0) / math.sqrt(t)))
    if kind == "pocock":
        return alpha * math.log1p((math.e - 1.0) * t)
    if kind == "power":
        return alpha * t**shape
    return alpha * t if shape == 0.0 else alpha * math.expm1(-shape * t) / math.expm1(-shape)


def boundaries(
    plan: GroupPlan, fractions: Sequence[float], *, earlier: Sequence[GroupLook] = (), last: bool = True
) -> Boundaries:
    """Return boundaries at ``fractions`` of the planned information; those of ``earlier`` looks are kept as they were.

    ``last`` spends all that is left at the last of them.
    """
    _check(fractions)
    drift = planned_drift(plan) if plan.futility is not None else 0.0
    return _boundaries(plan, fractions, drift, earlier, last=last)[0]


@lru_cache(maxsize=256)
def planned_drift(plan: GroupPlan) -> float:
    """Return the standardised effect at full information that the plan detects with its power at its planned looks.

    Its square over that of the fixed test, (z_alpha + z_beta)^2, is how much more information the looks cost.
    """
    return solve(
        lambda drift: _boundaries(plan, plan.planned, drift, (), last=True)[1] - (1.0 - plan.power), 0.0, _Z_FAR
    )


def _boundaries(
    plan: GroupPlan, fractions: Sequence[float], drift: float, earlier: Sequence[GroupLook], *, last: bool
) -> tuple[Boundaries, float]:
    """Return the boundaries and the probability under ``drift`` of never stopping for an effect."""
    tail = plan.alpha / plan.sides
    walk, under_effect = _Walk(0.0), _Walk(drift)
    upper: list[float] = []
    lower: list[float] = []
    crossing: list[float] = []
    gone = missed = 0.0
    for k, t in enumerate(fractions):
        at_end = last and k == len(fractions) - 1
        if k < len(earlier):
            b, f = earlier[k].upper, earlier[k].futility
        else:
            due = tail if at_end else spent(plan.spending, t, tail, plan.shape)
            b = _solve(lambda x, t=t: walk.above(t, x), due - gone)
            f = -math.inf
            if plan.futility is not None:
                due = spent(plan.futility, t, 1.0 - plan.power, plan.futility_shape)
                f = b if at_end else min(b, -_solve(lambda x, t=t: under_effect.below(t, -x), due - missed))
        crossed = walk.above(t, b)
        gone += crossed
        missed += under_effect.below(t, b if at_end else f)
        upper.append(b)
        lower.append(f)
        crossing.append(crossed * plan.sides)
        if not at_end:
            walk.step(t, -b if plan.sides == 2 else (f if plan.binding else -math.inf), b)
            under_effect.step(t, -b if plan.sides == 2 else f, b)
    return Boundaries(tuple(fractions), tuple(upper), tuple(lower), tuple(crossing)), missed


def classic_boundaries(
    kind: Literal["obrien-fleming", "pocock", "wang-tsiatis"],
    looks: int,
    *,
    alpha: float = 0.05,
    sides: Literal[1, 2] = 2,
    shape: float = 0.25,
) -> Boundaries:
    """Return the boundaries of ``looks`` equally spaced looks: constant (Pocock), falling as one over the root of time
    (O'Brien-Fleming), or between (Wang & Tsiatis 1987, with their Delta as ``shape``).
    """
    power = {"obrien-fleming": 0.0, "pocock": 0.5, "wang-tsiatis": shape}.get(kind)
    if power is None:
        raise InvalidInput("kind", kind, "must be obrien-fleming, pocock or wang-tsiatis")
    if not 1 <= looks <= LOOKS_MAX:
        raise InvalidInput("looks", looks, f"must be between 1 and {LOOKS_MAX}")
    if not 0.0 < alpha < 1.0:
        raise InvalidInput("alpha", alpha, "must lie between 0 and 1")
    times = [(k + 1) / looks for k in range(looks)]
    form = [t ** (power - 0.5) for t in times]

    def crossings(c: float) -> list[float]:
        walk, found = _Walk(0.0), []
        for t, f in zip(times, form, strict=True):
            found.append(walk.above(t, c * f))
            walk.step(t, -c * f if sides == 2 else -math.inf, c * f)
        return found

    c = _solve(lambda x: sum(crossings(x)), alpha / sides)
    none = (-math.inf,) * looks
    return Boundaries(tuple(times), tuple(c * f for f in form), none, tuple(sides * p for p in crossings(c)))


class _Walk:
    """The density of the statistic among those still going on. ``drift`` is its mean per root of information."""

    def __init__(self, drift: float) -> None:
        self._drift = drift
        self._time = 0.0
        self._nodes: Floats = np.zeros(1)
        self._mass: Floats = np.ones(1)  # density times quadrature weight

    def above(self, time: float, bound: float) -> float:
        """Return the probability of being still going on and then at ``time`` above ``bound``."""
        return self._tail(time, bound, 1.0)

    def below(self, time: float, bound: float) -> float:
        """Return the probability of being still going on and then at ``time`` below ``bound``."""
        return self._tail(time, bound, -1.0)

    def _tail(self, time: float, bound: float, sign: float) -> float:
        if math.isinf(bound):
            return float(self._mass.sum()) if bound * sign < 0.0 else 0.0
        step = time - self._time
        gap = bound * math.sqrt(time) - self._nodes * math.sqrt(self._time) - self._drift * step
        return float(self._mass @ ndtr(-sign * gap / math.sqrt(step)))

    def step(self, time: float, low: float, high: float) -> None:
        """Go on to ``time`` with those between ``low`` and ``high``."""
        centre = self._drift * math.sqrt(time)
        low, high = max(low, centre - _Z_FAR), min(high, centre + _Z_FAR)
        step = time - self._time
        if high <= low:
            self._nodes, self._mass = np.zeros(1), np.zeros(1)
            self._time = time
            return
        width = math.sqrt(step / time)  # of the kernel, on the scale of the statistic
        panels = min(_PANELS_MAX, max(_PANELS_MIN, math.ceil((high - low) / width)))
        edges = np.linspace(low, high, panels + 1)
        half = (edges[1] - edges[0]) / 2.0
        nodes = (edges[:-1, np.newaxis] + half * (_GAUSS_NODES + 1.0)).ravel()
        weights = np.tile(half * _GAUSS_WEIGHTS, panels)
        scale = math.sqrt(time / step)
        density = np.empty(len(nodes))
        shift = self._nodes * math.sqrt(self._time / step) + self._drift * math.sqrt(step)
        for i in range(0, len(nodes), _ROWS):
            gap = nodes[i : i + _ROWS, np.newaxis] * scale - shift
            density[i : i + _ROWS] = np.exp(-0.5 * gap * gap) @ self._mass
        self._nodes, self._mass, self._time = nodes, density * weights * (scale / _ROOT_2PI), time


def _solve(probability: Callable[[float], float], target: float) -> float:
    """Return where the decreasing ``probability`` of a boundary meets ``target``; inf where nothing is to be spent."""
    if target <= _NOTHING:
        return math.inf
    return solve(lambda x: probability(x) - target, -_Z_FAR, _Z_FAR, tolerance=1e-15)


def _check(fractions: Sequence[float]) -> None:
    if not 1 <= len(fractions) <= LOOKS_MAX:
        raise InvalidInput("fractions", len(fractions), f"must hold between 1 and {LOOKS_MAX} looks")
    before = 0.0
    for t in fractions:
        if not before < t <= 1.0:
            raise InvalidInput("fractions", list(fractions), "must rise strictly, above 0 and to at most 1")
        before = t


_SPENDINGS = ("obrien-fleming", "pocock", "power", "hwang-shih-decani")
_Z_FAR = 12.0
_NOTHING = 1e-15
_PANELS_MIN = 24
_PANELS_MAX = 600
_ROWS = 256  # rows of the transition matrix held at once
_ROOT_2PI = math.sqrt(2.0 * math.pi)
_GAUSS_NODES, _GAUSS_WEIGHTS = np.polynomial.legendre.leggauss(6)
