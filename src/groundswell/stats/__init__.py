"""Statistics on moments and arrays: pure mathematics, no I/O, no engine.

Everything public is reachable as ``stats.NAME``; the module that holds it is imported on first use, so that importing
the package costs nothing and scipy is paid for only by those who compute.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from groundswell.model.moments import Moments
    from groundswell.stats.adjustment import Adjustment, cuped, linearised, post_stratify
    from groundswell.stats.contrasts import Settings, arm_interval, compare, contrast
    from groundswell.stats.group_sequential import Boundaries, GroupPlan, GroupTest, boundaries, classic_boundaries
    from groundswell.stats.multiplicity import Corrected, Correction, Family, adjust_p_values, correct, correct_tiers
    from groundswell.stats.omnibus import Anova, anova
    from groundswell.stats.posteriors import Posterior, Prior, beta_binomial, gamma_poisson, posterior
    from groundswell.stats.proportions import Exact, compare_proportions, exact_counts, exact_proportions, wilson
    from groundswell.stats.regression import Regression, regress
    from groundswell.stats.results import Comparison, Effect, Note
    from groundswell.stats.sample_ratios import SampleRatio, sample_ratio
    from groundswell.stats.samples import Pair, Reference, Sample, moments_from_sums
    from groundswell.stats.sequences import Looks
    from groundswell.stats.simultaneous import Simultaneous, all_pairs, many_to_one

__all__ = [
    "Adjustment",
    "Anova",
    "Boundaries",
    "Comparison",
    "Corrected",
    "Correction",
    "Effect",
    "Exact",
    "Family",
    "GroupPlan",
    "GroupTest",
    "Looks",
    "Moments",
    "Note",
    "Pair",
    "Posterior",
    "Prior",
    "Reference",
    "Regression",
    "Sample",
    "SampleRatio",
    "Settings",
    "Simultaneous",
    "adjust_p_values",
    "all_pairs",
    "anova",
    "arm_interval",
    "beta_binomial",
    "boundaries",
    "classic_boundaries",
    "compare",
    "compare_proportions",
    "contrast",
    "correct",
    "correct_tiers",
    "cuped",
    "exact_counts",
    "exact_proportions",
    "gamma_poisson",
    "linearised",
    "many_to_one",
    "moments_from_sums",
    "post_stratify",
    "posterior",
    "regress",
    "sample_ratio",
    "wilson",
]

_HOME = {  # no module is named like what it exports: importing it would shadow the export
    "Adjustment": "adjustment",
    "Anova": "omnibus",
    "Boundaries": "group_sequential",
    "Comparison": "results",
    "Corrected": "multiplicity",
    "Correction": "multiplicity",
    "Effect": "results",
    "Exact": "proportions",
    "Family": "multiplicity",
    "GroupPlan": "group_sequential",
    "GroupTest": "group_sequential",
    "Looks": "sequences",
    "Note": "results",
    "Pair": "samples",
    "Posterior": "posteriors",
    "Prior": "posteriors",
    "Reference": "samples",
    "Regression": "regression",
    "Sample": "samples",
    "SampleRatio": "sample_ratios",
    "Settings": "contrasts",
    "Simultaneous": "simultaneous",
    "adjust_p_values": "multiplicity",
    "all_pairs": "simultaneous",
    "anova": "omnibus",
    "arm_interval": "contrasts",
    "beta_binomial": "posteriors",
    "boundaries": "group_sequential",
    "classic_boundaries": "group_sequential",
    "compare": "contrasts",
    "compare_proportions": "proportions",
    "contrast": "contrasts",
    "correct": "multiplicity",
    "correct_tiers": "multiplicity",
    "cuped": "adjustment",
    "exact_counts": "proportions",
    "exact_proportions": "proportions",
    "gamma_poisson": "posteriors",
    "linearised": "adjustment",
    "many_to_one": "simultaneous",
    "moments_from_sums": "samples",
    "post_stratify": "adjustment",
    "posterior": "posteriors",
    "regress": "regression",
    "sample_ratio": "sample_ratios",
    "wilson": "proportions",
}


def __getattr__(name: str) -> Any:
    if name == "Moments":
        return import_module("groundswell.model.moments").Moments
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return __all__
