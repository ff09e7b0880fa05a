"""Trust checks and segments: each finds what was planted, and nothing where nothing was."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import statsmodels.api as sm
from scipy import stats as oracle
from statsmodels.stats import meta_analysis

from groundswell.errors import InvalidInput
from groundswell.stats import (
    Looks,
    Moments,
    Prior,
    Settings,
    aa_test,
    by_segment,
    compare,
    cumulative,
    explain_split,
    heterogeneity,
    interaction,
    multiple_exposure,
    pre_period,
    trend,
    twyman,
)


def split(total: int, share: float = 0.5) -> dict[str, int]:
    return {"control": round(total * (1 - share)), "treatment": round(total * share)}


EQUAL = {"control": 50, "treatment": 50}


def test_the_segment_that_broke_the_split_is_named_first():
    counts = {
        "browser": {"chrome": split(40_000), "safari": split(20_000, 0.45), "firefox": split(9_000)},
        "country": {"se": split(30_000, 0.486), "no": split(39_000, 0.485)},
    }

    causes = explain_split(counts, EQUAL)

    assert (causes[0].dimension, causes[0].value, causes[0].rest_is_whole) == ("browser", "safari", True)
    assert {cause.dimension for cause in causes[1:]} == {"country"}
    assert not any(cause.rest_is_whole for cause in causes[1:])


def test_a_whole_split_has_no_cause_by_simulation():
    rng = np.random.default_rng(0)
    found = 0
    for _ in range(300):
        days = {str(d): split(0) for d in range(30)}
        for d in days:
            n = int(rng.binomial(2_000, 0.5))
            days[d] = {"control": 2_000 - n, "treatment": n}
        found += bool(explain_split({"day": days}, EQUAL, alarm=0.02))

    assert found / 300 <= 0.02 + 4 * math.sqrt(0.0196 / 300)


def test_metrics_that_differed_before_exposure_are_named():
    rng = np.random.default_rng(1)
    base = Moments.of(rng.normal(5, 1, 2_000))
    before = {f"m{i}": compare(Moments.of(rng.normal(5 + (i == 2) * 0.3, 1, 2_000)), base) for i in range(4)}

    notes = pre_period(before)

    assert [note.code for note in notes] == ["pre-period-imbalance"]
    assert notes[0].text.startswith("m2 ")


def test_a_miracle_is_flagged_and_noise_is_not():
    rng = np.random.default_rng(2)
    base = Moments.of(rng.normal(5, 1, 5_000))

    miracle = twyman(compare(Moments.of(rng.normal(9, 1, 5_000)), base))
    ordinary = twyman(compare(Moments.of(rng.normal(5.2, 1, 5_000)), base))
    noisy = twyman(compare(Moments.of(rng.normal(9, 40, 30)), Moments.of(rng.normal(5, 40, 30))))

    assert miracle is not None
    assert "+8" in miracle.text
    assert (ordinary, noisy) == (None, None)
    assert twyman(compare(Moments.of(rng.normal(5.2, 1, 5_000)), base), Prior(0.0, 0.002)) is not None


def test_units_that_saw_two_variants_are_pointed_out():
    assert multiple_exposure(5, 100_000) is None
    note = multiple_exposure(900, 100_000)
    assert note is not None
    assert "0.90%" in note.text
    with pytest.raises(InvalidInput):
        multiple_exposure(5, 3)


def daily(seed: int, effects: list[float], n: int = 3_000) -> tuple[Moments, Moments]:
    rng = np.random.default_rng(seed)
    habit = rng.normal(2, 1, (2 * n, 1))
    table = habit + rng.normal(0, 1, (2 * n, len(effects)))
    table[:n] += effects
    return Moments.of(table[:n]), Moments.of(table[n:])


@pytest.mark.parametrize(
    ("effects", "kind"),
    [([0.5, 0.4, 0.3, 0.2, 0.1], "novelty"), ([0.1, 0.2, 0.3, 0.4, 0.5], "primacy"), ([0.3] * 5, "steady")],
)
def test_fading_and_growing_effects_are_told_apart(effects, kind):
    result = trend(*daily(3, effects))

    assert result.kind == kind
    assert len(result.daily) == 5
    assert result.slope.estimate == pytest.approx(float(np.polyfit(range(5), effects, 1)[0]), abs=0.03)


def test_the_slope_is_the_effect_on_each_units_own_slope():
    t, c = daily(4, [0.5, 0.3, 0.4])
    rng = np.random.default_rng(4)
    habit = rng.normal(2, 1, (6_000, 1))
    table = habit + rng.normal(0, 1, (6_000, 3))
    table[:3_000] += [0.5, 0.3, 0.4]

    result = trend(t, c)

    slopes = (table[:, 2] - table[:, 0]) / 2
    theirs = oracle.ttest_ind(slopes[:3_000], slopes[3_000:], equal_var=False)
    assert result.p_value == pytest.approx(theirs.pvalue, rel=1e-9)


def test_an_interaction_is_that_of_the_crossed_regression():
    rng = np.random.default_rng(5)
    a, b = rng.integers(0, 2, 4_000), rng.integers(0, 2, 4_000)
    y = 1 + 0.2 * a + 0.1 * b + 0.15 * a * b + rng.normal(size=4_000)
    cells = {(f"a{i}", f"b{j}"): Moments.of(y[(a == i) & (b == j)]) for i in (0, 1) for j in (0, 1)}

    result = interaction(cells, ("a0", "b0"))

    fit = sm.OLS(y, sm.add_constant(np.column_stack([a, b, a * b]))).fit(cov_type="HC2")
    assert result.effects["a1", "b1"].estimate == pytest.approx(fit.params[3], rel=1e-9)
    assert result.statistic == pytest.approx(fit.tvalues[3] ** 2, rel=1e-9)
    assert result.degrees_of_freedom == 1


def test_interactions_of_several_arms_are_tested_together():
    rng = np.random.default_rng(6)
    cells = {(a, b): Moments.of(rng.normal(1, 1, 500)) for a in "xyz" for b in "pqr"}

    result = interaction(cells, ("x", "p"))

    assert result.degrees_of_freedom == 4
    assert len(result.effects) == 4
    assert 0 <= (result.p_value or -1) <= 1
    with pytest.raises(InvalidInput, match="missing"):
        interaction({("x", "p"): cells["x", "p"]}, ("x", "p"))


def test_a_sound_metric_passes_its_aa_test_and_a_heavy_tail_does_not():
    rng = np.random.default_rng(7)

    sound = aa_test(rng.normal(5, 1, 2_000), splits=500, seed=1)
    heavy = aa_test(np.append(rng.random(60), 1e4), splits=500, seed=1)

    assert sound.ok
    assert sound.false_alarms.estimate == pytest.approx(0.05, abs=0.04)
    assert not heavy.ok
    assert aa_test(rng.normal(5, 1, 2_000)[:100], splits=200, seed=3).seed == 3


def test_aa_splits_have_the_moments_of_their_units():
    x = np.random.default_rng(8).gamma(2, 1, (400, 2)) + 1e6

    result = aa_test(x, splits=300, share=0.3)

    assert result.splits == 300
    assert result.ok


def test_heterogeneity_agrees_with_statsmodels():
    rng = np.random.default_rng(9)
    s = rng.uniform(0.05, 0.2, 12)
    x = rng.normal(0.3, 0.25, 12) + rng.normal(0, s)

    result = heterogeneity(x.tolist(), s.tolist())

    theirs: Any = meta_analysis.combine_effects(x, s**2, method_re="pm")
    assert result.statistic == pytest.approx(theirs.q, rel=1e-9)
    assert result.spread == pytest.approx(math.sqrt(theirs.tau2), rel=1e-3)
    assert result.pooled.estimate == pytest.approx(theirs.mean_effect_re, rel=1e-3)
    assert result.i_squared == pytest.approx(theirs.i2, rel=1e-9)


def cells(seed: int, shifts: dict[str, float], n: int = 800) -> dict[str, tuple[Moments, Moments]]:
    rng = np.random.default_rng(seed)
    return {k: (Moments.of(rng.normal(5 + s, 1, n)), Moments.of(rng.normal(5, 1, n))) for k, s in shifts.items()}


def test_segments_that_differ_are_found_and_shrunk():
    result = by_segment(cells(10, {"se / ios": 0.6, "se / web": 0.0, "no / ios": 0.1, "no / web": 0.05}))

    assert (result.heterogeneity.p_value or 1) < 0.001
    assert result.family.comparisons["se / ios"].rejected
    for name, comparison in result.comparisons.items():
        raw, pooled, shrunk = (
            comparison.absolute.estimate,
            result.heterogeneity.pooled.estimate,
            result.shrunk[name].estimate,
        )
        assert raw is not None
        assert pooled is not None
        assert shrunk is not None
        assert abs(shrunk - pooled) <= abs(raw - pooled)


def test_segments_alike_share_one_estimate():
    result = by_segment(cells(14, dict.fromkeys("abc", 0.2), n=60) | {"empty": (Moments.empty(1), Moments.empty(1))})

    if result.heterogeneity.spread == 0.0:
        assert result.shrunk["a"] == result.heterogeneity.pooled
    assert result.shrunk["empty"].estimate is None
    assert result.shrunk["empty"].reason


def test_segments_are_called_by_chance_no_more_often_than_alpha_by_simulation():
    called = sum(
        any(
            one.rejected
            for one in by_segment(cells(s, dict.fromkeys("abcdefgh", 0.0), n=60)).family.comparisons.values()
        )
        for s in range(200)
    )

    assert called / 200 <= 0.05 + 4 * math.sqrt(0.0475 / 200)


def test_a_cumulative_series_ends_where_all_units_are():
    rng = np.random.default_rng(11)
    days = [(rng.normal(1.1, 1, 200), rng.normal(1, 1, 220)) for _ in range(6)]

    series = cumulative([(Moments.of(t), Moments.of(c)) for t, c in days], Settings(looks=Looks(first_look=100)))

    all_t, all_c = (Moments.of(np.concatenate([d[i] for d in days])) for i in (0, 1))
    whole = compare(all_t, all_c)
    assert [c.treatment_n for c in series] == [200 * i for i in range(1, 7)]
    assert series[-1].p_value == pytest.approx(whole.p_value, rel=1e-9)
    assert cumulative([]) == []


@pytest.mark.parametrize(
    "call",
    [
        lambda: trend(Moments.of([1.0, 2.0]), Moments.of([1.0, 2.0])),
        lambda: aa_test([1.0, math.nan] * 50),
        lambda: aa_test([1.0] * 50),
        lambda: aa_test([1.0, 2.0] * 50, share=1.0),
        lambda: aa_test([1.0, 2.0] * 50, splits=3),
        lambda: heterogeneity([0.1, 0.2], [0.1, 0.0]),
        lambda: by_segment({}),
    ],
)
def test_a_wrong_call_is_refused(call):
    with pytest.raises(InvalidInput):
        call()


def test_what_cannot_be_tested_says_why():
    assert "fewer than 2 units" in (trend(Moments.of([[1.0, 2.0]]), Moments.of([[1.0, 2.0]])).reason or "")
    assert "do not vary" in (trend(Moments.constant(5, [1, 2]), Moments.constant(5, [1, 2])).reason or "")
    empty = {(a, b): Moments.constant(3, 1.0) for a in "xy" for b in "pq"}
    assert "do not vary" in (interaction(empty, ("x", "p")).reason or "")
    assert "fewer than two" in (heterogeneity([0.1], [0.1]).reason or "")
