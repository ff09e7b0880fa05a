"""Uniform within an experiment, independent between experiments: chi-square over a million ids, Bonferroni."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pyarrow as pa
import pytest
from scipy import stats

from groundswell.allocation.assign import assign_many
from groundswell.model.definitions import ExperimentDef

FALSE_ALARM = 1e-3  # of the whole family of tests; ids and names are fixed, so it either alarms always or never

# short and long names, near twins, and every length modulo the hash's block of four bytes
NAMES = (
    *(f"exp_{number}" for number in range(10)),
    *("a", "b", "ab", "ba", "abc", "abd", "abcd", "abce"),
    *("new_checkout", "new_checkout_2", "new_checkout_3"),
    *(f"checkout_button_colour_{number}" for number in range(6)),
)
SPLITS = ([50, 50], [1, 99], [1, 999], [33, 33, 34], [70, 20, 5, 5], [1] * 64, [90, 0, 10])


def _column(name: str, weights: list[int], ids: pa.StringArray) -> np.ndarray:
    experiment = ExperimentDef(variants={f"v{place}": weight for place, weight in enumerate(weights)})
    return assign_many(name, experiment, ids).indices.to_numpy()


def _p_values_of_pairs(columns: list[np.ndarray], variants: int) -> list[float]:
    cells = np.int8(variants)
    tables = (
        np.bincount(one * cells + other, minlength=variants**2).reshape(variants, variants)
        for one, other in combinations(columns, 2)
    )
    return [float(stats.chi2_contingency(table, correction=False).pvalue) for table in tables]


def test_every_split_is_kept_under_every_salt(million_ids: pa.StringArray):
    p_values: list[float] = []
    for number, name in enumerate(NAMES):
        weights = SPLITS[number % len(SPLITS)]
        counts = np.bincount(_column(name, weights, million_ids), minlength=len(weights))
        given = np.array(weights) > 0
        expected = np.array(weights)[given] * (len(million_ids) / sum(weights))
        p_values.append(float(stats.chisquare(counts[given], expected).pvalue))

        assert counts[~given].sum() == 0

    assert min(p_values) > FALSE_ALARM / len(p_values)


def test_experiments_do_not_know_of_each_other(million_ids: pa.StringArray):
    columns = [_column(name, [1, 1, 1, 1], million_ids) for name in NAMES]

    p_values = _p_values_of_pairs(columns, 4)

    assert min(p_values) > FALSE_ALARM / len(p_values)
    assert stats.kstest(p_values, "uniform").pvalue > FALSE_ALARM


def test_the_check_sees_experiments_that_share_a_salt(million_ids: pa.StringArray):
    column = _column("exp", [1, 1, 1, 1], million_ids[:1_000])

    assert _p_values_of_pairs([column, column], 4) == [pytest.approx(0.0, abs=1e-12)]
