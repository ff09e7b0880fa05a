"""Whether an interval that should hold at many looks may be shown yet: its theory is asymptotic, small arms are not.

Invariants
    what is judged is the difference of the arms: skewness that both share cancels, a small arm beside a large one does
    not

The always-valid interval rests on a normal approximation at every look from the first on. Three things break it early
and are looked for: an arm of few units, whose variance is not known yet; an arm whose units are all alike, whose
variance is not known at all; and a difference whose own skewness

    g = (m3_t / n_t^2 - m3_c / n_c^2) / (v_t / n_t + v_c / n_c)^1.5

is large, m3 being the third central moment of a unit (Edgeworth: the tails are off by about g (z^2 - 1) / 6). The
bounds are from simulation; `tests/stats/test_fitness.py` holds false alarms over many looks below alpha for splits from
50/50 to 98/2, for normal and log-normal values and for shares of .1 and .01.
"""

from __future__ import annotations

import math
from typing import Final

from groundswell.stats.samples import Sample

__all__ = ["ARM_UNITS_MIN", "SKEWNESS_MAX", "all_alike", "difference_skewness", "unfit_for_many_looks"]

ARM_UNITS_MIN: Final = 100
SKEWNESS_MAX: Final = 0.25


def all_alike(sample: Sample) -> bool:
    """Return whether an arm has units and none differs from another."""
    return sample.variance is not None and sample.variance <= 0.0 and sample.count > 0


def difference_skewness(treatment: Sample, baseline: Sample) -> float | None:
    """Return the skewness of the difference of two independent means; None where an arm's is not known."""
    third = 0.0
    for sign, sample in ((1.0, treatment), (-1.0, baseline)):
        if sample.skewness is None or sample.variance is None:
            return None
        third += sign * sample.skewness * sample.variance**1.5 / sample.count**2
    spread = treatment.error_variance + baseline.error_variance
    return third / spread**1.5 if spread > 0.0 else None


def unfit_for_many_looks(treatment: Sample, baseline: Sample) -> str | None:
    """Return why an always-valid interval cannot be given yet, or None."""
    for name, sample in (("treatment", treatment), ("baseline", baseline)):
        if sample.count < ARM_UNITS_MIN:
            return f"{name}: {sample.count} units; an interval for many looks wants {ARM_UNITS_MIN} in each arm"
        if all_alike(sample):
            return f"{name}: no unit differs from another, so its variance is not known yet"
    skewness = difference_skewness(treatment, baseline)
    if skewness is not None and abs(skewness) > SKEWNESS_MAX:
        factor = math.ceil((skewness / SKEWNESS_MAX) ** 2)
        return (
            f"the difference is still skewed ({skewness:+.2f}, at most {SKEWNESS_MAX}); about {factor} times as many "
            "units in the smaller arm, a more even split, or a capped value would do"
        )
    return None
