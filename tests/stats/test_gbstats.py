"""Agreement with GrowthBook's gbstats on its own recorded cases (MIT): 126 records of statistics in, answers out.

Everything a method of ours covers agrees to 1e-9 relative. What is not compared stands in ``NOT_COVERED`` with its
reason.
"""

from __future__ import annotations

import gzip
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.special import ndtri, stdtrit

from groundswell.errors import InvalidInput
from groundswell.stats import (
    Adjustment,
    Comparison,
    Looks,
    Moments,
    Pair,
    Posterior,
    Prior,
    Sample,
    Settings,
    contrast,
    cuped,
    linearised,
    moments_from_sums,
    post_stratify,
    posterior,
)
from groundswell.stats.adjustment import Joint, adjust_arms, weigh_strata
from groundswell.stats.adjustment import pair_of as pair_of_joint
from groundswell.stats.contrasts import relative_error
from groundswell.stats.sequences import multiplier, p_value

FILE = Path(__file__).parents[2] / "../shared/data/peers/gbstats_golden.json.gz"
Record = dict[str, Any]
CASES: list[Record] = json.loads(gzip.decompress(FILE.read_bytes())) if FILE.exists() else []
pytestmark = pytest.mark.skipif(not CASES, reason="../shared/data/peers is absent")

IMPOSSIBLE = "a sum of squares below the squared sum over n: no data have these statistics, and we refuse them"
RESIDUAL = "their residual variance of an adjusted ratio divides by n - 6; four coefficients leave n - 4"
AS_THEY_DO = Adjustment(theta="total", reference="unadjusted", small_sample=False)
WITHIN_STRATA = Adjustment(theta="within", errors="equal")


# index -> why a record is not compared, or in part
NOT_COVERED = {
    10: "they refuse a baseline of 0 even where an absolute effect is asked for; we give it",
    88: IMPOSSIBLE,
    89: IMPOSSIBLE,
    95: IMPOSSIBLE,
    47: RESIDUAL,
    48: RESIDUAL,
    51: RESIDUAL,
    52: RESIDUAL,
    54: RESIDUAL,
    98: "their theta of two proportions is a covariance over n - 1 divided by a variance over n",
}


def moments(statistic: Record) -> Moments:
    """Return raw moments: outcome(s), then covariates."""
    n, kind = statistic["n"], statistic["_type"]
    if kind == "SampleMeanStatistic":
        return moments_from_sums(n, [statistic["sum"]], [[statistic["sum_squares"]]])
    if kind == "RatioStatistic":
        parts = [statistic["m_statistic"], statistic["d_statistic"]]
        names = {(0, 1): "m_d"}
    elif kind == "RegressionAdjustedStatistic":
        parts = [statistic["post_statistic"], statistic["pre_statistic"]]
        names = {(0, 1): "post_pre"}
    else:
        assert kind == "RegressionAdjustedRatioStatistic"
        parts = [statistic[f"{v}_statistic_{t}"] for t in ("post", "pre") for v in "md"]
        names = {(0, 1): "m_post_d_post", (0, 2): "m_post_m_pre", (0, 3): "m_post_d_pre"}
        names |= {(1, 2): "m_pre_d_post", (1, 3): "d_post_d_pre", (2, 3): "m_pre_d_pre"}
    cross = np.diag([squares(p) for p in parts])
    for (i, j), name in names.items():
        cross[i, j] = cross[j, i] = statistic[f"{name}_sum_of_products"]
    return moments_from_sums(n, [p["sum"] for p in parts], cross)


def squares(statistic: Record) -> float:
    """Return the sum of squares; a proportion of theirs has the variance p (1 - p), without n - 1."""
    if statistic["_type"] != "ProportionStatistic":
        return statistic["sum_squares"]
    n, p = statistic["n"], statistic["sum"] / statistic["n"]
    return p * (1 - p) * (n - 1) + n * p * p


def sample(statistic: Record) -> Sample:
    n = statistic["n"]
    if statistic["_type"] == "ProportionStatistic":
        return Sample.of_proportion(round(statistic["sum"]), n)
    if statistic["_type"] == "QuantileStatistic":
        error = (statistic["quantile_upper"] - statistic["quantile_lower"]) / 2 / -float(ndtri(0.025))
        # they turn the interval into a variance over n - 1 and divide that by n
        return Sample(n, statistic["quantile_hat"], error * error * (n - 1), float(n - 1), kind="quantile")
    m = moments(statistic)
    return Sample.of_mean(m) if m.k == 1 else Sample.of_ratio(m)


