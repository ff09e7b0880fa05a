"""Asymptotic confidence sequences: intervals that hold at every look at once.

Formula: Waudby-Smith, Arbour, Sinha, Kennedy & Ramdas (2024), "Time-uniform central limit theory and asymptotic
confidence sequences", Ann. Statist. 52(6), theorem 2.2 and appendix B (arXiv:2103.06476). Two arms of N units together
are one sequence of influence values with variance N * se^2, so that the half-width is

    se * sqrt((1 + r) / r * (2 log(1 / alpha) + log(1 + r))),    r = N * rho^2

The tuning rho makes the interval tightest near ``tuned_for`` units; both it and ``first_look`` are fixed before data.

Mixture SPRT: Johari, Koomen, Pekelis & Walsh (2022), "Always valid inference", Oper. Res. 70; the mixing variance tau^2
is of the effect itself, so that with v its estimate's variance r is tau^2 / v.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from groundswell.errors import InvalidInput
from groundswell.stats.results import Alternative, Effect

__all__ = ["AlwaysValid", "Looks", "always_valid_many", "mixture_sprt", "multiplier", "p_value"]


@dataclass(frozen=True, slots=True)
class Looks:
    """How an always-valid interval is tuned, in units of both arms together. Fix it before the experiment starts."""

    first_look: int = 500
    tuned_for: int = 5_000

    def __post_init__(self) -> None:
        if self.first_look < 2:
            raise InvalidInput("first_look", self.first_look, "must be >= 2 units")
        if not self.tuned_for >= 1:
            raise InvalidInput("tuned_for", self.tuned_for, "must be >= 1 unit")

    def rho2(self, alpha: float) -> float:
        """Return rho squared, the mixture's precision for a two-sided ``alpha``."""
        return (-2.0 * math.log(alpha) + math.log(-2.0 * math.log(alpha) + 1.0)) / self.tuned_for


def multiplier(looks: Looks, units: int, alpha: float, alternative: Alternative = "two-sided") -> float:
    """Return how many standard errors the interval reaches after ``units`` units."""
    if alternative == "two-sided":
        r = units * looks.rho2(alpha)
        log_term = math.log(1.0 / alpha) + 0.5 * math.log1p(r)
    else:
        r = units * looks.rho2(2.0 * alpha)
        log_term = math.log1p(math.sqrt(1.0 + r) / (2.0 * alpha))
    return math.sqrt(2.0 * (1.0 + r) / r * log_term)


def p_value(looks: Looks, units: int, z: float, alpha: float, alternative: Alternative = "two-sided") -> float:
    """Return the always-valid p-value of an effect ``z`` standard errors from the null.

    It is <= ``alpha`` exactly where the interval tuned at ``alpha`` excludes the null.
    """
    if alternative == "two-sided":
        r = units * looks.rho2(alpha)
        return min(1.0, math.sqrt(1.0 + r) * math.exp(-0.5 * z * z * r / (1.0 + r)))
    if z <= 0.0 if alternative == "greater" else z >= 0.0:
        return 1.0
    r = units * looks.rho2(2.0 * alpha)
    exponent = 0.5 * z * z * r / (1.0 + r)
    if exponent > _EXPONENT_MAX:
        return 0.0
    return min(1.0, math.sqrt(1.0 + r) / (2.0 * math.expm1(exponent))) if exponent > 0.0 else 1.0


def mixture_sprt(
    estimate: float, standard_error: float, tau: float, *, null: float = 0.0, alpha: float = 0.05
) -> tuple[float, Effect]:
    """Return the always-valid p-value and interval of the mixture sequential probability ratio test, two-sided.

    ``tau`` is the standard deviation of effects that one expects, fixed before data.
    """
    if not (tau > 0.0 and math.isfinite(tau)):
        raise InvalidInput(
            "tau", tau, "must be > 0 and finite", next_step="take the sd of effects you have seen before"
        )
    if not (standard_error > 0.0 and math.isfinite(standard_error)):
        raise InvalidInput("standard_error", standard_error, "must be > 0 and finite")
    if not 0.0 < alpha < 1.0:
        raise InvalidInput("alpha", alpha, "must lie between 0 and 1")
    r = (tau / standard_error) ** 2
    z = (estimate - null) / standard_error
    p = min(1.0, math.sqrt(1.0 + r) * math.exp(-0.5 * z * z * r / (1.0 + r)))
    half = standard_error * math.sqrt((1.0 + r) / r * (2.0 * math.log(1.0 / alpha) + math.log1p(r)))
    return p, Effect(estimate, estimate - half, estimate + half)


def always_valid_many(
    estimate: ArrayLike, standard_error: ArrayLike, units: ArrayLike, looks: Looks, *, alpha: float = 0.05
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return lower and upper bounds of many two-sided confidence sequences at once; NaN before the first look."""
    d, error = np.asarray(estimate, dtype=np.float64), np.asarray(standard_error, dtype=np.float64)
    n = np.asarray(units, dtype=np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        r = n * looks.rho2(alpha)
        half = error * np.sqrt((1.0 + r) / r * (2.0 * math.log(1.0 / alpha) + np.log1p(r)))
    half = np.where(n < looks.first_look, np.nan, half)
    return d - half, d + half


@dataclass(frozen=True, slots=True)
class AlwaysValid:
    """A sequence as it is watched: the intersection of its intervals so far, and its least p-value.

    Both stay valid, and never give back what was learned; they are right while the effect itself does not change. An
    empty intersection says that it did: ``drifted``.
    """

    units: int = 0
    low: float = -math.inf
    high: float = math.inf
    p_value: float = 1.0

    @property
    def drifted(self) -> bool:
        """Whether intervals of different looks contradict each other."""
        return self.low > self.high

    def see(self, units: int, low: float | None, high: float | None, p: float | None) -> AlwaysValid:
        """Return the state after a look; a look before the first changes nothing but the clock.

        Raises:
            InvalidInput: there are fewer units than at the last look.
        """
        if units < self.units:
            raise InvalidInput("units", units, f"must not fall: the last look had {self.units}")
        return AlwaysValid(
            units,
            self.low if low is None else max(self.low, low),
            self.high if high is None else min(self.high, high),
            self.p_value if p is None else min(self.p_value, p),
        )


_EXPONENT_MAX = 700.0  # exp of more overflows a double
