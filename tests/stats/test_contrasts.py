"""Two arms compared, against scipy and against itself."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as oracle

from groundswell.errors import InvalidInput
from groundswell.stats import Looks, Moments, Settings, compare


def known(value: float | None) -> float:
    assert value is not None
    return value


def arms(seed: int, n: int = 400, shift: float = 0.1) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.gamma(2.0, 1.5, n) + shift, rng.gamma(2.0, 1.2, n + 37)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("test", "equal_var"), [("welch", False), ("pooled", True)])
@pytest.mark.parametrize("alternative", ["two-sided", "greater", "less"])
def test_the_t_tests_agree_with_scipy(seed, test, equal_var, alternative):
    t, c = arms(seed)

    ours = compare(Moments.of(t), Moments.of(c), Settings(test=test, alternative=alternative))

    theirs = oracle.ttest_ind(t, c, equal_var=equal_var, alternative=alternative)
    interval = theirs.confidence_interval(0.95)
    assert ours.p_value == pytest.approx(theirs.pvalue, rel=1e-9)
    assert ours.degrees_of_freedom == pytest.approx(theirs.df, rel=1e-9)
    for bound, expected in ((ours.absolute.low, interval.low), (ours.absolute.high, interval.high)):
        assert (bound is None) is math.isinf(expected)
        assert bound is None or bound == pytest.approx(expected, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("side", ["low", "high"])
def test_a_bound_of_the_relative_effect_is_where_the_test_of_that_ratio_has_p_alpha(seed, side):
    t, c = arms(seed)
    result = compare(Moments.of(t), Moments.of(c))

    ratio = 1.0 + getattr(result.relative, side)

    error = math.sqrt(t.var(ddof=1) / len(t) + ratio**2 * c.var(ddof=1) / len(c))
    statistic = (t.mean() - ratio * c.mean()) / error
    assert 2 * oracle.t.sf(abs(statistic), known(result.degrees_of_freedom)) == pytest.approx(0.05, rel=1e-9)


finite = st.floats(-1e3, 1e3)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(finite, min_size=2, max_size=30),
    st.lists(finite, min_size=2, max_size=30),
    st.sampled_from(["two-sided", "greater", "less"]),
)
def test_every_interval_agrees_with_its_p_value(t, c, alternative):
    looks = Looks(first_look=2, tuned_for=40)

    result = compare(Moments.of(t), Moments.of(c), Settings(alternative=alternative, looks=looks))

    if result.p_value is None:
        assert result.reason
        return
    for effect, p in (
        (result.absolute, result.p_value),
        (result.relative, result.p_value),
        (result.always_valid, result.always_valid_p),
        (result.always_valid_relative, result.always_valid_p),
    ):
        assert p is not None
        if abs(p - 0.05) < 1e-6:
            continue
        if effect.low is None and effect.high is None:
            assert effect.reason
            continue
        excluded = (effect.low is not None and effect.low > 0) or (effect.high is not None and effect.high < 0)
        assert excluded is (p < 0.05)


@settings(max_examples=100, deadline=None)
@given(st.lists(finite, min_size=3, max_size=30), st.lists(finite, min_size=3, max_size=30))
def test_swapping_arms_mirrors_the_absolute_effect(t, c):
    there, back = compare(Moments.of(t), Moments.of(c)), compare(Moments.of(c), Moments.of(t))

    if there.p_value is None or back.p_value is None:
        assert there.reason == back.reason
        return
    assert there.p_value == pytest.approx(back.p_value, rel=1e-9)
    if there.absolute.low is not None and there.absolute.high is not None:
        assert back.absolute.low == pytest.approx(-there.absolute.high, rel=1e-9, abs=1e-9)
        assert back.absolute.high == pytest.approx(-there.absolute.low, rel=1e-9, abs=1e-9)


def test_swapping_arms_inverts_one_plus_the_lift():
    t, c = arms(3)

    there, back = compare(Moments.of(t), Moments.of(c)), compare(Moments.of(c), Moments.of(t))

    assert 1 + known(back.relative.low) == pytest.approx(1 / (1 + known(there.relative.high)), rel=1e-9)
    assert 1 + known(back.relative.high) == pytest.approx(1 / (1 + known(there.relative.low)), rel=1e-9)


def test_a_ratio_by_moments_is_the_mean_of_its_influence_values():
    rng = np.random.default_rng(8)
    x = rng.poisson(3.0, 500) + 1.0
    y = x * rng.gamma(2.0, 1.0, 500)
    base = Moments.of(np.column_stack([y[250:], x[250:]]))

    result = compare(Moments.of(np.column_stack([y[:250], x[:250]])), base)

    r = [y[:250].sum() / x[:250].sum(), y[250:].sum() / x[250:].sum()]
    z = [(y[:250] - r[0] * x[:250]) / x[:250].mean() + r[0], (y[250:] - r[1] * x[250:]) / x[250:].mean() + r[1]]
    theirs = oracle.ttest_ind(z[0], z[1], equal_var=False)
    assert result.absolute.estimate == pytest.approx(r[0] - r[1], rel=1e-12)
    assert result.p_value == pytest.approx(theirs.pvalue, rel=1e-9)


def test_a_baseline_near_zero_has_no_relative_interval_but_says_why():
    rng = np.random.default_rng(2)

    result = compare(Moments.of(rng.normal(0.1, 1, 200)), Moments.of(rng.normal(0.0, 1, 200)))

    assert result.relative.low is None
    assert "not clearly different from 0" in (result.relative.reason or "")
    assert result.absolute.low is not None


def test_a_negative_baseline_keeps_the_direction_of_the_lift():
    rng = np.random.default_rng(2)

    result = compare(Moments.of(rng.normal(-5, 1, 200)), Moments.of(rng.normal(-10, 1, 200)))

    assert result.relative.estimate == pytest.approx(0.5, abs=0.03)
    assert known(result.relative.low) > 0


@pytest.mark.parametrize(
    ("treatment", "baseline", "words"),
    [
        (Moments.empty(1), Moments.of([1.0, 2.0]), "treatment: no unit"),
        (Moments.of([1.0]), Moments.of([1.0, 2.0]), "one unit only"),
        (Moments.constant(9, 1.0), Moments.constant(9, 1.0), "variance is 0"),
        (Moments(3, np.array([math.nan]), np.eye(1), np.zeros(1), np.zeros(1)), Moments.of([1.0, 2.0]), "not finite"),
        (Moments.constant(9, [1.0, 0.0]), Moments.of([[1.0, 2.0], [3.0, 4.0]]), "denominator sums to 0"),
    ],
)
def test_what_cannot_be_compared_says_why_and_shows_no_p_value(treatment, baseline, words):
    result = compare(treatment, baseline)

    assert result.p_value is None
    assert words in (result.reason or "")
    assert result.absolute.low is None


def test_a_baseline_mean_of_zero_has_an_absolute_effect_only():
    result = compare(Moments.of([1.0, 2.0, 3.0]), Moments.of([-1.0, 0.0, 1.0]))

    assert result.absolute.low is not None
    assert (result.relative.estimate, result.relative.low) == (None, None)
    assert "mean is 0" in (result.relative.reason or "")


@pytest.mark.parametrize("alpha", [0.0, 1.0, -0.1, math.nan])
def test_alpha_outside_zero_and_one_is_refused(alpha):
    with pytest.raises(InvalidInput, match="alpha"):
        Settings(alpha=alpha)


def test_no_always_valid_interval_is_shown_before_the_first_look():
    t, c = arms(0, n=100)

    result = compare(Moments.of(t), Moments.of(c), Settings(looks=Looks(first_look=1000, tuned_for=5000)))

    assert result.always_valid_p is None
    assert "first look" in (result.always_valid.reason or "")