def pair(treatment: Record, baseline: Record) -> Pair:
    if treatment["_type"] == "RegressionAdjustedStatistic":
        adjusted = cuped(moments(treatment), moments(baseline), adjustment=AS_THEY_DO)
        if adjusted.reference is None or moments(baseline).mean[0] == 0.0:
            return adjusted
        raw_lift = float(moments(treatment).mean[0] / moments(baseline).mean[0]) - 1.0
        return replace(adjusted, reference=replace(adjusted.reference, lift_at=raw_lift))
    if treatment["_type"] == "RegressionAdjustedRatioStatistic":
        t, c = (linearised(moments(s), [(0, 1), (2, 3)]) for s in (treatment, baseline))
        theta = Adjustment(theta=float(baseline["theta"]), reference="unadjusted")
        return cuped(t, c, adjustment=theta)
    return Pair(sample(treatment), sample(baseline))


def strata_of(inputs: Record) -> Pair:
    strata = [(moments(b), moments(a)) for a, b in inputs["stats"]]
    outcomes = 2 if "Ratio" in inputs["stats"][0][0]["_type"] else 1
    return post_stratify(strata, outcomes=outcomes, adjustment=WITHIN_STRATA, df="arms")


def pair_of(record: Record) -> Pair:
    inputs, config = record["inputs"], record["inputs"].get("config") or {}
    asked = record["method"] == "EffectMomentsPostStratification" or config.get("post_stratify")
    if asked and len(inputs["stats"]) > 1:
        return strata_of(inputs)
    if "stat_b" in inputs:
        return pair(inputs["stat_b"], inputs["stat_a"])
    return pair(inputs["stats"][0][1], inputs["stats"][0][0])


def answer(record: Record) -> Comparison:
    inputs, method = record["inputs"], record["method"]
    alternative = "greater" if "Greater" in method else "less" if "Lesser" in method else "two-sided"
    looks = Looks(first_look=2, tuned_for=inputs.get("sequential_tuning_parameter", 5000))
    alpha = inputs.get("alpha") or 0.05
    settings = Settings(alpha=alpha, alternative=alternative, relative="delta", looks=looks)
    return contrast(pair_of(record), settings)


def believed(record: Record) -> Posterior:
    inputs = record["inputs"]
    told = inputs["config"]["prior_effect"]
    prior = Prior(
        told["_mean"],
        math.sqrt(told["_variance"]) if told["proper"] else None,
        on=inputs["config"]["prior_type"],
    )
    return posterior(
        pair_of(record),
        prior=prior,
        relative=inputs["relative"],
        better="lower" if inputs["inverse"] else "higher",
        alpha=inputs["alpha"],
    )


def close(found: float | None, expected: float, floor: float = 0.0) -> bool:
    if found is None:
        return math.isinf(expected)
    return found == pytest.approx(expected, rel=1e-9, abs=floor)


def of_method(*names: str) -> list[Any]:
    return [
        pytest.param(r, id=f"{i}-{r['method']}")
        for i, r in enumerate(CASES)
        if r["method"] in names and i not in NOT_COVERED
    ]


@pytest.mark.parametrize("record", of_method("EffectMoments", "EffectMomentsPostStratification"))
def test_effects_and_their_errors_agree(record):
    result, expected = answer(record), record["result"]

    if expected["error_message"]:
        assert result.reason
        assert result.p_value is None
        return
    effect = result.relative if record["inputs"]["relative"] else result.absolute
    assert effect.low is not None
    assert effect.high is not None
    df = result.degrees_of_freedom
    assert df is not None
    assert close(effect.estimate, expected["point_estimate"])
    assert close((effect.high - effect.low) / 2 / float(stdtrit(df, 0.975)), expected["standard_error"])


