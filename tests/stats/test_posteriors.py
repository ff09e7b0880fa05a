"""Bayesian answers, against quadrature and simulation, and calibrated under their own prior."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import integrate
from scipy import stats as oracle

from groundswell.errors import InvalidInput
from groundswell.stats import Moments, Prior, Sample, beta_binomial, gamma_poisson, posterior


def known(value: float | None) -> float:
    assert value is not None
    return value


@pytest.mark.parametrize(
    ("t", "c"),
    [
        ((0, 3), (2, 5)),
        ((12, 40), (9, 50)),
        ((120, 1_000), (100, 1_000)),
        ((7, 7), (0, 4)),
        ((55_000, 10**6), (54_500, 10**6)),
    ],
)
def test_beta_binomial_agrees_with_quadrature(t, c):
    result = beta_binomial(t, c)

    law_t, law_c = (oracle.beta(1 + s, 1 + n - s) for s, n in (t, c))
    low, high = float(law_c.ppf(1e-14)), float(law_c.isf(1e-14))
    win = integrate.quad(lambda x: float(law_c.pdf(x) * law_t.sf(x)), low, high, epsabs=1e-13, limit=400)[0]
    # scipy's own density of a million trials is good to some 1e-9
    assert result.chance_to_win == pytest.approx(win, abs=3e-9 if max(t + c) > 10**5 else 1e-10)
    assert result.effect.estimate == pytest.approx(law_t.mean() - law_c.mean(), rel=1e-9)
    shift = known(result.effect.low)
    below = integrate.quad(lambda x: float(law_c.pdf(x) * law_t.cdf(x + shift)), low, high, epsabs=1e-13, limit=400)[0]
    assert below == pytest.approx(0.025, abs=1e-8)


def test_expected_losses_agree_with_simulation():
    result = beta_binomial((30, 200), (25, 210))

    rng = np.random.default_rng(1)
    d = rng.beta(31, 171, 400_000) - rng.beta(26, 186, 400_000)
    assert result.loss_if_shipped == pytest.approx(np.maximum(-d, 0).mean(), rel=0.02)
    assert result.loss_if_kept == pytest.approx(np.maximum(d, 0).mean(), rel=0.02)


def test_gamma_poisson_agrees_with_simulation():
    result = gamma_poisson((30, 100.0), (20, 90.0))

    rng = np.random.default_rng(2)
    t, c = rng.gamma(30.5, 1 / 100, 400_000), rng.gamma(20.5, 1 / 90, 400_000)
    lift = t / c - 1
    assert result.chance_to_win == pytest.approx((t > c).mean(), abs=0.003)
    assert result.effect.low == pytest.approx(np.quantile(lift, 0.025), abs=0.01)
    assert result.effect.high == pytest.approx(np.quantile(lift, 0.975), abs=0.02)
    assert result.effect.estimate == pytest.approx(lift.mean(), abs=0.01)
    assert result.loss_if_shipped == pytest.approx(np.maximum(c - t, 0).mean(), rel=0.03)


def test_a_flat_prior_gives_back_the_estimate():
    rng = np.random.default_rng(0)
    t, c = Moments.of(rng.normal(1.1, 1, 500)), Moments.of(rng.normal(1, 1, 500))

    result = posterior(t, c, relative=False)

    difference = float(t.mean[0] - c.mean[0])
    error = np.sqrt((t.covariance()[0, 0] + c.covariance()[0, 0]) / 500)
    assert result.effect.estimate == pytest.approx(difference, rel=1e-12)
    assert result.chance_to_win == pytest.approx(oracle.norm.cdf(difference / error), rel=1e-9)


def test_a_prior_on_the_other_scale_is_carried_by_the_baseline():
    t, c = Sample.of_proportion(560, 5_000), Sample.of_proportion(500, 5_000)

    on_relative = posterior(t, c, prior=Prior(0.02, 0.05, on="relative"), relative=False)
    on_absolute = posterior(t, c, prior=Prior(0.002, 0.005, on="absolute"), relative=False)

    assert on_relative.effect.estimate == pytest.approx(on_absolute.effect.estimate, rel=1e-12)


def test_lower_is_better_mirrors_the_answer():
    t, c = Sample.of_proportion(560, 5_000), Sample.of_proportion(500, 5_000)

    up, down = posterior(t, c), posterior(t, c, better="lower")

    assert known(up.chance_to_win) + known(down.chance_to_win) == pytest.approx(1)
    assert (up.loss_if_shipped, up.loss_if_kept) == (down.loss_if_kept, down.loss_if_shipped)


def test_a_loss_far_in_the_tail_keeps_its_digits():
    tail = posterior(Sample(10**6, 1.2, 1.0, 1e6), Sample(10**6, 1.0, 1.0, 1e6), relative=False)

    z = 0.2 / np.sqrt(2e-6)
    exact = np.sqrt(2e-6) * integrate.quad(lambda u: float(oracle.norm.sf(z + u)), 0, 1)[0]
    assert known(tail.loss_if_shipped) >= 0.0
    assert tail.loss_if_shipped == pytest.approx(exact, rel=1e-6, abs=1e-300)
    near = posterior(Sample(100, 3.0, 1.0, 99.0), Sample(100, 1.0, 1.0, 99.0), relative=False)
    z = 2 / np.sqrt(0.02)
    exact = np.sqrt(0.02) * integrate.quad(lambda u: float(oracle.norm.sf(z + u)), 0, 3, epsabs=0)[0]
    assert near.loss_if_shipped == pytest.approx(exact, rel=1e-6)


def test_beliefs_are_calibrated_under_their_prior():
    rng = np.random.default_rng(5)
    covered, predicted, won = 0, 0.0, 0
    runs = 4_000
    for effect, noise in zip(rng.normal(0.01, 0.03, runs), rng.normal(0, 0.02, runs), strict=True):
        t = Sample(1_000, 1.0 + effect + noise, 0.02**2 * 1_000 - 1e-6, 999.0)
        result = posterior(t, Sample(1_000, 1.0, 1e-6, 999.0), prior=Prior(0.01, 0.03), relative=False)
        covered += known(result.effect.low) <= effect <= known(result.effect.high)
        predicted += known(result.chance_to_win)
        won += effect > 0

    assert covered / runs == pytest.approx(0.95, abs=4 * np.sqrt(0.95 * 0.05 / runs))
    assert predicted / runs == pytest.approx(won / runs, abs=0.03)


@pytest.mark.parametrize(
    "call",
    [
        lambda: beta_binomial((5, 3), (1, 2)),
        lambda: beta_binomial((1, 3), (1, 2), prior=(0.0, 1.0)),
        lambda: gamma_poisson((-1, 3.0), (1, 2.0)),
        lambda: gamma_poisson((1, 0.0), (1, 2.0)),
        lambda: Prior(sd=0.0),
        lambda: posterior(Sample.of_proportion(1, 2), Sample.of_proportion(1, 2), better="up"),  # type: ignore[arg-type]
    ],
)
def test_a_wrong_call_is_refused(call):
    with pytest.raises(InvalidInput):
        call()


def test_what_cannot_be_believed_says_why():
    result = posterior(Moments.of([1.0, 2.0]), Moments.of([-1.0, 1.0]))

    assert result.chance_to_win is None
    assert "mean is 0" in (result.reason or "") or "too near 0" in (result.reason or "")
