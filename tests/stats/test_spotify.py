"""Agreement with Spotify's confidence on its own recorded cases (Apache-2.0): 110 tables in, tables out.

Numbers there are rounded to 15 decimals, so that we ask for 1e-9 relative or 2e-15. What is compared more loosely, or
not at all, stands in ``LOOSELY`` and ``NOT_COVERED`` with its reason.
"""

from __future__ import annotations

import gzip
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.special import ndtr, ndtri, stdtrit

from groundswell.stats import (
    Adjustment,
    GroupPlan,
    History,
    Moments,
    Pair,
    Sample,
    Settings,
    Study,
    adjust_p_values,
    arm_interval,
    boundaries,
    compare_proportions,
    contrast,
    cuped,
    detectable_effect,
    moments_from_sums,
    sample_size,
)
from groundswell.stats.results import Alternative

FILE = Path(__file__).parents[2] / "../shared/data/peers/spotify_golden.json.gz"
Record = dict[str, Any]
Row = dict[str, Any]
CASES: list[Record] = json.loads(gzip.decompress(FILE.read_bytes())) if FILE.exists() else []
pytestmark = pytest.mark.skipif(not CASES, reason="../shared/data/peers is absent")

ALPHAS = (0.05, 0.01, 0.02, 0.1, 0.005, 0.0025)  # the last two where a user corrected by hand
POWERS = (0.8, 0.9, 0.5)
CORRECTIONS = (
    "bonferroni",
    "holm",
    "hommel",
    "hochberg",
    "sidak",
    "holm-sidak",
    "benjamini-hochberg",
    "benjamini-yekutieli",
)
LOOSELY = {
    "relative effects": "theirs take the baseline's mean as fixed; compared on the absolute scale",
    "later looks": "their boundaries integrate on a coarse grid, 1e-3 off from the second look on; ours are held to "
    "scipy's multivariate normal elsewhere",
    "required sample size": "they round the smaller arm up and scale; compared within that rounding",
    "error of an adjusted mean": "theirs mixes a variance over n - 1 with a covariance over n: within 1e-4",
    "alpha, power, correction": "not recorded in most cases; found among the usual ones and then held to all rows",
}
NOT_COVERED = {
    "powered effect of a binary metric": "theirs mixes variances with and without n - 1; ours follows the rate",
    "required sample size for a metric": "a maximum over comparisons of their own scaling to all groups of the table",
    "looks past the planned size": "theirs go on for ever with what is left of alpha; for us the first one is the last",
    "required sample size of a binary metric": "the same mixture of variances",
}


class Arm:
    """Rows of a table that make one arm."""

    def __init__(self, record: Record, rows: Sequence[Row]) -> None:
        init = record["init"]
        y, yy, n = init["numerator"], init["numerator_sumsq"], init["denominator"]
        self.n = sum(row[n] for row in rows)
        self.y = sum(row[y] for row in rows)
        self.squares = sum(row[yy or y] for row in rows)
        self.rows = rows
        metric = init["metric_column"]
        family = [row for row in table(record["data"]) if not metric or row[metric] == rows[0][metric]]
        self.binary = all(row[yy or y] == row[y] for row in family)
        self.kind = record["class"]

    @property
    def mean(self) -> float:
        return self.y / self.n

    @property
    def sample(self) -> Sample:
        if self.binary:
            p = self.mean
            return Sample(int(self.n), p, p * (1 - p), self.n - 1.0, kind="proportion")
        return Sample.of_mean(moments_from_sums(self.n, [self.y], [[self.squares]]))


def table(part: Record) -> list[Row]:
    return [dict(zip(part["columns"], values, strict=True)) for values in part["data"]]


def alike(a: object, b: object) -> bool:
    return a == b or str(a) == str(b)


def groupby(record: Record) -> list[str]:
    by = record["kwargs"].get("groupby") or []
    return [by] if isinstance(by, str) else by


def arm(record: Record, row: Row, level: object) -> Arm:
    by = groupby(record)
    names = [c for c in record["init"]["all_group_columns"] if c not in by]
    levels: list[object] = level if isinstance(level, list) else [level]
    rows = [
        source
        for source in table(record["data"])
        if all(alike(source[c], row.get(c, row.get(f"{c}_1"))) for c in by)
        and all(alike(source[c], value) for c, value in zip(names, levels, strict=True))
    ]
    assert rows
    return Arm(record, rows)


