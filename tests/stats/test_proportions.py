"""Proportions against published intervals, statsmodels and scipy; exact tests against enumeration."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize
from scipy import stats as oracle
from statsmodels.stats import proportion as peer

from groundswell.errors import InvalidInput
from groundswell.stats import Settings, compare_proportions, exact_counts, exact_proportions, wilson

anything: Any = peer


def test_newcombes_published_intervals_are_reproduced():
    # Newcombe (1998), Stat. Med. 17, table II, method 5: Miettinen & Nurminen
    published = {
        ((56, 70), (48, 80)): (0.0528, 0.3382),
        ((9, 10), (3, 10)): (0.1700, 0.8406),
        ((10, 10), (0, 20)): (0.7156, 1.0000),
        ((6, 7), (2, 7)): (0.0342, 0.8534),
        ((5, 56), (0, 29)): (-0.0326, 0.1933),
        ((10, 10), (0, 10)): (0.6636, 1.0000),
    }
    for (t, c), (low, high) in published.items():
        result = compare_proportions(t, c)

        assert result.absolute.low == pytest.approx(low, abs=6e-5)
        assert result.absolute.high == pytest.approx(high, abs=6e-5)


def score(t: tuple[int, int], c: tuple[int, int], move: Callable[[float], float], gap: float, slope: float) -> float:
    """Return the score statistic with its constrained likelihood maximised numerically; ``move`` maps p_c to p_t."""

    def loss(p: float) -> float:
        q = move(p)
        if not (0 < p < 1 and 0 < q < 1):
            return math.inf
        parts = ((t[0], t[1], q), (c[0], c[1], p))
        return -sum(x * math.log(r) + (n - x) * math.log1p(-r) for x, n, r in parts)

    grid = np.linspace(1e-9, 1 - 1e-9, 4_001)
    best = float(grid[np.argmin([loss(p) for p in grid])])
    found: Any = optimize.minimize_scalar(
        loss, bounds=(best - 5e-4, best + 5e-4), method="bounded", options={"xatol": 1e-12}
    )
    p, q = float(found.x), move(float(found.x))
    n = t[1] + c[1]
    variance = (q * (1 - q) / t[1] + slope**2 * p * (1 - p) / c[1]) * n / (n - 1)
    return gap / math.sqrt(variance)


@pytest.mark.parametrize("t", [(56, 70), (5, 1_000), (480, 1_000)])
@pytest.mark.parametrize("c", [(48, 80), (9, 1_200)])
def test_at_each_bound_the_test_has_p_alpha(t, c):
    result = compare_proportions(t, c)

    p_t, p_c = t[0] / t[1], c[0] / c[1]
    for bound, sign in ((result.absolute.low, 1), (result.absolute.high, -1)):
        assert bound is not None
        z = score(t, c, lambda p, d=bound: p + d, p_t - p_c - bound, 1.0)
        assert z == pytest.approx(sign * oracle.norm.isf(0.025), rel=1e-5)
    for bound, sign in ((result.relative.low, 1), (result.relative.high, -1)):
        assert bound is not None
        r = 1 + bound
        z = score(t, c, lambda p, r=r: p * r, p_t - r * p_c, r)
        assert z == pytest.approx(sign * oracle.norm.isf(0.025), rel=1e-5)


def test_without_the_correction_the_test_is_pearsons():
    ours = compare_proportions((56, 70), (48, 80), correction=False)

    theirs: Any = oracle.chi2_contingency([[56, 14], [48, 32]], correction=False)
    assert ours.p_value == pytest.approx(theirs.pvalue, rel=1e-9)


counts = st.integers(1, 60).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


@settings(max_examples=150, deadline=None)
@given(counts, counts, st.sampled_from(["two-sided", "greater", "less"]))
def test_every_interval_agrees_with_the_p_value(t, c, alternative):
    result = compare_proportions(t, c, Settings(alternative=alternative))

    if result.p_value is None:
        assert result.reason
        return
    if abs(result.p_value - 0.05) < 1e-6:
        return
    significant = result.p_value < 0.05
    for effect in (result.absolute, result.relative):
        bounds = [b for b in (effect.low, effect.high) if b is not None]
        assert all(math.isfinite(b) for b in bounds)
        assert effect.reason or len(bounds) == 2
        excluded = (effect.low is not None and effect.low > 0) or (effect.high is not None and effect.high < 0)
        if bounds:
            assert excluded is significant


@settings(max_examples=60, deadline=None)
@given(counts, counts)
def test_swapping_arms_mirrors_and_inverts(t, c):
    there, back = compare_proportions(t, c), compare_proportions(c, t)

    if there.absolute.low is not None and back.absolute.high is not None:
        assert there.absolute.low == pytest.approx(-back.absolute.high, abs=1e-9)
    if there.relative.low is not None and back.relative.high is not None and there.relative.low > -1:
        assert 1 + there.relative.low == pytest.approx(1 / (1 + back.relative.high), rel=1e-6)


@pytest.mark.parametrize(("x", "n"), [(0, 10), (3, 10), (10, 10), (81, 263)])
def test_wilson_agrees_with_statsmodels(x, n):
    ours = wilson(x, n)

    low, high = anything.proportion_confint(x, n, method="wilson")
    assert ours.low == pytest.approx(low, abs=1e-12)
    assert ours.high == pytest.approx(high, abs=1e-12)


@pytest.mark.parametrize(("t", "c"), [((3, 10), (9, 12)), ((0, 5), (3, 6)), ((1, 500), (7, 480)), ((4, 4), (1, 9))])
def test_fishers_test_and_its_odds_ratio_agree_with_scipy(t, c):
    ours = exact_proportions(t, c)

    table = np.array([[t[0], t[1] - t[0]], [c[0], c[1] - c[0]]])
    tails = [oracle.fisher_exact(table, alternative=side) for side in ("less", "greater")]
    assert ours.p_value == pytest.approx(min(1.0, 2 * min(p for _, p in tails)), rel=1e-9)
    interval = oracle.contingency.odds_ratio(table).confidence_interval()
    assert ours.ratio.low == pytest.approx(interval.low, rel=1e-7)
    if math.isfinite(interval.high):
        assert ours.ratio.high == pytest.approx(interval.high, rel=1e-7)
    else:
        assert ours.ratio.high is None


@pytest.mark.parametrize(("t", "c"), [((3, 100.0), (9, 120.0)), ((0, 5.0), (3, 5.0)), ((12, 1.0), (0, 2.0))])
def test_counts_agree_with_the_binomial_test(t, c):
    ours = exact_counts(t, c)

    share = t[1] / (t[1] + c[1])
    tails = [oracle.binomtest(t[0], t[0] + c[0], share, alternative=side).pvalue for side in ("less", "greater")]
    assert ours.p_value == pytest.approx(min(1.0, 2 * min(tails)), rel=1e-9)
    interval = oracle.binomtest(t[0], t[0] + c[0]).proportion_ci()
    assert ours.ratio.low == pytest.approx(interval.low / (1 - interval.low) * c[1] / t[1], rel=1e-7)


def test_fishers_test_keeps_its_size_by_enumeration():
    for p in (0.05, 0.3):
        size = 0.0
        for a in range(13):
            for c in range(13):
                result = exact_proportions((a, 12), (c, 12))
                if result.p_value is not None and result.p_value <= 0.05:
                    size += float(oracle.binom.pmf(a, 12, p) * oracle.binom.pmf(c, 12, p))
        assert size <= 0.05


def test_nothing_to_test_says_so():
    assert "did the same" in (compare_proportions((0, 10), (0, 12)).reason or "")
    assert "no unit" in (compare_proportions((0, 0), (0, 12)).reason or "")
    assert "one table only" in (exact_proportions((0, 10), (0, 12)).reason or "")
    assert "no event" in (exact_counts((0, 1.0), (0, 1.0)).reason or "")


def test_a_baseline_without_success_has_a_lower_bound_only():
    result = compare_proportions((20, 100), (0, 100))

    assert result.relative.estimate is None
    assert result.relative.low is not None
    assert result.relative.low > 0
    assert result.relative.high is None


@pytest.mark.parametrize("call", [compare_proportions, exact_proportions])
@pytest.mark.parametrize("bad", [(-1, 5), (6, 5)])
def test_impossible_counts_are_refused(call, bad):
    with pytest.raises(InvalidInput):
        call(bad, (1, 5))


def test_rare_events_keep_the_size_by_simulation():
    rng = np.random.default_rng(3)
    t, c = rng.binomial(1_000, 0.004, 1_500), rng.binomial(1_000, 0.004, 1_500)

    called = [compare_proportions((int(a), 1_000), (int(b), 1_000)).p_value for a, b in zip(t, c, strict=True)]

    assert np.mean([p is not None and p <= 0.05 for p in called]) <= 0.05 + 4 * math.sqrt(0.0475 / 1_500)
