"""The sample ratio, against scipy and by enumeration."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats as oracle

from groundswell.errors import InvalidInput
from groundswell.stats import sample_ratio


def test_large_counts_agree_with_scipys_chi_square():
    ours = sample_ratio({"a": 5021, "b": 4800, "c": 1100}, {"a": 45, "b": 45, "c": 10})

    total = 5021 + 4800 + 1100
    theirs = oracle.chisquare([5021, 4800, 1100], np.array([0.45, 0.45, 0.1]) * total)
    assert ours.p_value == pytest.approx(theirs.pvalue, rel=1e-9)
    assert (ours.method, ours.degrees_of_freedom) == ("chi-square", 2)


@pytest.mark.parametrize(("a", "b", "share"), [(0, 9, 0.5), (7, 1, 0.5), (3, 1000, 0.001), (2, 40, 0.1)])
def test_two_small_arms_agree_with_scipys_exact_binomial(a, b, share):
    ours = sample_ratio({"a": a, "b": b}, {"a": share, "b": 1 - share})

    assert ours.p_value == pytest.approx(oracle.binomtest(a, a + b, share).pvalue, rel=1e-9)
    assert ours.method == "exact multinomial"


def test_three_small_arms_agree_with_a_sum_over_every_outcome():
    observed, share = (7, 1, 2), (0.5, 0.3, 0.2)

    ours = sample_ratio(dict(zip("abc", observed, strict=True)), dict(zip("abc", share, strict=True)))

    law = oracle.multinomial(10, share)
    outcomes = [o for o in itertools.product(range(11), repeat=3) if sum(o) == 10]
    rare = sum(law.pmf(o) for o in outcomes if law.pmf(o) <= law.pmf(observed) * (1 + 1e-9))
    assert ours.p_value == pytest.approx(rare, rel=1e-9)


def test_many_outcomes_are_simulated_with_a_seed_that_is_told():
    observed = {"a": 100_000, "b": 100_200, "c": 3}

    ours = sample_ratio(observed, {"a": 1.0, "b": 1.0, "c": 0.00002})

    assert ours.seed is not None
    assert "simulated" in ours.method
    assert ours == sample_ratio(observed, {"a": 1.0, "b": 1.0, "c": 0.00002})


def test_units_in_a_variant_of_weight_zero_raise_the_alarm():
    result = sample_ratio({"a": 10, "b": 1}, {"a": 1, "b": 0})

    assert result.ok is False
    assert "weight 0" in (result.reason or "")


@pytest.mark.parametrize(
    ("observed", "weights", "words"),
    [({"a": 0, "b": 0}, {"a": 1, "b": 1}, "no unit"), ({"a": 5}, {"a": 1}, "one variant")],
)
def test_nothing_to_test_is_no_verdict(observed, weights, words):
    result = sample_ratio(observed, weights)

    assert (result.p_value, result.ok) == (None, None)
    assert words in (result.reason or "")


@pytest.mark.parametrize(
    ("observed", "weights"),
    [
        ({"a": -1, "b": 2}, {"a": 1, "b": 1}),
        ({"a": 1, "b": 2}, {"a": 1, "c": 1}),
        ({"a": 1, "b": 2}, {"a": 0, "b": 0}),
        ({"a": 1, "b": 2}, {"a": math.nan, "b": 1}),
        ({"a": 1, "b": 2}, {"a": -1, "b": 2}),
    ],
)
def test_a_wrong_call_is_refused(observed, weights):
    with pytest.raises(InvalidInput):
        sample_ratio(observed, weights)