def pair_of(record: Record, row: Row) -> Pair:
    base, treatment = (arm(record, row, row[f"level_{i}"]) for i in (1, 2))
    if record["class"] != "ZTestLinreg":
        return Pair(treatment.sample, base.sample)
    adjustment = Adjustment(theta="total", small_sample=False)
    return cuped(with_covariates(treatment), with_covariates(base), adjustment=adjustment)


def with_covariates(one: Arm) -> Moments:
    (row,) = one.rows
    if "XX" in row:
        cross, xy, xs = np.array(row["XX"]), np.array(row["Xy"]), np.array(row["Xs"])
    else:
        cross, xy, xs = np.array([[row["x2_sum"]]]), np.array([row["xy_sum"]]), np.array([row["x_sum"]])
    products = np.block([[np.array([[one.squares]]), xy[np.newaxis, :]], [xy[:, np.newaxis], cross]])
    return moments_from_sums(one.n, [one.y, *xs], products)


def close(found: float | None, expected: float | None) -> bool:
    if expected is None or found is None:
        return found is expected
    return found == pytest.approx(expected, rel=1e-9, abs=2e-15)


def quantile(record: Record, df: float | None, tail: float) -> float:
    return -float(ndtri(tail)) if df is None else -float(stdtrit(df, tail))


def of_call(*calls: str) -> list[Any]:
    return [
        pytest.param(r, id=f"{i}-{r['class']}")
        for i, r in enumerate(CASES)
        if r["call"] in calls
        and not (r["class"] == "ZTestLinreg" and isinstance(table(r["data"])[0].get("x_sum"), (str, list, type(None))))
    ]


def side(row: Row) -> Alternative:
    preference = str(row.get("preference") or "two-sided")
    if row["ci_lower"] is not None and row["ci_upper"] is not None:
        return "two-sided"
    if preference in {"increase", "decrease"}:
        return "greater" if preference == "increase" else "less"
    return "greater" if row["ci_upper"] is None else "less"


def one_sided(row: Row) -> bool:
    return row.get("preference") in {"increase", "decrease"} or side(row) != "two-sided"


@pytest.mark.parametrize("record", of_call("difference", "multiple_difference"))
def test_differences_and_p_values_agree(record):
    for row in table(record["result"]):
        pair, alternative = pair_of(record, row), side(row)
        test = "welch" if record["class"] == "StudentsTTest" else "z"
        null = row.get("null_hypothesis") or 0.0
        settings = Settings(test=test, alternative=alternative, null=null)

        result = contrast(pair, settings)

        base = arm(record, row, row["level_1"])
        scale = 1.0 if row["absolute_difference"] else base.mean
        assert result.absolute.estimate is not None
        assert close(result.absolute.estimate / scale, row["difference"])
        if record["class"] == "ZTestLinreg":
            continue
        assert row.get("std_err") is None or close(result.standard_error, row["std_err"])
        if record["class"] == "ChiSquared":
            counts = arm(record, row, row["level_2"])
            p = compare_proportions(
                (int(counts.y), int(counts.n)), (int(base.y), int(base.n)), correction=False
            ).p_value
            assert close(p, row["p-value"])
        elif row["p-value"] is not None:
            assert result.p_value == pytest.approx(row["p-value"], rel=1e-9, abs=1e-14)


@pytest.mark.parametrize("record", of_call("difference", "multiple_difference"))
def test_intervals_have_one_level_throughout(record):
    if record["class"] == "ZTestLinreg":
        return  # their standard error is another: see LOOSELY
    rows = table(record["result"])

    fitting = [alpha for alpha in ALPHAS if all(interval_fits(record, row, alpha) for row in rows)]

    told = {row["alpha"] for row in rows if row.get("alpha") is not None}
    assert len(fitting) == 1
    assert told in (set(), {fitting[0]}, {2 * fitting[0]})


def interval_fits(record: Record, row: Row, alpha: float) -> bool:
    alternative = side(row)
    if alternative == "two-sided" and one_sided(row):
        alpha *= 2  # a one-sided test shown with the interval of twice its level
    test = "welch" if record["class"] == "StudentsTTest" else "z"
    absolute = contrast(pair_of(record, row), Settings(alpha=alpha, test=test, alternative=alternative)).absolute
    scale = 1.0 if row["absolute_difference"] else arm(record, row, row["level_1"]).mean
    found = [None if bound is None else bound / scale for bound in (absolute.low, absolute.high)]
    return all(close(f, e) for f, e in zip(found, (row["ci_lower"], row["ci_upper"]), strict=True))


