"""Quantiles and the bootstrap: order statistics exactly, errors by simulation and by each other."""

from __future__ import annotations

import math

import numpy as np
import pytest

from groundswell.errors import InvalidInput
from groundswell.stats import Moments, bootstrap_means, bootstrap_quantiles, compare, quantile_samples


def events(seed: int, units: int = 800, shift: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Return log-normal values, several to a unit and alike within it, and their units."""
    rng = np.random.default_rng(seed)
    unit = np.repeat(np.arange(units), rng.integers(1, 8, units))
    return np.exp(rng.normal(0, 0.6, units)[unit] + rng.normal(shift, 0.6, len(unit))), unit


@pytest.mark.parametrize("q", [0.5, 0.9, 0.99, 0.999])
def test_the_estimate_is_the_order_statistic(q):
    values, unit = events(0)

    (sample,) = quantile_samples(values, [q], unit=unit)

    assert sample.estimate == np.quantile(values, q, method="inverted_cdf")


@pytest.mark.parametrize("method", ["outer", "jackknife"])
@pytest.mark.parametrize("q", [0.5, 0.95])
def test_the_error_is_that_of_repeated_samples(method, q):
    data = [events(seed, units=1_500) for seed in range(300)]

    samples = [quantile_samples(values, [q], unit=unit, method=method)[0] for values, unit in data]

    spread = np.std([s.estimate or 0 for s in samples], ddof=1)
    told = np.mean([math.sqrt(s.error_variance) for s in samples])
    assert told == pytest.approx(spread, rel=0.2)


@pytest.mark.parametrize("q", [0.5, 0.99])
def test_the_two_ways_agree(q):
    values, unit = events(1, units=20_000)

    (outer,) = quantile_samples(values, [q], unit=unit)
    (jackknife,) = quantile_samples(values, [q], unit=unit, method="jackknife", buckets=200)

    assert math.sqrt(jackknife.error_variance) == pytest.approx(math.sqrt(outer.error_variance), rel=0.3)


def test_the_jackknife_leaves_out_exactly_one_bucket():
    values, unit = events(2, units=60)

    (found,) = quantile_samples(values, [0.7], unit=unit, method="jackknife", buckets=10)

    bucket = ((unit.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(33)) % np.uint64(10)
    left = np.array([np.quantile(values[bucket != j], 0.7, method="inverted_cdf") for j in range(10)])
    assert found.error_variance == pytest.approx(0.9 * ((left - left.mean()) ** 2).sum(), rel=1e-12)


def test_size_is_kept_with_values_alike_within_units_by_simulation():
    runs, wrong = 300, 0
    for seed in range(runs):
        (t,), (c,) = (quantile_samples(v, [0.9], unit=u) for v, u in (events(2 * seed, 300), events(2 * seed + 1, 300)))
        p = compare(t, c).p_value
        wrong += p is not None and p <= 0.05

    assert wrong / runs <= 0.05 + 4 * math.sqrt(0.0475 / runs)


def test_labels_of_units_may_be_anything():
    values, unit = events(3)

    by_code, by_name, by_gap = (
        quantile_samples(values, [0.9], unit=u)[0] for u in (unit, np.array([f"u{u}" for u in unit]), unit * 3 + 7)
    )

    assert by_code == by_name == by_gap


def test_a_quantile_on_a_tie_is_not_taken_for_certain():
    values = np.repeat([1.0, 2.0, 3.0], [100, 800, 100])

    (sample,) = quantile_samples(values, [0.5])

    assert [note.code for note in sample.notes] == ["tied-quantile"]
    assert sample.error_variance > 0


@pytest.mark.parametrize(
    ("values", "q", "words"),
    [
        ([], 0.5, "no value"),
        ([1.0], 0.5, "one unit only"),
        ([1.0] * 50, 0.5, "all alike"),
        (list(range(100)), 0.999, "too few values lie above"),
        (list(range(100)), 0.001, "too few values lie below"),
    ],
)
def test_what_cannot_be_bounded_says_why(values, q, words):
    (sample,) = quantile_samples(np.array(values, dtype=float), [q])

    assert words in (sample.reason or "")
    assert compare(sample, sample).p_value is None


@pytest.mark.parametrize(
    "call",
    [
        lambda: quantile_samples([1.0, math.nan], [0.5]),
        lambda: quantile_samples([1.0, 2.0], [1.0]),
        lambda: quantile_samples([1.0, 2.0], [0.5], unit=[1]),
        lambda: bootstrap_means([1.0, 2.0], [1.0, 2.0], draws=5),
        lambda: bootstrap_means([1.0, math.inf], [1.0, 2.0]),
        lambda: bootstrap_means([1.0, 2.0], [[1.0, 2.0], [1.0, 2.0]]),
        lambda: bootstrap_means([1.0, 2.0], [1.0, 2.0], treatment_keys=[0.5, 0.1]),
    ],
)
def test_a_wrong_call_is_refused(call):
    with pytest.raises(InvalidInput):
        call()


def test_weights_are_those_of_a_poisson():
    from groundswell.stats.resampling_kernels import WEIGHTS, weights_of

    out = np.empty(400_000, dtype=np.uint8)
    weights_of(np.arange(400_000, dtype=np.uint64), np.uint64(5), WEIGHTS, 3, out)

    assert out.mean() == pytest.approx(1, abs=0.007)
    assert out.var() == pytest.approx(1, abs=0.015)
    assert np.mean(out == 0) == pytest.approx(math.exp(-1), abs=0.004)


def test_replicates_and_units_are_independent():
    from groundswell.stats.resampling_kernels import WEIGHTS, weights_of

    table = np.empty((16, 50_000), dtype=np.uint8)
    for replicate in range(16):
        weights_of(np.arange(50_000, dtype=np.uint64), np.uint64(1), WEIGHTS, replicate, table[replicate])

    correlation = np.corrcoef(table) - np.eye(16)
    assert np.abs(correlation).max() < 5 / math.sqrt(50_000)
    neighbours = np.corrcoef(table[:, :-1].ravel(), table[:, 1:].ravel())[0, 1]
    assert abs(neighbours) < 5 / math.sqrt(800_000)


def test_the_bootstrap_error_agrees_with_welch():
    rng = np.random.default_rng(4)
    t, c = rng.lognormal(0, 0.5, 4_000), rng.lognormal(0, 0.5, 5_000)

    result = bootstrap_means(t, c, draws=2_000)

    welch = compare(Moments.of(t), Moments.of(c))
    assert result.standard_error == pytest.approx(welch.standard_error, rel=0.06)
    assert result.absolute.low == pytest.approx(welch.absolute.low, abs=0.12 * (welch.standard_error or 1))
    assert result.relative.high == pytest.approx(welch.relative.high, abs=0.01)


def test_the_bootstrap_of_a_ratio_agrees_with_the_delta_method():
    rng = np.random.default_rng(5)
    x = rng.poisson(3, 8_000) + 1.0
    table = np.column_stack([x * rng.gamma(2, 1, 8_000), x])

    result = bootstrap_means(table[:4_000], table[4_000:])

    assert result.standard_error == pytest.approx(
        compare(Moments.of(table[:4_000]), Moments.of(table[4_000:])).standard_error, rel=0.08
    )


def test_the_bootstrap_of_a_quantile_agrees_with_the_outer_interval():
    (t, u), (c, v) = events(6, 3_000), events(7, 3_000)

    result = bootstrap_quantiles(t, c, 0.9, treatment_unit=u, baseline_unit=v, draws=400)

    (a,), (b,) = quantile_samples(t, [0.9], unit=u), quantile_samples(c, [0.9], unit=v)
    assert result.absolute.estimate == pytest.approx(compare(a, b).absolute.estimate, rel=1e-12)
    assert result.standard_error == pytest.approx(compare(a, b).standard_error, rel=0.2)


def test_the_same_seed_and_units_give_the_same_answer_in_any_order():
    rng = np.random.default_rng(8)
    t, c, keys = rng.gamma(2, 1, 500), rng.gamma(2, 1, 400), rng.integers(0, 2**62, 500)
    order = rng.permutation(500)

    one = bootstrap_means(t, c, treatment_keys=keys, draws=200)
    two = bootstrap_means(t[order], c, treatment_keys=keys[order], draws=200)

    assert one.p_value == two.p_value
    assert one.absolute.low == pytest.approx(two.absolute.low, rel=1e-12)
    assert bootstrap_means(t, c, treatment_keys=keys, draws=200) == one
    assert bootstrap_means(t, c, treatment_keys=keys, draws=200, seed=1) != one


def test_the_percentile_interval_agrees_with_the_p_value():
    rng = np.random.default_rng(9)
    for shift in (0.0, 0.05, 0.1, 0.15, 0.3):
        result = bootstrap_means(rng.normal(1 + shift, 1, 600), rng.normal(1, 1, 600), draws=999)

        assert result.p_value is not None
        assert result.absolute.low is not None
        assert result.absolute.high is not None
        if abs(result.p_value - 0.05) > 0.004:
            assert (result.absolute.low > 0 or result.absolute.high < 0) is (result.p_value < 0.05)


def test_few_units_and_empty_arms_are_told():
    few = bootstrap_means(np.arange(30.0), np.arange(30.0) + 1, draws=200)

    assert [note.code for note in few.warnings] == ["few-units"]
    assert "fewer than 2 units" in (bootstrap_means([], [1.0, 2.0], draws=200).reason or "")
    assert "divide by" in (bootstrap_means([[1.0, 0.0]] * 3, [[1.0, 1.0]] * 3, draws=200).reason or "")
