"""Plans against statsmodels' power solvers and against simulated experiments."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from statsmodels.stats import power as peer

from groundswell.errors import InvalidInput
from groundswell.stats import (
    GroupPlan,
    History,
    Looks,
    Moments,
    Sample,
    Settings,
    Study,
    best_split,
    compare,
    detectable_effect,
    duration,
    power,
    power_curve,
    sample_size,
)

solver: Any = peer.TTestIndPower()


@pytest.mark.parametrize("effect", [0.05, 0.3, 0.8])
@pytest.mark.parametrize("units", [20, 200, 2_000])
@pytest.mark.parametrize(("alternative", "name"), [("two-sided", "two-sided"), ("greater", "larger")])
def test_power_agrees_with_statsmodels(effect, units, alternative, name):
    ours = power(History(0.0, 1.0), effect, units, Study(alternative=alternative))

    theirs = solver.power(effect, nobs1=units / 2, alpha=0.05, ratio=1.0, alternative=name)
    assert ours == pytest.approx(theirs, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("effect", [0.02, 0.3, 0.8])
def test_sample_size_agrees_with_statsmodels(effect):
    ours = sample_size(History(0.0, 1.0), effect)

    theirs = 2 * solver.solve_power(effect, power=0.8, alpha=0.05, ratio=1.0)
    # ours are whole units, and the normal takes over from t beyond ten thousand
    assert ours == pytest.approx(theirs, rel=2e-4, abs=1.5)


def test_size_power_and_effect_are_one_relation():
    history, study = History(10.0, 25.0), Study(share=0.3, reduction=0.4, power=0.9)

    units = sample_size(history, 0.2, study)

    assert units is not None
    assert power(history, 0.2, units, study) >= 0.9 > power(history, 0.2, units - 1, study)
    assert detectable_effect(history, units, study) == pytest.approx(0.2, rel=1e-3)


def test_a_reduction_of_half_the_variance_halves_the_units():
    history = History(1.0, 4.0)

    plain, reduced = sample_size(history, 0.01), sample_size(history, 0.01, Study(reduction=0.5))

    assert plain is not None
    assert reduced == pytest.approx(plain / 2, rel=1e-3)


@pytest.mark.parametrize(("n", "share", "effect"), [(50, 0.5, 0.9), (1_000, 0.5, 0.18), (1_000, 0.1, 0.3)])
def test_simulated_power_is_within_two_points(n, share, effect):
    rng = np.random.default_rng(n)
    n_t = int(n * share)
    runs = 2_500
    shown = 0
    for _ in range(runs):
        t, c = rng.normal(effect, 1, n_t), rng.normal(0, 1, n - n_t)
        p = compare(Moments.of(t), Moments.of(c)).p_value
        shown += p is not None and p <= 0.05

    assert shown / runs == pytest.approx(power(History(0.0, 1.0), effect, n, Study(share=share)), abs=0.02 + 0.02)


def test_an_always_valid_reading_needs_more_units():
    history, looks = History(0.0, 1.0), Looks(first_look=100, tuned_for=5_000)

    fixed, always = sample_size(history, 0.1), sample_size(history, 0.1, Study(looks=looks))

    assert fixed is not None
    assert always is not None
    assert 1.3 < always / fixed < 4
    rng = np.random.default_rng(3)
    settings = Settings(looks=looks)
    found = [
        compare(
            Sample(always // 2, 0.1 + noise, 1.0, always / 2.0), Sample(always // 2, 0.0, 1.0, always / 2.0), settings
        ).always_valid.low
        for noise in rng.normal(0, math.sqrt(4 / always), 2_000)
    ]
    assert np.mean([low is not None and low > 0 for low in found]) == pytest.approx(0.8, abs=0.04)


def test_a_group_sequential_plan_costs_its_inflation():
    history = History(0.0, 1.0)

    fixed = sample_size(history, 0.05)
    group = sample_size(history, 0.05, Study(group=GroupPlan(1.0)))

    assert fixed is not None
    assert group is not None
    assert 1.01 < group / fixed < 1.05


def test_non_inferiority_needs_units_for_its_margin():
    study = Study(alternative="greater", margin=0.1)

    units = sample_size(History(0.0, 1.0), 0.0, study)

    assert units == sample_size(History(0.0, 1.0), 0.1, Study(alternative="greater"))


def test_a_proportions_variance_follows_its_rate():
    assert sample_size(History.of_proportion(0.01), 0.01) != sample_size(History(0.01, 0.0099), 0.01)
    with pytest.raises(InvalidInput, match="rate between 0 and 1"):
        power(History.of_proportion(0.9), 0.2, 100)


def test_a_rate_that_cannot_move_that_far_has_no_detectable_effect():
    assert detectable_effect(History.of_proportion(0.9), 10) is None


def test_duration_is_read_from_ones_own_history():
    history = [(1_000 * day, History(1.0 + 0.1 * day, 2.0 + 0.1 * day)) for day in range(1, 15)]

    day, curve = duration(history, 0.1)

    assert day is not None
    sizes = [point.detectable for point in curve]
    assert all(size is not None for size in sizes)
    assert (sizes[day - 1] or 1) <= 0.1 < (sizes[day - 2] or 0)
    assert duration(history[:1], 0.01)[0] is None
    assert [point.units for point in curve] == [units for units, _ in history]


def test_a_history_that_loses_units_is_refused():
    with pytest.raises(InvalidInput, match="must not fall"):
        duration([(10, History(1.0, 1.0)), (5, History(1.0, 1.0))], 0.1)


def test_a_curve_rises_with_units_and_effect():
    table = np.array(power_curve(History(0.0, 1.0), [0.1, 0.2], [100, 1_000, 10_000]))

    assert (np.diff(table, axis=0) > 0).all()
    assert (np.diff(table, axis=1) >= 0).all()


def test_the_best_split_has_the_least_variance():
    sds = [1.0, 2.0, 1.5]

    def variance(shares: list[float]) -> float:
        return sum(sds[0] ** 2 / shares[0] + sds[i] ** 2 / shares[i] for i in (1, 2))

    best = best_split(sds)

    assert sum(best) == pytest.approx(1)
    for i, j in ((0, 1), (1, 2), (2, 0)):
        moved = list(best)
        moved[i], moved[j] = moved[i] + 0.01, moved[j] - 0.01
        assert variance(moved) > variance(best)


@pytest.mark.parametrize(
    "call",
    [
        lambda: History(1.0, 0.0),
        lambda: History(math.inf, 1.0),
        lambda: History.of(Sample(1, 1.0, None, reason="one unit")),
        lambda: Study(alpha=1.2),
        lambda: Study(power=0.01),
        lambda: Study(reduction=1.0),
        lambda: Study(margin=1.0),
        lambda: Study(looks=Looks(), group=GroupPlan(1.0)),
        lambda: sample_size(History(0.0, 1.0), 0.0),
        lambda: sample_size(History(0.0, 1.0), 0.1, Study(alternative="less")),
        lambda: best_split([1.0]),
        lambda: power(History(0.0, 1.0), math.nan, 10),
    ],
)
def test_a_wrong_plan_is_refused(call):
    with pytest.raises(InvalidInput):
        call()