def times(found: float, expected: float) -> bool:
    """A p-value rounded to 15 decimals and then multiplied."""
    return found == pytest.approx(expected, rel=1e-9, abs=1e-13)


@pytest.mark.parametrize("record", of_call("difference", "multiple_difference"))
def test_adjusted_p_values_are_those_of_one_correction(record):
    rows = [row for row in table(record["result"]) if row["p-value"] is not None]
    if not rows:
        assert record["kwargs"]["final_expected_sample_size_column"]  # sequential: their looks have no p-value
        return
    p, adjusted = [row["p-value"] for row in rows], [row["adjusted p-value"] for row in rows]

    by_family = [
        method
        for method in CORRECTIONS
        if all(times(float(a), b) for a, b in zip(adjust_p_values(p, method), adjusted, strict=True))
    ]
    # Bonferroni over more comparisons than the table shows
    by_count = [m for m in range(1, 201) if all(times(min(1.0, m * a), b) for a, b in zip(p, adjusted, strict=True))]

    assert by_family or by_count


@pytest.mark.parametrize("record", of_call("difference", "multiple_difference"))
def test_bonferronis_intervals_agree(record):
    rows = [row for row in table(record["result"]) if row.get("adjusted_alpha") and row["p-value"] is not None]
    if record["class"] == "ZTestLinreg":
        return  # their standard error is another: see LOOSELY

    for row in rows:
        settings = Settings(
            alpha=row["adjusted_alpha"],
            test="welch" if record["class"] == "StudentsTTest" else "z",
            alternative=side(row),
        )
        absolute = contrast(pair_of(record, row), settings).absolute
        scale = 1.0 if row["absolute_difference"] else arm(record, row, row["level_1"]).mean
        for bound, expected in ((absolute.low, row["adjusted ci_lower"]), (absolute.high, row["adjusted ci_upper"])):
            # their adjusted alpha is told to 15 decimals only
            assert (bound is None) is (expected is None)
            assert bound is None or bound / scale == pytest.approx(expected, rel=1e-9, abs=1e-11)


@pytest.mark.parametrize("record", of_call("summary"))
def test_arms_agree(record):
    rows = table(record["result"])
    names = record["init"]["all_group_columns"]
    one: Record = {**record, "kwargs": {}}
    fitting: list[float] = []
    for alpha in ALPHAS:
        fits = True
        for row in rows:
            found = arm(one, row, [row[c] for c in names])
            if record["class"] == "ZTestLinreg":
                assert close(found.mean, row["original_point_estimate"])
                continue
            estimate = found.sample
            if record["class"] != "StudentsTTest":
                assert estimate.variance is not None
                half = -float(ndtri(alpha / 2)) * math.sqrt(estimate.variance / estimate.count)
                low, high = found.mean - half, found.mean + half
            else:
                interval = arm_interval(estimate, alpha)
                low, high = interval.low, interval.high
            assert close(found.mean, row["point_estimate"])
            fits = fits and close(low, row["ci_lower"]) and close(high, row["ci_upper"])
        if fits:
            fitting.append(alpha)

    assert fitting


@pytest.mark.parametrize("record", [p for p in of_call("difference") if p.values[0]["class"] == "ZTestLinreg"])
def test_covariates_reduce_the_variance_alike(record):
    for row in table(record["result"]):
        pair = pair_of(record, row)

        result = contrast(pair, Settings(test="z"))

        assert close(pair.treatment.estimate, row["point_estimate_2"])
        assert close(pair.baseline.estimate, row["point_estimate_1"])
        assert result.standard_error == pytest.approx(row["std_err"], rel=1e-4)


def final(record: Record) -> str | None:
    return record["kwargs"].get("final_expected_sample_size_column")


