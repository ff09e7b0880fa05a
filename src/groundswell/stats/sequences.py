"""Asymptotic confidence sequences: intervals that hold at every look at once.

Formula: Waudby-Smith, Arbour, Sinha, Kennedy & Ramdas (2024), "Time-uniform central limit theory and asymptotic
confidence sequences", Ann. Statist. 52(6), theorem 2.2 and appendix B (arXiv:2103.06476). Two arms of N units together
are one sequence of influence values with variance N * se^2, so that the half-width is

    se * sqrt((1 + r) / r * (2 log(1 / alpha) + log(1 + r))),    r = N * rho^2

The tuning rho makes the interval tightest near ``tuned_for`` units; both it and ``first_look`` are fixed before data.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from groundswell.errors import InvalidInput
from groundswell.stats.results import Alternative

__all__ = ["Looks", "multiplier", "p_value"]


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


_EXPONENT_MAX = 700.0  # exp of more overflows a double