@pytest.mark.parametrize(
    "record",
    of_method("TwoSidedTTest", "OneSidedTreatmentGreaterTTest", "OneSidedTreatmentLesserTTest"),
)
def test_t_tests_agree(record):
    result, expected = answer(record), record["result"]

    if expected["errorMessage"]:
        assert result.reason
        return
    relative = record["inputs"]["relative"]
    effect = result.relative if relative else result.absolute
    p = result.relative_p_value if relative else result.p_value
    assert close(effect.estimate, expected["expected"])
    assert close(effect.low, expected["ci"][0])
    assert close(effect.high, expected["ci"][1])
    assert close(p, expected["pValue"], floor=1e-12)


@pytest.mark.parametrize(
    "record",
    of_method(
        "SequentialTwoSidedTTest",
        "SequentialOneSidedTreatmentGreaterTTest",
        "SequentialOneSidedTreatmentLesserTTest",
    ),
)
def test_confidence_sequences_agree(record):
    result, expected = answer(record), record["result"]

    inputs = record["inputs"]
    looks = Looks(first_look=2, tuned_for=inputs["sequential_tuning_parameter"])
    effect = result.always_valid_relative if record["inputs"]["relative"] else result.always_valid
    assert close(effect.estimate, expected["expected"])
    assert close(effect.low, expected["ci"][0])
    assert close(effect.high, expected["ci"][1])
    if record["method"] == "SequentialTwoSidedTTest":
        # one-sided, they tune the mixture anew for each alpha, stop at .4999 and so have no p-value of one sequence
        assert effect.high is not None
        assert effect.low is not None
        error = (effect.high - effect.low) / 2 / multiplier(looks, inputs["stat_a"]["n"] + inputs["stat_b"]["n"], 0.05)
        assert effect.estimate is not None
        p = p_value(looks, inputs["stat_a"]["n"] + inputs["stat_b"]["n"], effect.estimate / error, 0.05)
        assert close(p, expected["pValue"])


@pytest.mark.parametrize("record", of_method("EffectBayesianABTest"))
def test_posteriors_agree(record):
    expected = record["result"]
    if expected["errorMessage"]:
        with pytest.raises(InvalidInput, match="products"):
            believed(record)
        return

    result = believed(record)

    assert close(result.effect.estimate, expected["expected"])
    assert close(result.effect.low, expected["ci"][0])
    assert close(result.effect.high, expected["ci"][1])
    assert close(result.sd, expected["uplift"]["stddev"])
    assert close(result.chance_to_win, expected["chanceToWin"])
    # their loss far in the tail is the difference of two rounded numbers
    assert close(result.loss_if_kept, expected["risk"][0], floor=1e-15)
    assert close(result.loss_if_shipped, expected["risk"][1], floor=1e-15)


@pytest.mark.parametrize("index", [i for i, why in NOT_COVERED.items() if why == IMPOSSIBLE])
def test_impossible_statistics_are_refused(index):
    with pytest.raises(InvalidInput, match="at least sums squared over count"):
        pair_of(CASES[index])


STRATUM = ("CreateStrataResult", "CreateStrataResultRegressionAdjusted")


@pytest.mark.parametrize("record", of_method(*STRATUM))
def test_one_stratum_of_means_agrees(record):
    inputs, expected = record["inputs"], record["result"]

    pair = cuped(moments(inputs["stat_b"]), moments(inputs["stat_a"]), adjustment=WITHIN_STRATA)

    n = expected["n"]
    assert pair.parts is not None
    assert pair.reference is not None
    assert pair.treatment.estimate is not None
    assert pair.baseline.estimate is not None
    assert close(pair.treatment.estimate - pair.baseline.estimate, expected["effect"])
    assert close(pair.reference.value, expected["control_mean"])
    assert close(sum(v for v, _ in pair.parts) * n, expected["effect_cov"])
    assert close(pair.reference.variance * n, expected["control_mean_cov"])
    assert close(pair.reference.covariance * n, expected["effect_control_mean_cov"])


RATIO_STRATUM = ("CreateStrataResultRatio", "CreateStrataResultRegressionAdjustedRatio")
# the order of their vector: effect and control mean of the numerator, then of the denominator
NAMES = ("numerator_effect", "numerator_control_mean", "denominator_effect", "denominator_control_mean")
TO_THEIRS = np.array(
    [
        [1, 0, -1, 0, 0, 0, 0, 0],
        [0, 0, 1, 0, 0, 0, 0, 0],
        [0, 1, 0, -1, 0, 0, 0, 0],
        [0, 0, 0, 1, 0, 0, 0, 0],
    ]
)


