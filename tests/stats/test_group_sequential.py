"""Boundaries against published tables, against scipy's multivariate normal, and by simulation."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as oracle

from groundswell.errors import InvalidInput
from groundswell.stats import GroupPlan, GroupTest, boundaries, classic_boundaries
from groundswell.stats.group_sequential import planned_drift, spent

FIFTHS = (0.2, 0.4, 0.6, 0.8, 1.0)


@pytest.mark.parametrize(
    ("looks", "obrien_fleming", "pocock"),
    [(2, 1.977, 2.178), (3, 2.004, 2.289), (4, 2.024, 2.361), (5, 2.040, 2.413), (10, 2.087, 2.555)],
)
def test_equally_spaced_boundaries_are_those_of_jennison_and_turnbull(looks, obrien_fleming, pocock):
    ours = classic_boundaries("obrien-fleming", looks), classic_boundaries("pocock", looks)

    assert ours[0].upper[-1] == pytest.approx(obrien_fleming, abs=6e-4)
    assert ours[0].upper[0] == pytest.approx(ours[0].upper[-1] * math.sqrt(looks), rel=1e-12)
    assert ours[1].upper[0] == pytest.approx(pocock, abs=6e-4)


def test_spending_boundaries_are_those_of_reboussin_and_others():
    # ld98's published five looks at 5%, two-sided
    assert boundaries(GroupPlan(1.0), FIFTHS).upper == pytest.approx((4.8769, 3.3569, 2.6803, 2.2898, 2.0310), abs=2e-4)
    pocock = boundaries(GroupPlan(1.0, spending="pocock"), FIFTHS).upper
    assert pocock == pytest.approx((2.4380, 2.4268, 2.4101, 2.3966, 2.3859), abs=2e-4)


def test_a_one_sided_design_with_futility_is_that_of_gsdesign():
    # gsDesign(k = 3, test.type = 4, alpha = .025, beta = .1), its default
    plan = GroupPlan(
        1.0,
        alpha=0.025,
        sides=1,
        power=0.9,
        spending="hwang-shih-decani",
        shape=-4.0,
        futility="hwang-shih-decani",
        futility_shape=-2.0,
        planned=(1 / 3, 2 / 3, 1.0),
    )

    ours = boundaries(plan, plan.planned)

    assert ours.upper == pytest.approx((3.0107, 2.5465, 1.9992), abs=6e-5)
    assert ours.futility == pytest.approx((-0.2387, 0.9411, 1.9992), abs=6e-5)
    fixed = oracle.norm.isf(0.025) + oracle.norm.isf(0.1)
    assert (planned_drift(plan) / fixed) ** 2 == pytest.approx(1.0699, abs=6e-5)


@pytest.mark.parametrize("spending", ["obrien-fleming", "pocock", "power", "hwang-shih-decani"])
def test_crossing_probabilities_agree_with_the_multivariate_normal(spending):
    times = np.array([0.3, 0.55, 1.0])
    found = boundaries(GroupPlan(1.0, spending=spending), times.tolist())

    corr = np.sqrt(np.minimum.outer(times, times) / np.maximum.outer(times, times))
    normal: Any = oracle.multivariate_normal
    law = normal(np.zeros(3), corr, abseps=1e-9, releps=1e-9, maxpts=2_000_000)
    b = np.array(found.upper)
    stay = law.cdf(b, lower_limit=-b)
    assert 1 - stay == pytest.approx(0.05, abs=2e-6)
    first_two = normal(np.zeros(2), corr[:2, :2]).cdf(b[:2], lower_limit=-b[:2])
    expected = 2 * spent(spending, 0.55, 0.025)
    assert 1 - first_two == pytest.approx(expected, abs=2e-6)


def test_one_look_is_the_fixed_test():
    assert boundaries(GroupPlan(1.0), [1.0]).upper[0] == pytest.approx(oracle.norm.isf(0.025), rel=1e-9)


def test_a_hundred_looks_keep_alpha():
    ours = boundaries(GroupPlan(1.0), [(k + 1) / 100 for k in range(100)])

    assert sum(ours.crossing) == pytest.approx(0.05, abs=1e-9)
    assert ours.upper[-1] == pytest.approx(2.1854, abs=1e-3)


@settings(max_examples=15, deadline=None)
@given(
    st.lists(st.integers(1, 999), min_size=1, max_size=8, unique=True), st.sampled_from(["obrien-fleming", "pocock"])
)
def test_looks_at_any_moment_spend_alpha_exactly(at, spending):
    fractions = [*sorted(i / 1_000 for i in at), 1.0]

    ours = boundaries(GroupPlan(1.0, spending=spending), fractions)

    assert sum(ours.crossing) == pytest.approx(0.05, abs=1e-9)


def test_looks_are_state_and_earlier_boundaries_stay():
    test = GroupTest(GroupPlan(1_000.0))

    test = test.look(300.0, 1.5)
    test = test.look(650.0, 2.1)

    assert test.decision == "continue"
    ideal = boundaries(test.plan, [0.3, 0.65], last=False)
    assert [look.upper for look in test.looks] == pytest.approx(ideal.upper, rel=1e-9)
    assert test.looks[-1].spent == pytest.approx(2 * spent("obrien-fleming", 0.65, 0.025), rel=1e-6)


@pytest.mark.parametrize(("information", "z"), [(300.0, 1.0), (200.0, 1.0), (math.nan, 1.0), (500.0, math.nan)])
def test_looks_that_go_back_in_time_or_see_nothing_are_refused(information, z):
    test = GroupTest(GroupPlan(1_000.0)).look(300.0, 1.5)

    with pytest.raises(InvalidInput):
        test.look(information, z)


def test_no_look_follows_an_end():
    test = GroupTest(GroupPlan(1_000.0)).look(500.0, 5.0)

    assert test.decision == "effect"
    with pytest.raises(InvalidInput, match="ended the test"):
        test.look(600.0, 5.0)


def test_stopping_early_for_good_spends_all_that_is_left():
    test = GroupTest(GroupPlan(1_000.0)).look(300.0, 1.0).look(700.0, 1.0, last=True)

    assert test.decision == "no effect shown"
    assert test.looks[-1].spent == pytest.approx(0.05, abs=1e-9)


def test_overrunning_the_plan_still_spends_alpha_once():
    test = GroupTest(GroupPlan(1_000.0)).look(600.0, 1.0).look(1_300.0, 1.0)

    assert test.looks[-1].spent == pytest.approx(0.05, abs=1e-9)


def test_hopeless_experiments_stop_for_futility():
    plan = GroupPlan(1_000.0, sides=1, alpha=0.025, futility="obrien-fleming", power=0.9)

    assert GroupTest(plan).look(600.0, -0.5).decision == "futility"


def test_the_repeated_interval_excludes_zero_exactly_when_the_boundary_is_crossed():
    for z, decision in ((2.5, "continue"), (2.8, "effect")):
        test = GroupTest(GroupPlan(1_000.0)).look(600.0, z)

        interval = test.interval(z * 0.01, 0.01)

        assert test.decision == decision
        assert interval.low is not None
        assert (interval.low > 0) is (decision == "effect")


def test_the_final_p_value_of_one_look_is_the_fixed_one():
    test = GroupTest(GroupPlan(1_000.0)).look(1_000.0, 2.2)

    assert test.p_value() == pytest.approx(2 * oracle.norm.sf(2.2), rel=1e-9)
    final = test.final(0.01)
    assert final.estimate == pytest.approx(0.022, rel=1e-6)
    assert final.low == pytest.approx((2.2 - oracle.norm.isf(0.025)) * 0.01, rel=1e-6)


def paths(drift: float, runs: int, seed: int) -> np.ndarray:
    """Return the statistic at each fifth of information, shape (runs, 5); ``drift`` is its mean at full information."""
    steps = np.random.default_rng(seed).normal(drift / 5, math.sqrt(0.2), (runs, 5))
    return steps.cumsum(axis=1) / np.sqrt(FIFTHS)


def test_size_is_alpha_and_power_is_the_plans_by_simulation():
    plan = GroupPlan(1.0, alpha=0.025, sides=1, futility="obrien-fleming", power=0.9)
    ours = boundaries(plan, FIFTHS)
    runs = 100_000

    rates: list[float] = []
    for drift, futile in ((0.0, False), (planned_drift(plan), True)):
        z = paths(drift, runs, 3)
        over = z >= np.array(ours.upper)
        under = z <= np.array(ours.futility) if futile else np.zeros_like(over)
        first = np.where(over.any(axis=1), over.argmax(axis=1), 9)
        stopped = np.where(under[:, :-1].any(axis=1), under[:, :-1].argmax(axis=1), 9)
        rates.append(float((first < np.minimum(stopped, 9)).mean()))

    assert rates[0] == pytest.approx(0.025, abs=4 * math.sqrt(0.025 * 0.975 / runs))
    assert rates[1] == pytest.approx(0.9, abs=4 * math.sqrt(0.09 / runs))


def test_final_intervals_cover_and_the_estimate_is_median_unbiased_by_simulation():
    effect, runs = 2.5, 150
    covered = below = 0
    for row in paths(effect, runs, 6):
        test = GroupTest(GroupPlan(1.0))
        for t, z in zip(FIFTHS, row.tolist(), strict=True):
            test = test.look(t, z)
            if test.decision != "continue":
                break
        final = test.final(1 / math.sqrt(test.looks[-1].information))
        assert final.estimate is not None
        assert final.low is not None
        assert final.high is not None
        covered += final.low <= effect <= final.high
        below += final.estimate < effect

    assert covered / runs > 0.95 - 4 * math.sqrt(0.0475 / runs)
    assert below / runs == pytest.approx(0.5, abs=4 * math.sqrt(0.25 / runs))


@pytest.mark.parametrize(
    "call",
    [
        lambda: GroupPlan(0.0),
        lambda: GroupPlan(1.0, alpha=1.0),
        lambda: GroupPlan(1.0, futility="pocock"),
        lambda: GroupPlan(1.0, spending="guess"),  # type: ignore[arg-type]
        lambda: GroupPlan(1.0, planned=(0.5, 0.4)),
        lambda: boundaries(GroupPlan(1.0), [0.5, 1.2]),
        lambda: classic_boundaries("pocock", 0),
        lambda: classic_boundaries("flat", 3),  # type: ignore[arg-type]
    ],
)
def test_a_wrong_plan_is_refused(call):
    with pytest.raises(InvalidInput):
        call()
