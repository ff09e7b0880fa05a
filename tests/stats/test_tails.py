"""Heavy tails and what past experiments teach."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats as oracle

from groundswell.errors import InvalidInput
from groundswell.stats import (
    Cut,
    Prior,
    compare,
    cut_at,
    diagnose,
    learn_prior,
    shrink,
    total_of_winners,
    trimmed_mean,
)


@pytest.mark.parametrize("share", [0.0, 0.05, 0.2])
def test_trimmed_means_agree_with_scipys_yuen_test(share):
    rng = np.random.default_rng(1)
    t, c = rng.standard_t(3, 120) + 0.3, rng.standard_t(3, 90)

    ours = compare(trimmed_mean(t, share), trimmed_mean(c, share))

    theirs = oracle.ttest_ind(t, c, equal_var=False, trim=share)
    assert ours.p_value == pytest.approx(theirs.pvalue, rel=1e-9)
    assert ours.statistic == pytest.approx(theirs.statistic, rel=1e-9)


def test_the_cut_comes_from_all_arms_pooled():
    cut = cut_at([np.arange(50.0), np.arange(50.0, 101.0)], high=0.9)

    assert cut.high == np.quantile(np.arange(101.0), 0.9, method="inverted_cdf")
    assert "2 arms pooled" in cut.source
    assert cut.apply([1.0, 500.0]).tolist() == [1.0, cut.high]


def test_zeros_can_be_left_out_of_the_percentile():
    values = np.concatenate([np.zeros(900), np.arange(1.0, 101.0)])

    assert cut_at([values], high=0.9).high == 0.0
    assert cut_at([values], high=0.9, zeros=False).high == 90.0


def test_a_cut_can_be_frozen_and_used_again():
    cut = cut_at([np.arange(100.0)], high=0.95, low=0.05)

    again = Cut(cut.low, cut.high, "frozen on Monday")

    later = np.arange(200.0)
    np.testing.assert_array_equal(again.apply(later), cut.apply(later))
    assert again.share_cut(later) == pytest.approx(np.mean((later < 4) | (later > 94)))
    assert again.moments(later).count == 200


def test_winsorising_keeps_size_where_means_lose_power_by_simulation():
    rng = np.random.default_rng(2)
    runs, wrong = 400, 0
    for _ in range(runs):
        t, c = rng.lognormal(0, 2, 500), rng.lognormal(0, 2, 500)
        cut = cut_at([t, c], high=0.99)
        p = compare(cut.moments(t), cut.moments(c)).p_value
        wrong += p is not None and p <= 0.05

    assert wrong / runs <= 0.05 + 4 * math.sqrt(0.0475 / runs)


def test_diagnostics_name_what_is_wrong():
    rng = np.random.default_rng(3)

    def codes(values: np.ndarray) -> set[str]:
        return {note.code for note in diagnose(values)}

    assert codes(rng.normal(size=5_000)) == set()
    assert codes(rng.lognormal(0, 2, 1_000)) >= {"skewed"}
    assert codes(np.append(np.zeros(990), np.ones(10))) >= {"few-nonzero", "skewed"}
    assert codes(np.append(rng.random(1_000), 500.0)) >= {"one-unit-dominates"}
    assert codes(np.zeros(0)) == set()


def test_a_learned_prior_is_the_one_effects_came_from():
    rng = np.random.default_rng(4)
    errors = rng.uniform(0.01, 0.04, 3_000)
    truth = rng.normal(0.005, 0.02, 3_000)

    prior = learn_prior(truth + rng.normal(0, errors), errors)

    assert prior.mean == pytest.approx(0.005, abs=0.002)
    assert prior.sd == pytest.approx(0.02, rel=0.06)


def test_equal_errors_have_a_closed_form():
    rng = np.random.default_rng(5)
    x = rng.normal(0.1, 0.5, 40)

    prior = learn_prior(x, np.full(40, 0.2))

    assert prior.mean == pytest.approx(x.mean(), rel=1e-9)
    assert prior.sd == pytest.approx(math.sqrt(x.var() - 0.04), rel=1e-9)


def test_shrunk_winners_are_unbiased_by_simulation():
    rng = np.random.default_rng(6)
    errors = np.full(40_000, 0.02)
    truth = rng.normal(0, 0.02, 40_000)
    seen = truth + rng.normal(0, errors)
    winners = seen > 1.96 * errors

    shrunk = np.array([e.estimate or 0 for e in shrink(seen[winners], errors[winners], Prior(0.0, 0.02))])

    assert seen[winners].mean() > 1.5 * truth[winners].mean()
    assert shrunk.mean() == pytest.approx(truth[winners].mean(), rel=0.05)


def test_the_total_of_launched_winners_loses_its_curse_by_simulation():
    rng = np.random.default_rng(7)
    gaps: list[float] = []
    naive_gaps: list[float] = []
    for _ in range(400):
        truth = rng.normal(0.01, 0.01, 60)
        errors = rng.uniform(0.005, 0.02, 60)
        seen = truth + rng.normal(0, errors)
        result = total_of_winners(seen, errors)
        true_total = float(truth[seen > errors * oracle.norm.isf(0.025)].sum())
        gaps.append(result.corrected - true_total)
        naive_gaps.append(result.naive - true_total)

    assert np.mean(naive_gaps) > 0.05
    assert abs(np.mean(gaps)) < 0.35 * np.mean(naive_gaps)


@pytest.mark.parametrize(
    "call",
    [
        lambda: Cut(2.0, 1.0),
        lambda: Cut(math.nan),
        lambda: cut_at([[1.0]], high=99),
        lambda: cut_at([[0.0, 0.0]], zeros=False),
        lambda: trimmed_mean([1.0], 0.5),
        lambda: diagnose([math.nan]),
        lambda: learn_prior([0.1] * 5, [0.1] * 5),
        lambda: learn_prior([0.1] * 20, [0.1] * 20),
        lambda: learn_prior([0.1] * 20, [0.0] * 20),
        lambda: total_of_winners([0.1], [0.1], thresholds=[0.1, 0.2]),
    ],
)
def test_a_wrong_call_is_refused(call):
    with pytest.raises(InvalidInput):
        call()
