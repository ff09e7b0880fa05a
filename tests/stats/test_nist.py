"""NIST's reference data through moments that were merged in random order.

The digits that exact arithmetic on the same doubles reaches bound what any program can: SmLs04 to SmLs06 hold decimals
that no double holds. We ask for 9 digits, or for what exact arithmetic gets.
"""

from __future__ import annotations

import csv
import gzip
import math
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as oracle

from groundswell.errors import NotComputable
from groundswell.model.moments import Moments
from groundswell.stats import anova, regress

NIST = Path(__file__).parents[2] / "../shared/data/nist"
needs_nist = pytest.mark.skipif(not NIST.exists(), reason="../shared/data/nist is absent")


def digits(found: float, certified: float) -> float:
    if found == certified:
        return 15.0
    error = abs(found - certified) / (abs(certified) or 1.0)
    return min(15.0, -math.log10(error))


def lines_of(name: str) -> list[str]:
    packed = NIST / f"{name}.dat.gz"
    text = gzip.decompress(packed.read_bytes()).decode() if packed.exists() else (NIST / f"{name}.dat").read_text()
    return text.splitlines()


def merged_at_random(values: np.ndarray, rng: np.random.Generator, part_rows: int = 4) -> Moments:
    shuffled = rng.permutation(values)
    parts = [Moments.of(shuffled[i : i + part_rows]) for i in range(0, len(shuffled), part_rows)]
    while len(parts) > 1:
        i, j = sorted(rng.choice(len(parts), 2, replace=False))
        parts[i] = parts[i] + parts.pop(j)
    return parts[0]


