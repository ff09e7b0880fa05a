"""Bayesian answers: chance to win, expected loss, credible interval, under a prior that is stated.

They are calibrated under their prior at any time of stopping; they claim no error rate under repeated looks.

Formulas
    normal-normal: precision-weighted mean of prior and estimate; the relative effect's error is the delta method's
    beta-binomial and gamma-Poisson: E[(b - a)+] = E b P(b' > a) - E a P(b > a'), where a prime adds one to the first
    parameter (size bias), so that an expected loss needs probabilities of order alone
    gamma-Poisson: b rate_b / (b rate_b + a rate_a) is beta, in closed form
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import betainc, betainccinv, betaincinv, ndtr, ndtri

from groundswell.errors import InvalidInput
from groundswell.model.moments import Moments
from groundswell.stats.contrasts import Settings, contrast, relative_error
from groundswell.stats.results import Effect, Note
from groundswell.stats.roots import solve
from groundswell.stats.samples import Pair, Sample

__all__ = ["Better", "Posterior", "Prior", "beta_binomial", "gamma_poisson", "posterior"]

Better = Literal["higher", "lower"]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Prior:
    """A normal prior of the effect; ``sd`` None is flat. ``on`` is the scale it is stated for."""

    mean: float = 0.0
    sd: float | None = None
    on: Literal["relative", "absolute"] = "relative"
    source: str = "chosen"

    def __post_init__(self) -> None:
        if not math.isfinite(self.mean):
            raise InvalidInput("prior.mean", self.mean, "must be finite")
        if self.sd is not None and not (self.sd > 0.0 and math.isfinite(self.sd)):
            raise InvalidInput("prior.sd", self.sd, "must be > 0 and finite", next_step="None is a flat prior")


@dataclass(frozen=True, slots=True)
class Posterior:
    """What is believed after the data.

    Attributes:
        effect: posterior mean of the effect with its equal-tailed credible interval.
        relative: whether ``effect`` and the losses are shares of the baseline.
        chance_to_win: probability that the treatment is better.
        loss_if_shipped, loss_if_kept: expected loss of choosing the treatment, the baseline, on the effect's scale.
    """

    method: str
    effect: Effect
    relative: bool
    sd: float | None
    chance_to_win: float | None
    loss_if_shipped: float | None
    loss_if_kept: float | None
    prior: str
    assumptions: tuple[str, ...]
    warnings: tuple[Note, ...] = ()
    reason: str | None = None


def posterior(
    treatment: Sample | Moments | Pair,
    baseline: Sample | Moments | None = None,
    *,
    prior: Prior | None = None,
    relative: bool = True,
    better: Better = "higher",
    alpha: float = 0.05,
) -> Posterior:
    """Return the normal posterior of the effect of a treatment over its baseline (or of a ``Pair``).

    A prior on the relative effect is carried to the absolute one by the baseline's mean, and back.

    >>> t, c = Sample.of_proportion(540, 5000), Sample.of_proportion(500, 5000)
    >>> result = posterior(t, c, prior=Prior(0.0, 0.05))
    >>> round(result.chance_to_win, 3), round(result.effect.estimate, 3)
    (0.782, 0.031)
    """
    chosen = prior or Prior()
    _check_better(better)
    if isinstance(treatment, Pair):
        pair = treatment
    elif baseline is None:
        raise InvalidInput("baseline", None, "must be given where the treatment is not a pair")
    else:
        pair = Pair(_sample(treatment), _sample(baseline))
    result = contrast(pair, Settings(alpha=alpha, relative="delta", test="z"))
    words = _words(chosen)
    if result.reason is not None or result.standard_error is None:
        return _unknown(words, result.reason or "no standard error", result.warnings, relative=relative)
    scale = pair.reference.value if pair.reference else pair.baseline.estimate
    error = relative_error(pair) if relative else result.standard_error
    needs_scale = relative or chosen.on == "relative"
    estimate = result.relative.estimate if relative else result.absolute.estimate
    if estimate is None or error is None or error <= 0.0 or (needs_scale and not scale):
        why = result.relative.reason or "the baseline's mean is too near 0 to be relative to"
        return _unknown(words, why, result.warnings, relative=relative)
    mean, sd = chosen.mean, chosen.sd
    if (chosen.on == "relative") is not relative:
        factor = abs(scale or 0.0) if chosen.on == "relative" else 1.0 / abs(scale or 0.0)
        mean, sd = mean * factor, None if sd is None else sd * factor
    after_mean, after_sd = combine(estimate, error, mean, sd)
    if not (abs(after_mean) < _BELIEF_MAX and 0.0 < after_sd < _BELIEF_MAX):
        return _unknown(
            words, "the baseline's mean is too near 0 to be relative to", result.warnings, relative=relative
        )
    return _normal(
        after_mean, after_sd, relative=relative, better=better, alpha=alpha, prior=words, notes=result.warnings
    )


def combine(estimate: float, error: float, mean: float, sd: float | None) -> tuple[float, float]:
    """Return mean and deviation of a normal posterior; ``sd`` None is a flat prior."""
    if sd is None:
        return estimate, error
    share = sd * sd / (sd * sd + error * error)
    return mean + share * (estimate - mean), error * math.sqrt(share)


def beta_binomial(
    treatment: tuple[int, int],
    baseline: tuple[int, int],
    *,
    prior: tuple[float, float] = (1.0, 1.0),
    better: Better = "higher",
    alpha: float = 0.05,
) -> Posterior:
    """Return the posterior of the difference of two proportions, (successes, trials) each, under beta priors.

    Probabilities of order are integrals by Gauss-Legendre over quantiles, good to about 1e-10.
    """
    _check_better(better)
    shapes: list[tuple[float, float]] = []
    for name, (successes, trials) in (("treatment", treatment), ("baseline", baseline)):
        if not 0 <= successes <= trials:
            raise InvalidInput(name, (successes, trials), "must be (successes, trials) with 0 <= successes <= trials")
        shapes.append((prior[0] + successes, prior[1] + trials - successes))
    if min(prior) <= 0.0:
        raise InvalidInput("prior", prior, "must be two numbers > 0")
    (a_t, b_t), (a_c, b_c) = shapes
    mean_t, mean_c = a_t / (a_t + b_t), a_c / (a_c + b_c)
    betas = _Betas((a_t, b_t), (a_c, b_c))
    win = betas.above(0.0)
    gain = mean_t * _Betas((a_t + 1.0, b_t), (a_c, b_c)).above(0.0)
    gain -= mean_c * _Betas((a_t, b_t), (a_c + 1.0, b_c)).above(0.0)
    sd = math.hypot(_sd((a_t, b_t)), _sd((a_c, b_c)))
    interval = [solve(lambda x, p=p: betas.above(x) - p, -1.0, 1.0) for p in (1.0 - alpha / 2.0, alpha / 2.0)]
    d = mean_t - mean_c
    gain = max(0.0, gain, d)
    belief = _Belief(Effect(d, interval[0], interval[1]), sd, win, gain, gain - d)
    return _told("beta-binomial", belief, relative=False, better=better, prior=f"beta{prior} in each arm")


def gamma_poisson(
    treatment: tuple[int, float],
    baseline: tuple[int, float],
    *,
    prior: tuple[float, float] = (0.5, 0.0),
    better: Better = "higher",
    alpha: float = 0.05,
) -> Posterior:
    """Return the posterior of the relative effect of two Poisson rates, (events, exposure) each, under gamma priors.

    ``prior`` is (shape, rate); the default is Jeffreys'. The effect is rate ratio - 1, and the losses are in units of
    the rate.
    """
    _check_better(better)
    if prior[0] <= 0.0 or prior[1] < 0.0:
        raise InvalidInput("prior", prior, "must be (shape > 0, rate >= 0)")
    for name, (events, exposure) in (("treatment", treatment), ("baseline", baseline)):
        if events < 0 or not (exposure > 0.0 and math.isfinite(exposure)):
            raise InvalidInput(name, (events, exposure), "must be (events >= 0, exposure > 0)")
    a_t, r_t = prior[0] + treatment[0], prior[1] + treatment[1]
    a_c, r_c = prior[0] + baseline[0], prior[1] + baseline[1]

    def win(at: float, ac: float) -> float:
        return float(betainc(ac, at, r_c / (r_c + r_t)))

    gain = max(0.0, a_t / r_t * win(a_t + 1.0, a_c) - a_c / r_c * win(a_t, a_c + 1.0))
    d = a_t / r_t - a_c / r_c

    def ratio(tail: float) -> float:
        u, complement = float(betaincinv(a_t, a_c, tail)), float(betainccinv(a_c, a_t, tail))
        return u * r_c / (complement * r_t)

    low, high = ratio(alpha / 2.0) - 1.0, ratio(1.0 - alpha / 2.0) - 1.0
    # the mean of a ratio of gammas exists only for a_c > 1; the median always does
    centre = a_t / r_t * r_c / (a_c - 1.0) - 1.0 if a_c > 2.0 else ratio(0.5) - 1.0
    sd = math.sqrt(a_t / r_t**2 + a_c / r_c**2) / (a_c / r_c)
    gain = max(gain, d)
    belief = _Belief(Effect(centre, low, high), sd, win(a_t, a_c), gain, gain - d)
    return _told("gamma-Poisson", belief, relative=True, better=better, prior=f"gamma{prior} in each arm")


def _normal(
    mean: float, sd: float, *, relative: bool, better: Better, alpha: float, prior: str, notes: tuple[Note, ...]
) -> Posterior:
    z = mean / sd
    density = math.exp(-0.5 * z * z) / math.sqrt(2.0 * math.pi)
    half = -float(ndtri(alpha / 2.0)) * sd
    belief = _Belief(
        Effect(mean, mean - half, mean + half),
        sd,
        float(ndtr(z)),
        gain=sd * _positive_part(z, density),
        loss=sd * _positive_part(-z, density),
    )
    return _told("normal", belief, relative=relative, better=better, prior=prior, notes=notes)


@dataclass(frozen=True, slots=True)
class _Belief:
    """``win`` is P(effect > 0), ``gain`` E[effect+], ``loss`` E[effect-]; which is good depends on what is better."""

    effect: Effect
    sd: float
    win: float
    gain: float
    loss: float


def _positive_part(z: float, density: float) -> float:
    """Return E[(Z + z)+] of a standard normal Z, without cancellation far below zero."""
    if z > -_TAIL:
        return max(0.0, density + z * float(ndtr(z)))
    # Mills' ratio: phi + z Phi(z) = phi (1 / z^2 - 3 / z^4 + ...)
    u = 1.0 / (z * z)
    return density * u * (1.0 - 3.0 * u * (1.0 - 5.0 * u * (1.0 - 7.0 * u * (1.0 - 9.0 * u * (1.0 - 11.0 * u)))))


def _told(
    method: str, belief: _Belief, *, relative: bool, better: Better, prior: str, notes: tuple[Note, ...] = ()
) -> Posterior:
    up = better == "higher"
    return Posterior(
        method=method,
        effect=belief.effect,
        relative=relative,
        sd=belief.sd,
        chance_to_win=belief.win if up else 1.0 - belief.win,
        loss_if_shipped=belief.loss if up else belief.gain,
        loss_if_kept=belief.gain if up else belief.loss,
        prior=prior,
        assumptions=_ASSUMPTIONS,
        warnings=notes,
    )


def _unknown(prior: str, reason: str, notes: tuple[Note, ...], *, relative: bool) -> Posterior:
    effect = Effect(reason=reason)
    return Posterior("normal", effect, relative, None, None, None, None, prior, _ASSUMPTIONS, notes, reason)


class _Betas:
    """Two independent betas; integrals run over the narrower one's quantiles, where the other one is smooth."""

    def __init__(self, t: tuple[float, float], c: tuple[float, float]) -> None:
        self._over_t = _sd(t) <= _sd(c)
        inner, self._outer = (t, c) if self._over_t else (c, t)
        a, b = inner
        self._x = np.where(_QUANTILES < 0.5, betaincinv(a, b, _QUANTILES), betainccinv(a, b, _COMPLEMENTS))

    def above(self, difference: float) -> float:
        """Return P(T - C > difference)."""
        a, b = self._outer
        if self._over_t:
            inside = betainc(a, b, np.clip(self._x - difference, 0.0, 1.0))
        else:
            inside = 1.0 - betainc(a, b, np.clip(self._x + difference, 0.0, 1.0))
        return float(min(1.0, max(0.0, inside @ _MASS)))


