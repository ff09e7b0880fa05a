"""Variance reduction, against least squares by statsmodels and against itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import statsmodels.api as sm

from groundswell.errors import InvalidInput
from groundswell.stats import Adjustment, Moments, compare, contrast, cuped, linearised, post_stratify
from groundswell.stats.adjustment import adjust_arms, pair_of


class World:
    """Two arms of unequal size, two covariates, an effect that depends on one of them."""

    def __init__(self, seed: int = 0, n: int = 400) -> None:
        rng = np.random.default_rng(seed)
        self.x = rng.normal(5, 2, (n, 2))
        self.treated = np.arange(n) % 3 == 0
        self.y = 3 + self.x @ [1.0, 0.5] + self.treated * (0.4 + 0.3 * self.x[:, 0]) + rng.normal(0, 1, n)
        self.stratum = (self.x[:, 0] > 5).astype(int) + (self.x[:, 0] > 7)

    def arms(self, *columns: np.ndarray) -> tuple[Moments, Moments]:
        table = np.column_stack(columns or (self.y, self.x))
        return Moments.of(table[self.treated]), Moments.of(table[~self.treated])


def fit(world: World, *columns: Any) -> Any:
    return sm.OLS(world.y, sm.add_constant(np.column_stack([world.treated, *columns]))).fit()


@pytest.mark.parametrize("seed", range(3))
def test_equal_errors_are_classical_analysis_of_covariance(seed):
    world = World(seed)

    result = contrast(cuped(*world.arms(), adjustment=Adjustment(errors="equal")))

    theirs = fit(world, world.x)
    assert result.absolute.estimate == pytest.approx(theirs.params[1], rel=1e-9)
    assert result.standard_error == pytest.approx(theirs.bse[1], rel=1e-9)
    assert result.p_value == pytest.approx(theirs.pvalues[1], rel=1e-9)
    assert result.degrees_of_freedom == pytest.approx(theirs.df_resid)


@pytest.mark.parametrize("seed", range(3))
def test_a_theta_an_arm_is_lins_interacted_regression(seed):
    world = World(seed)

    result = contrast(cuped(*world.arms(), adjustment=Adjustment(theta="each")))

    centred = world.x - world.x.mean(axis=0)
    theirs = fit(world, centred, centred * world.treated[:, np.newaxis]).get_robustcov_results("HC2")
    assert result.absolute.estimate == pytest.approx(theirs.params[1], rel=1e-9)
    # the covariates' mean is estimated too, which conditional errors leave out
    assert result.standard_error is not None
    assert result.standard_error > 0.99 * theirs.bse[1]


@pytest.mark.parametrize("theta", ["within", "total"])
@pytest.mark.parametrize("reference", ["adjusted", "unadjusted"])
@pytest.mark.parametrize("small_sample", [True, False])
def test_the_short_way_for_one_covariate_is_the_general_one(theta, reference, small_sample):
    world = World(3, n=60)
    t, c = world.arms(world.y, world.x[:, 0])
    adjustment = Adjustment(theta=theta, reference=reference, small_sample=small_sample)

    short = contrast(cuped(t, c, adjustment=adjustment))

    joint, _ = adjust_arms(t, c, 1, adjustment, ())
    general = contrast(pair_of(joint, 1, reference=reference, words=""))
    assert short.pair is not None
    for found, expected in (
        (short.absolute, general.absolute),
        (short.relative, general.relative),
        (short.treatment, general.treatment),
        (short.baseline, general.baseline),
    ):
        assert found.estimate == pytest.approx(expected.estimate, rel=1e-10)
        assert found.low == pytest.approx(expected.low, rel=1e-10)
        assert found.high == pytest.approx(expected.high, rel=1e-10)
    assert short.p_value == pytest.approx(general.p_value, rel=1e-9)
    assert short.variance_reduction == pytest.approx(general.variance_reduction, rel=1e-9)


def test_a_fixed_theta_is_a_t_test_of_what_it_leaves():
    world = World()
    y, x = world.y, world.x[:, 0]

    result = contrast(cuped(*world.arms(y, x), adjustment=Adjustment(theta=0.7)))

    plain = compare(*world.arms(y - 0.7 * x))
    assert result.absolute.estimate == pytest.approx(plain.absolute.estimate, rel=1e-12)
    assert result.p_value == pytest.approx(plain.p_value, rel=1e-9)


def test_the_reduction_is_the_squared_correlation():
    world = World()

    result = contrast(cuped(*world.arms(world.y, world.x[:, 0]), adjustment=Adjustment(theta="within")))

    t, c = world.treated, ~world.treated
    r2 = np.corrcoef(world.y[c], world.x[c, 0])[0, 1] ** 2, np.corrcoef(world.y[t], world.x[t, 0])[0, 1] ** 2
    assert result.variance_reduction is not None
    assert min(r2) - 0.05 < result.variance_reduction < max(r2) + 0.05


@pytest.mark.parametrize("theta", ["within", "total", "each"])
def test_a_constant_covariate_changes_nothing_and_is_named(theta):
    world = World()
    adjustment = Adjustment(theta=theta)

    pair = cuped(*world.arms(world.y, world.x, np.full(len(world.y), 7.0)), adjustment=adjustment)

    plain = cuped(*world.arms(), adjustment=adjustment)
    assert contrast(pair).p_value == pytest.approx(contrast(plain).p_value, rel=1e-9)
    assert [note.code for note in pair.notes] == ["covariate-left-out"]


@pytest.mark.parametrize("theta", ["within", "total", "each"])
def test_a_collinear_covariate_changes_nothing(theta):
    world = World()
    adjustment = Adjustment(theta=theta)

    pair = cuped(*world.arms(world.y, world.x, world.x @ [2.0, -1.0] + 3), adjustment=adjustment)

    assert contrast(pair).p_value == pytest.approx(
        contrast(cuped(*world.arms(), adjustment=adjustment)).p_value, rel=1e-7
    )


@pytest.mark.parametrize("theta", ["within", "total", "each"])
def test_units_of_covariates_do_not_matter(theta):
    world = World()
    adjustment = Adjustment(theta=theta)

    scaled = contrast(cuped(*world.arms(world.y, world.x * [1e-7, 1e6] + [0, 1e3]), adjustment=adjustment))

    plain = contrast(cuped(*world.arms(), adjustment=adjustment))
    assert scaled.p_value == pytest.approx(plain.p_value, rel=1e-6)
    assert scaled.relative.low == pytest.approx(plain.relative.low, rel=1e-6)


def test_a_covariate_that_repeats_the_metric_is_no_effect_of_zero_variance():
    world = World()

    result = contrast(cuped(*world.arms(world.y, 2 * world.y + 1)))

    assert result.p_value is None
    assert "repeats it" in (result.reason or "")


def test_an_adjusted_ratio_is_the_adjusted_mean_of_its_influence_values():
    world = World(n=3_000)
    rng = np.random.default_rng(4)
    sessions = rng.poisson(3, len(world.y)) + 1.0

    pair = cuped(*world.arms(world.y * sessions, sessions, world.x), outcomes=2)

    values = np.empty(len(world.y))
    for arm in (world.treated, ~world.treated):
        ratio = (world.y * sessions)[arm].sum() / sessions[arm].sum()
        values[arm] = (world.y * sessions - ratio * sessions)[arm] / sessions[arm].mean() + ratio
    scalar = cuped(*world.arms(values, world.x))
    assert contrast(pair).absolute.estimate == pytest.approx(contrast(scalar).absolute.estimate, rel=0.01)
    assert contrast(pair).standard_error == pytest.approx(contrast(scalar).standard_error, rel=0.02)
    assert (contrast(pair).variance_reduction or 0) > 0.2


def test_a_ratio_can_be_adjusted_by_its_own_past():
    world = World(n=2_000)
    rng = np.random.default_rng(5)
    before, after = rng.poisson(4, len(world.y)) + 1.0, rng.poisson(4, len(world.y)) + 1.0
    t, c = world.arms(world.y * after, after, world.x[:, 0] * before, before)
    ratios = [(0, 1), (2, 3)]

    result = contrast(cuped(linearised(t, ratios), linearised(c, ratios)))

    assert result.variance_reduction is not None
    assert result.variance_reduction > 0.2
    raw = contrast(cuped(linearised(t, ratios[:1]), linearised(c, ratios[:1])))
    assert raw.standard_error == pytest.approx(compare(*world.arms(world.y * after, after)).standard_error, rel=1e-9)


def test_other_arms_help_to_estimate_a_common_theta():
    world = World()
    t, c = world.arms()

    with_others = cuped(t, c, others=[c, c])

    assert with_others.treatment.estimate != cuped(t, c).treatment.estimate
    assert cuped(t, c, others=[Moments.empty(3)]).treatment.estimate == pytest.approx(cuped(t, c).treatment.estimate)


def test_without_covariates_nothing_is_adjusted():
    world = World()

    result = contrast(cuped(*world.arms(world.y)))

    plain = compare(*world.arms(world.y))
    assert result.p_value == pytest.approx(plain.p_value, rel=1e-12)
    assert result.relative.high == pytest.approx(plain.relative.high, rel=1e-12)
    assert result.variance_reduction == pytest.approx(0.0, abs=1e-12)


def strata(world: World, *columns: np.ndarray) -> list[tuple[Moments, Moments]]:
    table = np.column_stack(columns)
    cells = [(world.stratum == s) for s in np.unique(world.stratum)]
    return [(Moments.of(table[cell & world.treated]), Moments.of(table[cell & ~world.treated])) for cell in cells]


def test_strata_are_weighed_by_their_share_of_units():
    world = World()

    result = contrast(post_stratify(strata(world, world.y)))

    share = [(world.stratum == s).mean() for s in range(3)]
    effects = [
        world.y[(world.stratum == s) & world.treated].mean() - world.y[(world.stratum == s) & ~world.treated].mean()
        for s in range(3)
    ]
    assert result.absolute.estimate == pytest.approx(np.dot(share, effects), rel=1e-12)
    assert 0.1 < (result.variance_reduction or 0) < 1


def test_one_stratum_is_no_stratum():
    world = World()

    result = contrast(post_stratify([world.arms(world.y)]))

    assert result.p_value == pytest.approx(compare(*world.arms(world.y)).p_value, rel=1e-12)


def test_strata_and_covariates_work_together():
    world = World()

    both = contrast(post_stratify(strata(world, world.y, world.x)))

    only = contrast(post_stratify(strata(world, world.y)))
    assert both.standard_error is not None
    assert only.standard_error is not None
    assert both.standard_error < only.standard_error


def test_a_stratum_too_small_for_a_variance_joins_the_largest():
    world = World()
    extra = (Moments.of([5.0]), Moments.empty(1))

    pair = post_stratify([*strata(world, world.y), extra])

    assert [note.code for note in pair.notes] == ["small-strata"]
    assert pair.treatment.count == world.treated.sum() + 1
    assert contrast(pair).p_value is not None


def test_no_unit_in_an_arm_says_so():
    world = World()
    t, c = world.arms()

    result = contrast(cuped(t, Moments.empty(c.k)))

    assert result.p_value is None
    assert "wait for more units" in (result.reason or "")


@pytest.mark.parametrize("settings", [{"theta": "mean"}, {"theta": "each", "errors": "equal"}, {"theta": float("nan")}])
def test_a_wrong_adjustment_is_refused(settings):
    with pytest.raises(InvalidInput, match="theta"):
        Adjustment(**settings)


@pytest.mark.parametrize("theta", ["within", "each"])
def test_adjusted_intervals_cover_in_small_samples(theta):
    """10 against 40 units with an effect that varies: 600 runs, 95% within four Monte-Carlo errors (3.6 points)."""
    rng = np.random.default_rng(20)
    covered, runs = 0, 600
    for _ in range(runs):
        x = rng.normal(size=50)
        treated = np.arange(50) < 10
        y = x + treated * 0.5 * x + rng.normal(size=50)
        table = np.column_stack([y, x])
        pair = cuped(Moments.of(table[treated]), Moments.of(table[~treated]), adjustment=Adjustment(theta=theta))
        absolute = contrast(pair).absolute
        covered += absolute.low is not None and absolute.high is not None and absolute.low <= 0 <= absolute.high

    assert covered / runs > 0.914
