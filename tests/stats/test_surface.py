"""The public surface: lazy, sorted, registered, documented, and never NaN."""

from __future__ import annotations

import dataclasses
import inspect
import math
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from groundswell import stats
from groundswell.errors import InvalidInput
from groundswell.stats import (
    Adjustment,
    Looks,
    Margin,
    Moments,
    Sample,
    Settings,
    compare,
    compare_proportions,
    contrast,
    correct,
    cuped,
    decide,
    equivalent,
    guardrail,
    many_to_one,
    method,
    methods,
    moments_from_sums,
    non_inferior,
    post_stratify,
    posterior,
    trend,
    twyman,
)


def test_all_names_are_sorted_and_there():
    assert stats.__all__ == sorted(set(stats.__all__))
    assert all(getattr(stats, name) is not None for name in stats.__all__)
    assert dir(stats) == stats.__all__
    with pytest.raises(AttributeError, match="nonsense"):
        stats.nonsense  # type: ignore[attr-defined]  # noqa: B018


def test_every_public_thing_says_what_it_is():
    undocumented = [name for name in stats.__all__ if name != "Correction" and not inspect.getdoc(getattr(stats, name))]

    assert undocumented == []


def test_every_method_has_a_row_and_every_row_a_call():
    calls = {row.call for row in methods()}

    assert calls <= set(stats.__all__)
    assert len({row.name for row in methods()}) == len(methods())
    assert method("cuped").call == "cuped"
    with pytest.raises(InvalidInput, match="must be one of"):
        method("astrology")


def test_importing_is_cheap_and_loads_no_scipy_stats():
    program = """
import sys, time
begin = time.process_time()
from groundswell import stats
light = [m for m in ("numpy", "scipy", "numba") if m in sys.modules]
compare, Moments = stats.compare, stats.Moments
compare(Moments.of([1.0, 2.0]), Moments.of([2.0, 4.0]))
heavy = [m for m in ("scipy.stats", "numba", "pandas", "pyarrow") if m in sys.modules]
print(light, heavy, time.process_time() - begin < 1.5)
"""

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[] [] True"


def numbers(value: Any) -> list[float]:
    """Return every number in an answer, however deep; what was put in (pairs, settings) is not an answer."""
    if isinstance(value, bool) or value is None:
        return []
    if isinstance(value, (int, float, np.floating)):
        return [float(value)]
    if dataclasses.is_dataclass(value):
        return [
            x
            for f in dataclasses.fields(value)
            if f.name not in ("pair", "settings")
            for x in numbers(getattr(value, f.name))
        ]
    if isinstance(value, dict):
        return [x for part in value.values() for x in numbers(part)]
    if isinstance(value, (list, tuple)):
        return [x for part in value for x in numbers(part)]
    return []


anything = st.one_of(
    st.floats(allow_nan=True, allow_infinity=True),
    st.sampled_from([0.0, 1.0, -1.0, 1e-300, 1e300, -1e300, math.nan, math.inf]),
)


@st.composite
def wild_moments(draw: st.DrawFn, k: int) -> Moments:
    """Moments as bad data or overflow leave them behind."""
    mean = np.array([draw(anything) for _ in range(k)])
    square = np.array([[draw(anything) for _ in range(k)] for _ in range(k)])
    m2 = np.abs(square + square.T) if k == 1 else square @ square.T
    return Moments(draw(st.sampled_from([0, 1, 2, 3, 50, 2**53])), mean, m2, mean.copy(), mean.copy())