def their_covariance(stratum: Record) -> np.ndarray:
    c = np.zeros((4, 4))
    for i, a in enumerate(NAMES):
        c[i, i] = stratum[f"{a}_cov"]
        for j in range(i + 1, 4):
            c[i, j] = c[j, i] = stratum[f"{a}_{NAMES[j]}_cov"]
    return c


@pytest.mark.parametrize("record", of_method(*RATIO_STRATUM))
def test_one_stratum_of_ratios_agrees(record):
    inputs, expected = record["inputs"], record["result"]

    joint, _ = adjust_arms(moments(inputs["stat_b"]), moments(inputs["stat_a"]), 2, WITHIN_STRATA, ())

    means, covariance = TO_THEIRS @ joint.means, TO_THEIRS @ joint.covariance @ TO_THEIRS.T * expected["n"]
    np.testing.assert_allclose(means, [expected[name] for name in NAMES], rtol=1e-9)
    np.testing.assert_allclose(covariance, their_covariance(expected), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("index", [i for i, why in NOT_COVERED.items() if why == RESIDUAL and i < 50])
def test_adjusted_ratios_differ_only_by_the_degrees_of_freedom_of_the_residual(index):
    inputs, expected = CASES[index]["inputs"], CASES[index]["result"]

    joint, _ = adjust_arms(moments(inputs["stat_b"]), moments(inputs["stat_a"]), 2, WITHIN_STRATA, ())

    effects = np.ix_([0, 2], [0, 2])
    n = expected["n"]
    ours = (TO_THEIRS @ joint.covariance @ TO_THEIRS.T * n)[effects]
    np.testing.assert_allclose(TO_THEIRS @ joint.means, [expected[name] for name in NAMES], rtol=1e-9)
    np.testing.assert_allclose(ours * (n - 4) / (n - 6), their_covariance(expected)[effects], rtol=1e-9)


@pytest.mark.parametrize("record", of_method("PostStratificationSummary", "PostStratificationSummaryRatio"))
def test_strata_are_weighed_alike(record):
    inputs, expected = record["inputs"], record["result"]
    ratio = record["method"].endswith("Ratio")
    joints: list[Joint] = []
    for stratum in inputs["strata_results"]:
        if ratio:
            theirs = [stratum[name] for name in NAMES]
            covariance = their_covariance(stratum)
            # from (effect, control) of each variable to (treatment, control) of both
            back = np.array([[1, 1, 0, 0], [0, 0, 1, 1], [0, 1, 0, 0], [0, 0, 0, 1]])
        else:
            theirs = [stratum["effect"], stratum["control_mean"]]
            cross = stratum["effect_control_mean_cov"]
            covariance = np.array([[stratum["effect_cov"], cross], [cross, stratum["control_mean_cov"]]])
            back = np.array([[1, 1], [0, 1]])
        twice = np.vstack([back, back])
        source = twice @ covariance @ twice.T / stratum["n"]
        joints.append(Joint((stratum["n"] - 1, 1), twice @ np.array(theirs), ((source, 100.0),), ((None, None),) * 2))

    pair = pair_of_joint(weigh_strata(joints), 2 if ratio else 1, reference="adjusted", words="")

    if expected["error_message"]:
        assert not any(v > 0 for v, _ in pair.parts or ())
        return
    relative = inputs["relative"]
    result = contrast(pair, Settings(test="z", relative="delta"))
    effect = result.relative if relative else result.absolute
    assert close(effect.estimate, expected["point_estimate"])
    assert close(relative_error(pair) if relative else result.standard_error, expected["standard_error"])


def test_every_record_is_compared_or_has_its_reason():
    compared = {
        "EffectMoments",
        "EffectMomentsPostStratification",
        "EffectBayesianABTest",
        "PostStratificationSummary",
        "PostStratificationSummaryRatio",
        *STRATUM,
        *RATIO_STRATUM,
        *(f"{kind}TTest" for kind in ("TwoSided", "SequentialTwoSided")),
        *(f"{kind}OneSidedTreatment{way}TTest" for kind in ("", "Sequential") for way in ("Greater", "Lesser")),
    }

    assert {record["method"] for record in CASES} <= compared
    assert len(CASES) == 126
