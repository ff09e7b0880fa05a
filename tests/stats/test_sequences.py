"""Looking early: closed forms, and error rates over many looks by simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest

from groundswell.errors import InvalidInput
from groundswell.stats import (
    AlwaysValid,
    Looks,
    Moments,
    Sample,
    Settings,
    always_valid_many,
    compare,
    mixture_sprt,
    sequential_sample_ratio,
)
from groundswell.stats.sequences import multiplier, p_value


def test_the_interval_is_tightest_near_where_it_is_tuned():
    looks = Looks(first_look=2, tuned_for=10_000)

    def width(units: int, tuned: int) -> float:
        return multiplier(Looks(first_look=2, tuned_for=tuned), units, 0.05)

    assert width(10_000, 10_000) < width(10_000, 1_000)
    assert width(10_000, 10_000) < width(10_000, 100_000)
    assert multiplier(looks, 10_000, 0.05) > 1.96


@pytest.mark.parametrize("alternative", ["two-sided", "greater", "less"])
def test_the_p_value_is_alpha_where_the_interval_touches_zero(alternative):
    looks = Looks(first_look=2, tuned_for=3_000)
    for units in (10, 3_000, 10**7):
        z = multiplier(looks, units, 0.05, alternative) * (-1 if alternative == "less" else 1)

        assert p_value(looks, units, z, 0.05, alternative) == pytest.approx(0.05, rel=1e-9)


def test_an_effect_beyond_all_doubt_has_p_zero_and_no_overflow():
    assert p_value(Looks(), 10**6, 1e6, 0.05, "greater") == 0.0
    assert p_value(Looks(), 10**6, -1e6, 0.05, "greater") == 1.0
    assert p_value(Looks(), 10**6, 1e6, 0.05) == 0.0


@pytest.mark.parametrize(("split", "law"), [(0.5, "normal"), (0.1, "normal"), (0.5, "lognormal")])
def test_the_chance_of_ever_calling_is_below_alpha_over_a_hundred_looks_by_simulation(split, law):
    """1,500 experiments of up to 20,000 units, looked at 100 times; with fixed intervals a third would be called."""
    rng = np.random.default_rng(7)
    looks, runs, per_look = Looks(first_look=400, tuned_for=5_000), 1_500, 200
    n_t, n_c = int(per_look * split), per_look - int(per_look * split)
    called, naive = np.zeros(runs, dtype=bool), np.zeros(runs, dtype=bool)
    sums = np.zeros((runs, 4))
    for look in range(1, 101):
        for j, n in ((0, n_t), (2, n_c)):
            x = rng.normal(size=(runs, n)) if law == "normal" else rng.lognormal(0, 0.7, (runs, n))
            sums[:, j] += x.sum(axis=1)
            sums[:, j + 1] += (x * x).sum(axis=1)
        counts = np.array([n_t, n_c]) * look
        means = sums[:, [0, 2]] / counts
        variances = (sums[:, [1, 3]] - counts * means**2) / (counts - 1)
        error = np.sqrt((variances / counts).sum(axis=1))
        low, high = always_valid_many(means[:, 0] - means[:, 1], error, np.full(runs, per_look * look), looks)
        with np.errstate(invalid="ignore"):
            called |= (low > 0) | (high < 0)
        naive |= np.abs(means[:, 0] - means[:, 1]) > 1.96 * error

    assert called.mean() <= 0.05 + 4 * math.sqrt(0.0475 / runs)
    assert naive.mean() > 0.25


def test_many_sequences_are_those_of_single_ones():
    looks = Looks(first_look=100, tuned_for=1_000)
    t, c = Sample(400, 1.3, 1.0, 399.0), Sample(500, 1.0, 2.0, 499.0)
    one = compare(t, c, Settings(looks=looks))

    low, high = always_valid_many([0.3, 0.3], [one.standard_error or 0] * 2, [900, 50], looks)

    assert low[0] == pytest.approx(one.always_valid.low, rel=1e-12)
    assert high[0] == pytest.approx(one.always_valid.high, rel=1e-12)
    assert np.isnan(low[1])


def test_the_mixture_sprt_is_the_sequence_with_the_same_mixture():
    looks = Looks(first_look=2, tuned_for=5_000)
    error, units = 0.02, 4_000
    tau = error * math.sqrt(units * looks.rho2(0.05))

    p, effect = mixture_sprt(0.05, error, tau)

    assert p == pytest.approx(p_value(looks, units, 2.5, 0.05), rel=1e-12)
    assert effect.high == pytest.approx(0.05 + error * multiplier(looks, units, 0.05), rel=1e-12)


def test_the_mixture_sprt_keeps_alpha_under_continuous_looks_by_simulation():
    rng = np.random.default_rng(3)
    runs, looks = 3_000, 200
    path = rng.normal(size=(runs, looks)).cumsum(axis=1)
    n = np.arange(1, looks + 1)
    z2, r = path**2 / n, n * 0.05
    smallest = np.minimum(1, np.sqrt(1 + r) * np.exp(-0.5 * z2 * r / (1 + r))).min(axis=1)

    found = mixture_sprt(path[0, 99] / 100, 0.1, math.sqrt(0.05))[0]

    assert found == pytest.approx(min(1.0, math.sqrt(6) * math.exp(-0.5 * z2[0, 99] * 5 / 6)), rel=1e-9)
    assert (smallest <= 0.05).mean() <= 0.05 + 4 * math.sqrt(0.0475 / runs)


def test_what_is_watched_never_gives_back_what_was_learned():
    state = (
        AlwaysValid()
        .see(100, None, None, None)
        .see(500, -1.0, 3.0, 0.4)
        .see(900, 0.2, 4.0, 0.03)
        .see(950, -0.1, 2.0, 0.2)
    )

    assert (state.low, state.high, state.p_value) == (0.2, 2.0, 0.03)
    assert not state.drifted
    assert state.see(1_000, 2.5, 3.0, 0.01).drifted
    with pytest.raises(InvalidInput, match="must not fall"):
        state.see(10, 0.0, 1.0, 0.5)


def test_a_ratio_metric_has_its_sequence_too():
    rng = np.random.default_rng(1)
    x = rng.poisson(3, 2_000) + 1.0
    table = np.column_stack([x * rng.gamma(2, 1, 2_000), x])

    result = compare(Moments.of(table[:1_000]), Moments.of(table[1_000:]))

    assert result.always_valid.low is not None
    assert result.absolute.low is not None
    assert result.always_valid.low < result.absolute.low


def test_the_sequential_split_test_keeps_its_alarm_rate_and_finds_a_broken_split_by_simulation():
    rng = np.random.default_rng(5)
    runs, looks, per_look = 400, 50, 400
    alarms = {0.5: 0, 0.53: 0}
    for share in alarms:
        counts = rng.binomial(per_look, share, (runs, looks)).cumsum(axis=1)
        for row in counts.tolist():
            alarms[share] += any(
                sequential_sample_ratio({"a": n, "b": per_look * (i + 1) - n}, {"a": 1, "b": 1}, alarm=0.02).ok is False
                for i, n in enumerate(row)
            )

    assert alarms[0.5] / runs <= 0.02 + 4 * math.sqrt(0.0196 / runs)
    assert alarms[0.53] / runs > 0.95


def test_the_sequential_split_test_is_the_ratio_of_two_likelihoods():
    result = sequential_sample_ratio({"a": 3, "b": 5, "c": 0}, {"a": 1, "b": 1, "c": 2}, concentration=4.0)

    # one unit at a time: prior shares 1/4, 1/4, 1/2 updated by what came before, against the planned shares
    odds, seen = 1.0, {"a": 1.0, "b": 1.0, "c": 2.0}
    for unit in "aaabbbbb":
        odds *= seen[unit] / sum(seen.values()) / {"a": 0.25, "b": 0.25, "c": 0.5}[unit]
        seen[unit] += 1
    assert result.p_value == pytest.approx(min(1.0, 1 / odds), rel=1e-9)


def test_the_split_test_says_what_it_cannot_test():
    assert sequential_sample_ratio({"a": 0, "b": 0}, {"a": 1, "b": 1}).ok is None
    assert sequential_sample_ratio({"a": 5, "b": 1}, {"a": 1, "b": 0}).ok is False
    assert sequential_sample_ratio({"a": 10**9, "b": 1}, {"a": 1, "b": 1}).p_value == 0.0


@pytest.mark.parametrize(
    "call",
    [
        lambda: Looks(first_look=1),
        lambda: Looks(tuned_for=0),
        lambda: mixture_sprt(0.1, 0.1, 0.0),
        lambda: mixture_sprt(0.1, 0.0, 0.1),
        lambda: mixture_sprt(0.1, 0.1, 0.1, alpha=1.0),
        lambda: sequential_sample_ratio({"a": 1, "b": 1}, {"a": 1, "b": 1}, concentration=0.0),
    ],
)
def test_a_wrong_call_is_refused(call):
    with pytest.raises(InvalidInput):
        call()
