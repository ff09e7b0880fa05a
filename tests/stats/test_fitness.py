from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from groundswell import stats
from groundswell.model.moments import Moments
from groundswell.stats.fitness import ARM_UNITS_MIN, difference_skewness, unfit_for_many_looks
from groundswell.stats.samples import Sample

Floats = NDArray[np.float64]
Draw = Callable[[np.random.Generator, int], Floats]

RUNS = 150
UNITS = 5_000
LOOKS = np.linspace(500, UNITS, 15).astype(int)
DRAWS: dict[str, Draw] = {
    "normal": lambda rng, n: rng.normal(size=n),
    "log-normal": lambda rng, n: rng.lognormal(0.0, 1.0, n),
    "share .1": lambda rng, n: (rng.random(n) < 0.1).astype(float),
    "share .01": lambda rng, n: (rng.random(n) < 0.01).astype(float),
}


def _alarms(draw: Draw, share: float, *, guarded: bool) -> float:
    """Return how many runs without any effect raise an alarm at some look."""
    rng = np.random.default_rng(20261122)
    alarms = 0
    for _ in range(RUNS):
        values, treated = draw(rng, UNITS), rng.random(UNITS) < share
        alarms += any(_alarm(values[:n], treated[:n], guarded=guarded) for n in LOOKS)
    return alarms / RUNS


def _alarm(values: Floats, treated: NDArray[np.bool_], *, guarded: bool) -> bool:
    compared = stats.compare(Moments.of(values[treated]), Moments.of(values[~treated]))
    pair = compared.pair
    if pair is None or compared.always_valid.low is None or compared.always_valid.high is None:
        return False
    if guarded and unfit_for_many_looks(pair.treatment, pair.baseline) is not None:
        return False
    return not compared.always_valid.low <= 0.0 <= compared.always_valid.high


@pytest.mark.parametrize("name", DRAWS)
@pytest.mark.parametrize("share", [0.5, 0.1, 0.05, 0.02])
def test_what_passes_the_guard_keeps_alpha_over_many_looks(name: str, share: float) -> None:
    allowed = 0.05 + 3 * math.sqrt(0.05 * 0.95 / RUNS)

    assert _alarms(DRAWS[name], share, guarded=True) <= allowed


def test_the_guard_is_needed() -> None:
    assert _alarms(DRAWS["share .01"], 0.1, guarded=False) > 0.15


def test_skewness_that_both_arms_share_cancels_in_an_even_split() -> None:
    values = np.random.default_rng(1).lognormal(0.0, 1.0, 4_000)
    even = Sample.of_mean(Moments.of(values[:2_000])), Sample.of_mean(Moments.of(values[2_000:]))
    lopsided = Sample.of_mean(Moments.of(values[:100])), Sample.of_mean(Moments.of(values[100:]))

    assert abs(difference_skewness(*even) or 0.0) < abs(difference_skewness(*lopsided) or 0.0)


def test_swapping_arms_flips_the_skewness_of_the_difference() -> None:
    rng = np.random.default_rng(2)
    one, other = (Sample.of_mean(Moments.of(rng.exponential(size=n))) for n in (150, 900))

    assert difference_skewness(one, other) == pytest.approx(-(difference_skewness(other, one) or 0.0))


@pytest.mark.parametrize(
    ("treatment", "told"),
    [
        (np.arange(ARM_UNITS_MIN - 1.0), "wants 100 in each arm"),
        (np.zeros(200), "no unit differs"),
        (np.concatenate([np.zeros(199), [1e6]]), "still skewed"),
    ],
)
def test_the_reason_can_be_acted_on(treatment: Floats, told: str) -> None:
    baseline = Sample.of_mean(Moments.of(np.arange(1_000.0)))

    assert told in (unfit_for_many_looks(Sample.of_mean(Moments.of(treatment)), baseline) or "")
