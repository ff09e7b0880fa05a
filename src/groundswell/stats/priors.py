"""What past experiments teach: a prior learned from them, estimates shrunk by it, the winner's curse taken back.

Formulas
    normal means with known errors: mean and variance of true effects by marginal maximum likelihood (empirical Bayes,
    Efron & Morris 1973); the likelihood is profiled over the mean, so that one root is left to find
    total of launched winners: each selected for x_i > b_i overshoots by s_i phi((b_i - m_i) / s_i) on average; with x_i
    in place of m_i as Lee & Shen (2018, KDD)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri

from groundswell.errors import InvalidInput
from groundswell.stats.posteriors import Prior, combine
from groundswell.stats.results import Effect
from groundswell.stats.roots import solve

__all__ = ["Winners", "learn_prior", "shrink", "total_of_winners"]

Floats = NDArray[np.float64]


def learn_prior(estimates: ArrayLike, errors: ArrayLike, *, mean: float | None = None, relative: bool = True) -> Prior:
    """Return the prior that past effects, with their standard errors, came from; ``mean`` fixes its mean.

    Raises:
        InvalidInput: fewer than 10 experiments, or effects that do not vary more than their errors explain: then there
            is nothing to learn a spread from.
    """
    x, s = _checked(estimates, errors)
    if len(x) < _EXPERIMENTS_MIN:
        raise InvalidInput("estimates", len(x), f"must be at least {_EXPERIMENTS_MIN} past experiments")
    variances = s * s

    def centre(spread: float) -> float:
        weight = 1.0 / (variances + spread)
        return float(weight @ x / weight.sum()) if mean is None else mean

    def slope(spread: float) -> float:
        """Derivative of twice the profile log likelihood."""
        weight = 1.0 / (variances + spread)
        gap = x - centre(spread)
        return float((weight * weight * gap * gap - weight).sum())

    highest = float(((x - centre(0.0)) ** 2).max()) + float(variances.max())
    if slope(0.0) <= 0.0:
        raise InvalidInput(
            "estimates",
            float(np.std(x)),
            "must vary more than their standard errors explain",
            next_step="take more experiments, or choose a prior",
        )
    spread = solve(slope, 0.0, highest, tolerance=1e-13 * min(1.0, highest))
    where = "relative" if relative else "absolute"
    return Prior(centre(spread), math.sqrt(spread), where, f"learned from {len(x)} experiments")


def shrink(estimates: ArrayLike, errors: ArrayLike, prior: Prior, *, alpha: float = 0.05) -> list[Effect]:
    """Return each effect's posterior mean and credible interval: what is to be expected of it when launched."""
    x, s = _checked(estimates, errors)
    q = -float(ndtri(alpha / 2.0))
    effects: list[Effect] = []
    for estimate, error in zip(x.tolist(), s.tolist(), strict=True):
        after, sd = combine(estimate, error, prior.mean, prior.sd)
        effects.append(Effect(after, after - q * sd, after + q * sd))
    return effects


@dataclass(frozen=True, slots=True)
class Winners:
    """Effects of launched winners added up: naively, and with the winner's curse taken back."""

    launched: int
    naive: float
    bias: float
    corrected: float


def total_of_winners(
    estimates: ArrayLike, errors: ArrayLike, *, alpha: float = 0.05, thresholds: Sequence[float] | None = None
) -> Winners:
    """Return the total effect of experiments that were launched because their estimate passed its threshold.

    Pass *all* experiments, launched or not: those that just missed tell of the bias as well. ``thresholds`` are the
    estimates needed for a launch; by default one-sided significance at ``alpha`` / 2.
    """
    x, s = _checked(estimates, errors)
    b = s * -float(ndtri(alpha / 2.0)) if thresholds is None else np.asarray(thresholds, dtype=np.float64)
    if b.shape != x.shape:
        raise InvalidInput("thresholds", b.shape, f"must have the shape of estimates, {x.shape}")
    launched = x > b
    naive = float(x[launched].sum())
    z = (b - x) / s
    bias = float((s * np.exp(-0.5 * z * z) / math.sqrt(2.0 * math.pi)).sum())
    return Winners(int(launched.sum()), naive, bias, naive - bias)


def _checked(estimates: ArrayLike, errors: ArrayLike) -> tuple[Floats, Floats]:
    x, s = np.asarray(estimates, dtype=np.float64), np.asarray(errors, dtype=np.float64)
    if x.ndim != 1 or x.shape != s.shape:
        raise InvalidInput("errors", s.shape, f"must be one standard error for each of {x.shape} estimates")
    if not np.isfinite(x).all():
        raise InvalidInput("estimates", "NaN or infinite", "must be finite")
    if not (np.isfinite(s).all() and (s > 0.0).all()):
        raise InvalidInput("errors", "not positive", "must be > 0 and finite")
    return x, s


_EXPERIMENTS_MIN = 10