def _sd(shape: tuple[float, float]) -> float:
    a, b = shape
    return math.sqrt(a * b / (a + b + 1.0)) / (a + b)


def _quantile_nodes() -> tuple[Floats, Floats, Floats]:
    """Return nodes in (0, 1), one minus them without cancellation, and their weights: Gauss-Legendre by decades."""
    edges = np.array([0.0, 1e-14, 1e-12, 1e-10, 1e-8, 1e-6, 1e-4, 1e-3, 1e-2, 0.05, 0.2, 0.5])
    nodes, weights = np.polynomial.legendre.leggauss(20)
    half = np.diff(edges)[:, np.newaxis] / 2.0
    lower = (edges[:-1, np.newaxis] + half * (nodes + 1.0)).ravel()
    mass = (half * weights).ravel()
    return np.concatenate([lower, 1.0 - lower]), np.concatenate([1.0 - lower, lower]), np.concatenate([mass, mass])


def _sample(arm: Sample | Moments) -> Sample:
    if isinstance(arm, Sample):
        return arm
    return Sample.of_mean(arm) if arm.k == 1 else Sample.of_ratio(arm)


def _check_better(better: str) -> None:
    if better not in ("higher", "lower"):
        raise InvalidInput("better", better, "must be higher or lower")


def _words(prior: Prior) -> str:
    if prior.sd is None:
        return "flat"
    return f"normal, mean {prior.mean:g}, sd {prior.sd:g} on the {prior.on} effect ({prior.source})"


_QUANTILES, _COMPLEMENTS, _MASS = _quantile_nodes()
_TAIL = 12.0
_BELIEF_MAX = 1e100  # a lift beyond it is a baseline of nothing
_ASSUMPTIONS = (
    "units are independent of each other",
    "effects of experiments like this one are spread as the prior says",
    "calibrated under the prior; no error rate is claimed under repeated looks",
)
