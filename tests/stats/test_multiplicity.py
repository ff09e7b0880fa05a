"""Corrections against statsmodels, Dunnett and Tukey against scipy, and their error rates by simulation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats as oracle
from statsmodels.stats.multitest import multipletests

from groundswell.errors import InvalidInput
from groundswell.stats import (
    Moments,
    Sample,
    adjust_p_values,
    all_pairs,
    compare,
    correct,
    correct_tiers,
    many_to_one,
)

NAMES = {
    "bonferroni": "bonferroni",
    "sidak": "sidak",
    "holm": "holm",
    "holm-sidak": "holm-sidak",
    "hochberg": "simes-hochberg",
    "hommel": "hommel",
    "benjamini-hochberg": "fdr_bh",
    "benjamini-yekutieli": "fdr_by",
}


@pytest.mark.parametrize(("ours", "theirs"), NAMES.items())
@pytest.mark.parametrize("seed", range(4))
def test_adjusted_p_values_agree_with_statsmodels(ours, theirs, seed):
    p = np.random.default_rng(seed).beta(0.4, 1, 12 + seed)

    found = adjust_p_values(p, ours)

    np.testing.assert_allclose(found, np.asarray(multipletests(p, method=theirs)[1]), rtol=1e-9)


@pytest.mark.parametrize("ours", NAMES)
def test_ties_and_ends_are_kept_in_bounds(ours):
    found = adjust_p_values([0.0, 1.0, 0.5, 0.5, 1e-300], ours)

    assert (found >= 0).all()
    assert (found <= 1).all()
    assert found[2] == found[3]
    assert adjust_p_values([], ours).tolist() == []


def family(seed: int = 1, shifts: tuple[float, ...] = (0.0, 0.1, 0.3, 0.0)) -> dict:
    rng = np.random.default_rng(seed)
    base = Moments.of(rng.normal(5, 1, 400))
    return {f"m{i}": compare(Moments.of(rng.normal(5 + s, 1, 400)), base) for i, s in enumerate(shifts)}


@pytest.mark.parametrize("method", ["bonferroni", "sidak"])
def test_adjusted_intervals_agree_with_adjusted_p_values(method):
    result = correct(family(), method)

    for one in result.comparisons.values():
        assert one.absolute.low is not None
        assert one.absolute.high is not None
        assert (one.absolute.low > 0 or one.absolute.high < 0) is one.rejected


def test_selected_intervals_have_the_level_of_their_share():
    comparisons = family()

    result = correct(comparisons, "benjamini-hochberg")

    selected = [name for name, one in result.comparisons.items() if one.rejected]
    assert result.interval_alpha == pytest.approx(0.05 * len(selected) / 4)
    for name, one in result.comparisons.items():
        assert (one.absolute.low is not None) is (name in selected)
        assert one.absolute.low is not None or "not selected" in (one.absolute.reason or "")


def test_stepwise_methods_say_that_they_have_no_interval():
    result = correct(family(), "holm")

    assert all("no matching interval" in (one.absolute.reason or "") for one in result.comparisons.values())


def test_what_has_no_p_value_is_not_counted():
    comparisons = family() | {"empty": compare(Moments.empty(1), Moments.empty(1))}

    result = correct(comparisons, "bonferroni")

    assert result.comparisons["empty"].p_value is None
    assert result.comparisons["empty"].reason
    assert result.interval_alpha == pytest.approx(0.05 / 4)


def test_guardrails_keep_alpha_and_goals_share_it():
    tiers = dict(zip(family(), ("goal", "goal", "secondary", "guardrail"), strict=True))

    result = correct_tiers({name: (tiers[name], c) for name, c in family().items()})

    assert (result["goal"].method, result["guardrail"].method) == ("holm", "none")
    assert set(result["goal"].comparisons) == {"m0", "m1"}


def groups(seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {name: rng.normal(0.2 * i, 1 + 0.3 * i, 20 + 7 * i) for i, name in enumerate("cabd")}


@pytest.mark.parametrize("seed", range(3))
def test_dunnett_agrees_with_scipy(seed):
    data = groups(seed)

    result = many_to_one({k: Moments.of(v) for k, v in data.items()}, "c", equal_variances=True)

    theirs = oracle.dunnett(*[v for k, v in data.items() if k != "c"], control=data["c"], rng=np.random.default_rng(1))
    interval = theirs.confidence_interval()
    # scipy integrates by quasi Monte Carlo, good to some 1e-3
    np.testing.assert_allclose([p or 0 for p in result.p_values.values()], theirs.pvalue, atol=2e-3)
    np.testing.assert_allclose([e.low or 0 for e in result.effects.values()], interval.low, atol=6e-3)


def test_dunnetts_table_is_reproduced():
    # Dunnett (1964), two-sided 5%: 2, 3 and 5 treatments, equal arms
    for arms, df, expected in ((2, 20, 2.38), (3, 20, 2.54), (5, 20, 2.73), (3, 60, 2.41), (2, 10, 2.57)):
        n = df // (arms + 1) + 1
        sample = Sample(n, 0.0, 1.0, df / (arms + 1))
        result = many_to_one({str(i): sample for i in range(arms + 1)}, "0", equal_variances=True)

        assert result.critical == pytest.approx(expected, abs=0.0051)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("equal", [True, False])
def test_all_pairs_agree_with_scipy(seed, equal):
    data = groups(seed)

    result = all_pairs({k: Moments.of(v) for k, v in data.items()}, equal_variances=equal)

    theirs = oracle.tukey_hsd(*data.values(), equal_var=equal)
    interval = theirs.confidence_interval()
    p_values, low = np.asarray(theirs.pvalue), np.asarray(interval.low)
    names = list(data)
    for (t, c), p in result.p_values.items():
        i, j = names.index(t), names.index(c)
        assert p == pytest.approx(p_values[i, j], rel=1e-6, abs=1e-9)
        assert result.effects[t, c].low == pytest.approx(low[i, j], rel=1e-6)


def test_an_arm_without_units_leaves_no_simultaneous_answer():
    arms = {"a": Moments.of([1.0, 2.0]), "b": Moments.empty(1)}

    assert "no unit" in (many_to_one(arms, "a").reason or "")
    assert "no unit" in (all_pairs(arms).reason or "")


@pytest.mark.parametrize(
    "call",
    [
        lambda: adjust_p_values([0.5, 1.5], "holm"),
        lambda: adjust_p_values([0.5, float("nan")], "holm"),
        lambda: adjust_p_values([0.5], "magic"),  # type: ignore[arg-type]
        lambda: correct(family(), "holm", alpha=1.0),
        lambda: many_to_one({"a": Moments.of([1.0, 2.0])}, "a"),
        lambda: many_to_one({"a": Moments.of([1.0, 2.0]), "b": Moments.of([1.0, 2.0])}, "z"),
    ],
)
def test_a_wrong_call_is_refused(call):
    with pytest.raises(InvalidInput):
        call()


def test_false_discoveries_stay_below_their_rate_by_simulation():
    rng = np.random.default_rng(8)
    shares: list[float] = []
    for _ in range(1_000):
        shared = rng.normal() * 0.5
        z = rng.normal(size=20) * np.sqrt(0.75) + shared + np.where(np.arange(20) < 5, 3.0, 0.0)
        called = adjust_p_values(oracle.norm.sf(z), "benjamini-hochberg") <= 0.1
        shares.append(called[5:].sum() / max(1, called.sum()))

    assert np.mean(shares) <= 0.1 * 15 / 20 + 4 * np.std(shares) / np.sqrt(len(shares))