@settings(max_examples=300, deadline=None)
@given(
    st.data(), st.sampled_from([1, 2]), st.sampled_from(["two-sided", "greater"]), st.sampled_from(["fieller", "delta"])
)
def test_no_answer_holds_nan_or_infinity(data, k, alternative, relative):
    with np.errstate(all="ignore"):
        t, c = data.draw(wild_moments(k)), data.draw(wild_moments(k))
    chosen = Settings(alternative=alternative, relative=relative, looks=Looks(first_look=2, tuned_for=40))

    result = compare(t, c, chosen)

    assert all(math.isfinite(x) for x in numbers(result))
    assert (result.p_value is None) is (result.reason is not None)
    for effect in (result.absolute, result.relative, result.always_valid, result.treatment):
        assert None not in (effect.estimate, effect.low, effect.high) or effect.reason
    answers = [
        posterior(t, c),
        non_inferior(result, Margin(0.1)),
        equivalent(result, Margin(0.1)),
        guardrail(result, Margin(0.1, relative=False)),
        correct({"a": result}, "bonferroni"),
        decide({"a": (result, "higher")}),
        many_to_one({"a": c, "b": t}, "a"),
    ]
    for answer in answers:
        assert all(math.isfinite(x) for x in numbers(answer))
    twyman(result)


@settings(max_examples=150, deadline=None)
@given(st.data(), st.sampled_from(["within", "total", "each"]))
def test_no_adjusted_answer_holds_nan_or_infinity(data, theta):
    with np.errstate(all="ignore"):
        t, c = data.draw(wild_moments(2)), data.draw(wild_moments(2))

        for pair in (
            cuped(t, c, adjustment=Adjustment(theta=theta)),
            post_stratify([(t, c)], adjustment=Adjustment(theta=theta)),
        ):
            result = contrast(pair)

            assert all(math.isfinite(x) for x in numbers(result))
            assert (result.p_value is None) is (result.reason is not None)


@pytest.mark.parametrize("count", [2**53 + 1, -1])
def test_counts_beyond_what_a_double_tells_apart_are_refused(count):
    with pytest.raises(InvalidInput, match="count"):
        compare(Moments(count, np.ones(1), np.eye(1), np.zeros(1), np.zeros(1)), Moments.of([1.0, 2.0]))


def test_float32_is_widened_before_it_loses_digits():
    x = np.array([1e6 + i % 3 for i in range(1_000)], dtype=np.float32)

    assert Moments.of(x).m2[0, 0] == pytest.approx(((np.arange(1_000) % 3 - 0.999) ** 2).sum(), rel=1e-6)


def test_sums_that_contradict_each_other_are_refused():
    with pytest.raises(InvalidInput, match="sums squared"):
        moments_from_sums(10, [100.0], [[500.0]])
    with pytest.raises(InvalidInput, match="m2"):
        compare(Moments(5, np.ones(1), -np.eye(1), np.zeros(1), np.zeros(1)), Moments.of([1.0, 2.0]))


def test_an_empty_history_of_days_has_a_reason():
    assert trend(Moments.empty(3), Moments.empty(3)).reason


def test_samples_carry_their_warnings_into_the_comparison():
    rng = np.random.default_rng(0)
    table = np.column_stack([rng.random(50), (rng.random(50) < 0.05).astype(float)])

    result = compare(Moments.of(table), Moments.of(table + np.array([0.0, 1.0])))

    assert "unsteady-denominator" in {note.code for note in result.warnings} or result.reason


def test_swapping_scale_and_shift_behave_as_units_of_measurement_must():
    rng = np.random.default_rng(1)
    t, c = rng.gamma(2, 1, 80) + 1, rng.gamma(2, 1, 90) + 1
    plain = compare(Moments.of(t), Moments.of(c))

    scaled = compare(Moments.of(t * 1e-6), Moments.of(c * 1e-6))
    shifted = compare(Moments.of(t + 100), Moments.of(c + 100))

    assert scaled.p_value == pytest.approx(plain.p_value, rel=1e-9)
    assert scaled.relative.low == pytest.approx(plain.relative.low, rel=1e-9)
    assert scaled.absolute.high == pytest.approx((plain.absolute.high or 0) * 1e-6, rel=1e-9)
    assert shifted.absolute.low == pytest.approx(plain.absolute.low, rel=1e-9)


def test_proportions_agree_with_means_where_there_are_many():
    a, b = (
        compare_proportions((5_200, 50_000), (5_000, 50_000)),
        compare(Sample.of_proportion(5_200, 50_000), Sample.of_proportion(5_000, 50_000)),
    )

    assert a.p_value == pytest.approx(b.p_value, rel=0.01)
    assert a.relative.high == pytest.approx(b.relative.high, rel=0.01)
