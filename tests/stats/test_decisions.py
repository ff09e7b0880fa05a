"""Margins and decisions: each against the interval or the rule it stands for."""

from __future__ import annotations

import math

import numpy as np
import pytest
from statsmodels.stats import weightstats

from groundswell.errors import InvalidInput
from groundswell.stats import (
    Looks,
    Margin,
    Moments,
    Sample,
    Settings,
    compare,
    decide,
    equivalent,
    guardrail,
    non_inferior,
    sample_ratio,
)


def arms(seed: int, shift: float, n: int = 300) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(10 + shift, 2, n), rng.normal(10, 1.5, n)


def comparison(seed: int = 0, shift: float = 0.0, n: int = 300):
    t, c = arms(seed, shift, n)
    return compare(Moments.of(t), Moments.of(c), Settings(looks=Looks(first_look=2, tuned_for=2 * n)))


@pytest.mark.parametrize("shift", [-0.5, -0.1, 0.0, 0.4])
@pytest.mark.parametrize("better", ["higher", "lower"])
@pytest.mark.parametrize("relative", [True, False])
def test_non_inferiority_agrees_with_its_bound(shift, better, relative):
    margin = Margin(0.03 if relative else 0.3, relative=relative)

    result = non_inferior(comparison(1, shift), margin, better=better)

    assert result.bound is not None
    clear = result.bound > -margin.size if better == "higher" else result.bound < margin.size
    assert result.passed is clear


def test_equivalence_agrees_with_statsmodels_and_with_the_narrower_interval():
    t, c = arms(2, 0.1)

    result = equivalent(comparison(2, 0.1), Margin(0.5, relative=False))

    theirs = weightstats.ttost_ind(t, c, -0.5, 0.5, usevar="unequal")
    assert result.p_value == pytest.approx(theirs[0], rel=1e-9)
    narrow = compare(Moments.of(t), Moments.of(c), Settings(alpha=0.1)).absolute
    assert narrow.low is not None
    assert narrow.high is not None
    assert result.passed is (narrow.low > -0.5 and narrow.high < 0.5)


def test_a_share_of_a_noisy_baseline_counts_its_error():
    noisy = compare(Sample(50, 1.0, 4.0, 49.0), Sample(50, 1.0, 4.0, 49.0))

    proper = non_inferior(noisy, Margin(0.5))
    fixed = non_inferior(noisy, Margin(0.5, fixed_baseline=True))

    assert proper.p_value != fixed.p_value
    assert proper.null == fixed.null == -0.5


def test_size_at_the_margin_is_alpha_by_simulation():
    rng = np.random.default_rng(6)
    runs, passed = 3_000, 0
    for _ in range(runs):
        t, c = rng.normal(0.9, 1, 200), rng.normal(1.0, 1, 200)
        passed += bool(non_inferior(compare(Moments.of(t), Moments.of(c)), Margin(0.1)).passed)

    assert passed / runs == pytest.approx(0.05, abs=4 * math.sqrt(0.0475 / runs))


def test_guardrails_tell_safe_harmed_and_unclear_apart():
    margin = Margin(0.02)

    assert guardrail(comparison(3, 0.5, 3_000), margin)[0] == "safe"
    assert guardrail(comparison(3, -1.0, 3_000), margin)[0] == "harmed"
    assert guardrail(comparison(3, -0.1, 30), margin)[0] == "unclear"
    assert guardrail(comparison(3, 1.0, 3_000), margin, better="lower")[0] == "harmed"


def test_what_has_no_p_value_is_unclear_with_its_reason():
    verdict, test = guardrail(compare(Moments.empty(1), Moments.of([1.0, 2.0])), Margin(0.1))

    assert verdict == "unclear"
    assert "no unit" in (test.reason or "")
    zero = compare(Moments.of([1.0, 2.0, 3.0]), Moments.of([-1.0, 0.0, 1.0]))
    assert "mean is 0" in (non_inferior(zero, Margin(0.1)).reason or "")


def test_a_broken_split_outranks_everything():
    split = sample_ratio({"a": 5_000, "b": 6_000}, {"a": 1, "b": 1})

    decision = decide({"m": (comparison(0, 5.0), "higher")}, sample_ratio=split)

    assert decision.action == "not trustworthy"


def test_each_rule_gives_its_action():
    good, bad, flat = comparison(4, 1.5, 2_000), comparison(4, -1.5, 2_000), comparison(4, 0.0, 2_000)
    margin = Margin(0.02)

    assert decide({"m": (good, "higher")}, {"g": (good, "higher", margin)}).action == "ship"
    assert decide({"m": (good, "higher")}, {"g": (bad, "higher", margin)}).action == "stop"
    assert decide({"m": (bad, "higher")}).action == "stop"
    assert decide({"m": (bad, "lower")}).action == "ship"
    assert decide({"m": (flat, "higher")}).action == "continue"
    assert decide({"m": (flat, "higher")}, at_end=True).action == "stop"
    assert decide({"m": (good, "higher")}, units_min=5_000).action == "continue"
    decision = decide({"m": (good, "higher")}, {"g": (comparison(4, -0.1, 30), "higher", margin)})
    assert (decision.action, decision.verdicts["g"]) == ("continue", "unclear")
    assert decision.rule


def test_goals_share_alpha():
    borderline = compare(Sample(900, 1.1, 1.0, 899.0), Sample(900, 1.0, 1.0, 899.0))
    assert 0.025 < (borderline.p_value or 0) < 0.05

    alone = decide({"m": (borderline, "higher")}, at_end=True)
    shared = decide({"m": (borderline, "higher"), "n": (comparison(12), "higher")}, at_end=True)

    assert alone.verdicts["m"] == "improved"
    assert shared.verdicts["m"] == "no clear change"


@pytest.mark.parametrize(
    "call",
    [
        lambda: Margin(0.0),
        lambda: Margin(math.inf),
        lambda: non_inferior(comparison(), Margin(0.1), better="up"),  # type: ignore[arg-type]
        lambda: non_inferior(comparison(), Margin(0.1), alpha=0.7),
        lambda: decide({}),
    ],
)
def test_a_wrong_call_is_refused(call):
    with pytest.raises(InvalidInput):
        call()
