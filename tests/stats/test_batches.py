"""Columns say what rows say."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from groundswell.errors import InvalidInput
from groundswell.stats import (
    Adjustment,
    Batch,
    Comparison,
    Comparisons,
    Looks,
    Moments,
    Settings,
    compare,
    compare_many,
    contrast,
    cuped,
    cuped_many,
)

LOOKS = Looks(first_look=30, tuned_for=200)


def arms(k: int, m: int = 40, seed: int = 0) -> list[Moments]:
    rng = np.random.default_rng(seed)
    out: list[Moments] = []
    for _ in range(m):
        n = int(rng.integers(3, 60))
        x = rng.gamma(2, 1, n) + rng.normal()
        columns = [x] if k == 1 else [x * 0.7 + rng.gamma(2, 1, n), x + (5 if rng.random() < 0.8 else 0)]
        out.append(Moments.of(np.column_stack(columns)))
    return out


def same(columns: Comparisons, i: int, one: Comparison) -> None:
    pairs: list[tuple[Any, float | None]] = [
        (columns.estimate, one.absolute.estimate),
        (columns.low, one.absolute.low),
        (columns.high, one.absolute.high),
        (columns.relative, one.relative.estimate),
        (columns.relative_low, one.relative.low),
        (columns.relative_high, one.relative.high),
        (columns.p_value, one.p_value),
        (columns.standard_error, one.standard_error),
        (columns.always_low, one.always_valid.low),
        (columns.always_high, one.always_valid.high),
        (columns.always_p, one.always_valid_p),
    ]
    for column, expected in pairs:
        found = float(column[i])
        assert math.isnan(found) is (expected is None)
        assert expected is None or found == pytest.approx(expected, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("k", [1, 2])
@pytest.mark.parametrize("alternative", ["two-sided", "greater", "less"])
@pytest.mark.parametrize(("test", "relative"), [("welch", "fieller"), ("pooled", "fieller"), ("z", "delta")])
def test_means_and_ratios_equal_the_scalar_ones(k, alternative, test, relative):
    t, c = arms(k, seed=1), arms(k, seed=2)
    settings = Settings(alternative=alternative, test=test, relative=relative, looks=LOOKS)

    columns = compare_many(Batch.of_moments(t), Batch.of_moments(c), settings)

    for i in range(len(t)):
        one = compare(t[i], c[i], settings)
        same(columns, i, one)
        assert bool(columns.skewed[i]) is ("skewed" in {note.code for note in one.warnings})


@pytest.mark.parametrize("small_sample", [True, False])
def test_adjusted_means_equal_the_scalar_ones(small_sample):
    t, c = arms(2, seed=3), arms(2, seed=4)
    settings = Settings(looks=LOOKS)

    columns = cuped_many(Batch.of_moments(t), Batch.of_moments(c), settings, small_sample=small_sample)

    for i in range(len(t)):
        one = contrast(cuped(t[i], c[i], adjustment=Adjustment(small_sample=small_sample)), settings)
        same(columns, i, one)
        assert columns.variance_reduction[i] == pytest.approx(one.variance_reduction, abs=0.05)


def test_what_cannot_be_compared_has_its_reason_and_is_shown_as_none():
    t = Batch.of([1, 5, 5, 5], [1.0, math.inf, 2.0, 2.0], [0.0, 1.0, 0.0, 4.0])
    c = Batch.of([5, 5, 5, 5], [1.0, 1.0, 2.0, 0.0], [2.0, 1.0, 0.0, 4.0])

    columns = compare_many(t, c)

    rows = [columns.row(i) for i in range(4)]
    assert [row["p_value"] is None for row in rows] == [True, True, True, False]
    assert [bool(row["reason"]) for row in rows] == [True, True, True, False]
    effect: Any = rows[3]["relative"]
    assert effect.low is None
    assert "unbounded" in effect.reason


def test_a_ratio_over_nothing_says_so():
    t = Batch.of([5], [[1.0, 0.0]], [[[1.0, 0.0], [0.0, 0.0]]])

    assert "nothing to divide by" in str(compare_many(t, t).row(0)["reason"])


@pytest.mark.parametrize(
    "call",
    [
        lambda: Batch.of([1, 2], [1.0], [1.0]),
        lambda: Batch.of([-1], [1.0], [1.0]),
        lambda: Batch.of_moments([]),
        lambda: Batch.of_moments([Moments.empty(1), Moments.empty(2)]),
        lambda: cuped_many(Batch.of([5], [1.0], [1.0]), Batch.of([5], [1.0], [1.0])),
        lambda: compare_many(Batch.of([5], [1.0], [1.0]), Batch.of([5, 6], [1.0, 2.0], [1.0, 2.0])),
    ],
)
def test_a_wrong_batch_is_refused(call):
    with pytest.raises(InvalidInput):
        call()