@needs_nist
@pytest.mark.parametrize("name", ["AtmWtAg", "SiRstv", "SmLs01", "SmLs02", "SmLs03", "SmLs04", "SmLs05", "SmLs06"])
def test_analysis_of_variance_has_the_certified_digits(name):
    lines = lines_of(name)
    certified_f = float(next(line for line in lines if line.startswith("Between")).split()[-1])
    certified_sd = float(next(line for line in lines if "Standard Deviation" in line).split()[-1])
    rows = [line.split() for line in lines[60:] if line.strip()]
    groups: dict[str, list[float]] = {}
    for group, value in rows:
        groups.setdefault(group, []).append(float(value))
    rng = np.random.default_rng(3)

    arms = [merged_at_random(np.array(values), rng, 1 + len(values) // 20) for values in groups.values()]
    result = anova(arms, equal_variances=True)

    within, exact_f = exact_anova(list(groups.values()))
    exact_sd = math.sqrt(within / (len(rows) - len(groups)))
    assert result.statistic is not None
    assert result.within is not None
    assert digits(result.statistic, certified_f) >= min(9.0, digits(exact_f, certified_f) - 0.1)
    found_sd = math.sqrt(result.within / (len(rows) - len(groups)))
    assert digits(found_sd, certified_sd) >= min(9.0, digits(exact_sd, certified_sd) - 0.1)


def exact_anova(groups: list[list[float]]) -> tuple[float, float]:
    """Return the sum of squares within and F, by rational arithmetic on the very same doubles."""
    sums = [sum(map(Fraction, values)) for values in groups]
    squares = [sum(Fraction(v) ** 2 for v in values) for values in groups]
    n = [len(values) for values in groups]
    within = sum((q - s * s / m for q, s, m in zip(squares, sums, n, strict=True)), Fraction(0))
    between = sum((s * s / m for s, m in zip(sums, n, strict=True)), Fraction(0)) - sum(sums) ** 2 / sum(n)
    return float(within), float(between / (len(n) - 1) / (within / (sum(n) - len(n))))


@needs_nist
@pytest.mark.parametrize("name", ["NumAcc1", "NumAcc2", "NumAcc3"])
def test_means_and_deviations_have_the_certified_digits(name):
    with (NIST / "CERTIFIED.csv").open() as file:
        certified = next(row for row in csv.DictReader(file) if row["name"] == name)
    values = np.array([float(line) for line in (NIST / f"{name}.txt").read_text().split()])

    moments = merged_at_random(values, np.random.default_rng(5))

    exact = [Fraction(v) for v in values.tolist()]
    mean = sum(exact) / len(exact)
    sd = math.sqrt(float(sum((v - mean) ** 2 for v in exact) / (len(exact) - 1)))
    found = math.sqrt(float(moments.covariance()[0, 0]))
    assert moments.count == int(certified["n"])
    assert digits(float(moments.mean[0]), float(certified["mean"])) >= 14
    assert digits(found, sd) >= 13
    assert digits(found, float(certified["sd"])) >= min(9.0, digits(sd, float(certified["sd"])) - 0.1)


@needs_nist
def test_norris_regression_has_the_certified_digits():
    rows = np.array([[float(x) for x in line.split()] for line in lines_of("Norris")[60:] if line.strip()])

    fit = regress(merged_at_random(rows, np.random.default_rng(2)))

    assert digits(fit.coefficients[0], -0.262323073774029) >= 9
    assert digits(fit.coefficients[1], 1.00211681802045) >= 9
    assert digits(fit.standard_errors[0], 0.232818234301152) >= 9
    assert digits(fit.standard_errors[1], 0.429796848199937e-03) >= 9
    assert digits(fit.residual_sd, 0.884796396144373) >= 9
    assert digits(fit.r_squared, 0.999993745883712) >= 9
    assert fit.f_statistic is not None
    assert digits(fit.f_statistic, 5436385.54079785) >= 9


@pytest.mark.parametrize(("leading", "digits_min"), [(1e9, 6.0), (1e12, 3.0)])
def test_thirteen_leading_digits_cost_no_more_than_doubles_do(leading, digits_min):
    rng = np.random.default_rng(1)
    tenths = rng.integers(1, 9, 2_000) / 10.0

    found = merged_at_random(leading + tenths, rng, 100)

    held = [Fraction(v) for v in (leading + tenths).tolist()]
    mean = sum(held) / len(held)
    exact = float(sum((v - mean) ** 2 for v in held))
    assert digits(float(found.m2[0, 0]), exact) >= 12
    assert digits(float(found.m2[0, 0]), float(((tenths - tenths.mean()) ** 2).sum())) >= digits_min


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32), st.integers(2, 40), st.floats(-1e6, 1e6))
def test_splitting_and_merging_in_any_order_changes_nothing(seed, parts, centre):
    rng = np.random.default_rng(seed)
    values = rng.lognormal(0, 1, (200, 2)) + centre
    whole = Moments.of(values)

    again = merged_at_random(values, rng, 200 // parts + 1)

    spread = np.abs(whole.mean) + np.sqrt(np.diag(whole.covariance()))
    assert again.count == whole.count
    np.testing.assert_array_less(np.abs(again.mean - whole.mean), 1e-12 * spread)
    np.testing.assert_allclose(again.m2, whole.m2, rtol=1e-9)
    np.testing.assert_allclose(again.m3, whole.m3, rtol=1e-7, atol=1e-7)
    np.testing.assert_allclose(again.m4, whole.m4, rtol=1e-7)


def test_a_sum_that_overflows_raises_no_warning_and_is_told_later():
    moments = Moments.of([1e308, -1e308, 1e308]) + Moments.of([1e308])

    assert not np.isfinite(moments.m2).all()


def test_welchs_anova_of_two_arms_is_welchs_t_squared():
    rng = np.random.default_rng(4)
    a, b = rng.normal(0, 1, 40), rng.normal(0.3, 3, 25)

    result = anova([Moments.of(a), Moments.of(b)])

    theirs = oracle.ttest_ind(a, b, equal_var=False)
    assert result.statistic == pytest.approx(theirs.statistic**2, rel=1e-9)
    assert result.p_value == pytest.approx(theirs.pvalue, rel=1e-9)


def test_anova_agrees_with_scipy_for_four_arms():
    rng = np.random.default_rng(4)
    arms = [rng.normal(0.1 * i, 1, 30 + i) for i in range(4)]

    result = anova([Moments.of(a) for a in arms], equal_variances=True)

    theirs = oracle.f_oneway(*arms)
    assert result.statistic == pytest.approx(theirs.statistic, rel=1e-9)
    assert result.p_value == pytest.approx(theirs.pvalue, rel=1e-9)


def test_a_regression_with_too_few_units_says_so():
    with pytest.raises(NotComputable, match="more units"):
        regress(Moments.of([[1.0, 2.0], [2.0, 5.0]]))


def test_a_collinear_covariate_is_left_out_and_named():
    rng = np.random.default_rng(0)
    x = rng.normal(size=50)
    y = 2 * x + rng.normal(size=50)

    fit = regress(Moments.of(np.column_stack([y, x, 3 * x + 1, np.ones(50)])))

    assert fit.left_out == (1, 2)
    assert fit.coefficients[1] == pytest.approx(oracle.linregress(x, y).slope, rel=1e-9)