@pytest.mark.parametrize("record", [p for p in of_call("difference", "multiple_difference") if final(p.values[0])])
def test_looks_have_the_boundaries_of_power_spending(record):
    ordinal = record["init"]["ordinal_group_column"]
    series: dict[str, list[Row]] = {}
    for row in table(record["result"]):
        key = [row[c] for c in groupby(record) if c != ordinal]
        series.setdefault(str([*key, row["level_1"], row["level_2"]]), []).append(row)
    alphas: set[float] = set()
    for rows in series.values():
        reached: list[float] = []
        times: list[float] = []
        for row in rows:
            base, treatment = (arm(record, row, row[f"level_{i}"]) for i in (1, 2))
            error = contrast(Pair(treatment.sample, base.sample), Settings(test="z")).standard_error
            scale = 1.0 if row["absolute_difference"] else base.mean
            upper, lower = row["adjusted ci_upper"], row["adjusted ci_lower"]
            gap = upper - row["difference"] if upper is not None else row["difference"] - lower
            assert error is not None
            reached.append(gap * scale / error)
            times.append((base.n + treatment.n) / base.rows[0][final(record) or ""])
        if max(times) > 1.0:
            continue  # see NOT_COVERED
        sides = 2 if side(rows[0]) == "two-sided" else 1
        tail = sides * float(ndtr(-reached[0]))
        alpha = tail / times[0] ** 2
        plan = GroupPlan(1.0, alpha=alpha, sides=sides, spending="power", shape=2.0)
        ours = boundaries(plan, times, last=False).upper
        alphas.add(round(alpha, 9))
        assert ours[0] == pytest.approx(reached[0], rel=1e-9)
        assert ours == pytest.approx(reached, rel=1e-3)

    assert len(alphas) == 1
    level = alphas.pop()
    assert any(abs(alpha / m - level) < 1e-9 for alpha in ALPHAS for m in range(1, 21))


def planned(record: Record) -> list[tuple[Row, Arm, Arm]]:
    found: list[tuple[Row, Arm, Arm]] = []
    for row in table(record["result"]):
        base, treatment = (arm(record, row, row[f"level_{i}"]) for i in (1, 2))
        if not base.binary and row.get("powered_effect") is not None and record["class"] != "ZTestLinreg":
            found.append((row, base, treatment))
    return found


@pytest.mark.parametrize("record", [p for p in of_call("difference", "multiple_difference") if planned(p.values[0])])
def test_powered_effects_and_sample_sizes_agree(record):
    rows = planned(record)

    fits = [(alpha, power) for alpha in levels(rows) for power in POWERS if all(powered(r, alpha, power) for r in rows)]

    assert fits
    for row, base, treatment in rows:
        size = effect_of(row, base)
        if row.get("required_sample_size") is None or size is None:
            continue
        alpha, power = fits[0]
        ours = sample_size(history(base), size, study(row, base, treatment, alpha, power))
        smaller = min(base.n, treatment.n) / (base.n + treatment.n)
        assert ours == pytest.approx(row["required_sample_size"], abs=1 / smaller + 1, rel=1e-12)


def levels(rows: list[tuple[Row, Arm, Arm]]) -> list[float]:
    told = {
        row["adjusted_alpha_power_sample_size"] for row, _, _ in rows if row.get("adjusted_alpha_power_sample_size")
    }
    # a one-sided test with the interval of twice its level is told with that
    return (
        [level / part for level in told for part in (1, 2)]
        if len(told) == 1
        else [alpha / m for alpha in ALPHAS for m in range(1, 61)]
    )


def history(base: Arm) -> History:
    return History(base.mean, base.sample.variance or 0.0)


def study(row: Row, base: Arm, treatment: Arm, alpha: float, power: float) -> Study:
    share = treatment.n / (base.n + treatment.n)
    if not one_sided(row):
        # power two-sided counts the far side as well, of which they think nothing
        alpha /= 2
    return Study(alpha=alpha, power=power, alternative="greater", share=share, reference="z")


def powered(case: tuple[Row, Arm, Arm], alpha: float, power: float) -> bool:
    row, base, treatment = case
    scale = 1.0 if row["absolute_difference"] else base.mean
    effect = detectable_effect(history(base), base.n + treatment.n, study(row, base, treatment, alpha, power))
    return effect is not None and effect / scale == pytest.approx(row["powered_effect"], rel=1e-8)


def effect_of(row: Row, base: Arm) -> float | None:
    margin = row.get("non-inferiority margin") or base.rows[0].get("minimum_detectable_effect")
    return None if margin is None else margin * base.mean


def test_every_record_is_compared():
    skipped = [i for i, r in enumerate(CASES) if r["call"] not in {"summary", "difference", "multiple_difference"}]

    assert skipped == []
    assert len(CASES) == 110
    assert all(LOOSELY.values())
    assert all(NOT_COVERED.values())
