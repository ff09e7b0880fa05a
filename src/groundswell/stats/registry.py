"""Every method in one table: what it is for, what it needs, when it may be read, what it assumes, where it is from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from groundswell.errors import InvalidInput

__all__ = ["Method", "method", "methods"]

Needs = Literal["moments", "units", "counts", "strata", "looks", "comparisons", "history"]
Read = Literal["one planned look", "planned looks", "any look", "not a test"]


@dataclass(frozen=True, slots=True)
class Method:
    """One row. ``call`` is its name in ``groundswell.stats``; ``read`` is when its error rate holds."""

    name: str
    call: str
    purpose: str
    needs: Needs
    read: Read
    assumes: str
    source: str


_ONCE: Final = "one planned look"
_INDEPENDENT = "independent units, means approximately normal"

METHODS: Final = (
    Method("welch", "compare", "means and ratios of two arms", "moments", _ONCE, _INDEPENDENT, "Welch 1947"),
    Method(
        "student", "compare", "means, equal variances", "moments", _ONCE, f"{_INDEPENDENT}, equal variances",
        "Student 1908",
    ),
    Method("z", "compare", "means, many units", "moments", _ONCE, f"{_INDEPENDENT}, known variances", "-"),
    Method(
        "delta-ratio", "compare", "ratio of two sums over units", "moments", _ONCE,
        f"{_INDEPENDENT}, a steady denominator", "Deng, Knoblich & Lu 2018",
    ),
    Method("fieller", "compare", "relative effect", "moments", _ONCE, _INDEPENDENT, "Fieller 1954"),
    Method(
        "confidence-sequence", "compare", "always-valid interval", "moments", "any look",
        "independent units whose values no longer grow; enough units at the first look",
        "Waudby-Smith, Arbour, Sinha, Kennedy & Ramdas 2024",
    ),
    Method(
        "mixture-sprt", "mixture_sprt", "always-valid p-value from a spread of effects", "moments", "any look",
        "as the confidence sequence", "Johari, Koomen, Pekelis & Walsh 2022",
    ),
    Method(
        "miettinen-nurminen", "compare_proportions", "two proportions", "counts", _ONCE, "independent units",
        "Miettinen & Nurminen 1985",
    ),
    Method("wilson", "wilson", "one proportion", "counts", _ONCE, "independent units", "Wilson 1927"),
    Method(
        "fisher", "exact_proportions", "two proportions, tiny counts", "counts", _ONCE, "independent units",
        "Fisher 1935",
    ),
    Method(
        "poisson-exact", "exact_counts", "two rates, tiny counts", "counts", _ONCE, "Poisson events",
        "Przyborowski & Wilenski 1940",
    ),
    Method(
        "cluster-robust", "clustered", "units in clusters", "units", _ONCE, "independent clusters",
        "Bell & McCaffrey 2002",
    ),
    Method(
        "wild-bootstrap", "wild_bootstrap", "few clusters", "units", _ONCE,
        "independent clusters, errors symmetric or many", "Cameron, Gelbach & Miller 2008; Webb 2014",
    ),
    Method(
        "cuped", "cuped", "variance reduction by covariates", "moments", _ONCE,
        f"{_INDEPENDENT}, covariates from before exposure", "Deng, Xu, Kohavi & Walker 2013",
    ),
    Method(
        "lin", "interacted_regression", "a slope an arm, robust errors", "units", _ONCE,
        "as cuped", "Lin 2013; MacKinnon & White 1985",
    ),
    Method(
        "post-stratification", "post_stratify", "variance reduction by strata", "strata", _ONCE,
        "as cuped, with strata in place of covariates", "Miratrix, Sekhon & Yu 2013",
    ),
    Method(
        "cupac", "cupac", "a covariate made by a model", "units", "not a test", "features from before exposure",
        "Tang et al. 2020; Guo et al. 2021",
    ),
    Method(
        "quantile", "quantile_samples", "quantiles of values that come many to a unit", "units", _ONCE,
        "independent units, a density at the quantile", "Deng, Knoblich & Lu 2018; Shao & Wu 1989",
    ),
    Method(
        "bootstrap", "bootstrap_means", "the general fallback", "units", _ONCE, "independent units, hundreds",
        "Chamandy, Muralidharan, Najmi & Naidu 2012",
    ),
    Method(
        "bootstrap-quantile", "bootstrap_quantiles", "the general fallback, quantiles", "units", _ONCE,
        "independent units, hundreds", "Chamandy, Muralidharan, Najmi & Naidu 2012",
    ),
    Method("winsorising", "cut_at", "heavy tails", "units", "not a test", "a cut that moves with neither arm", "-"),
    Method("trimmed-mean", "trimmed_mean", "heavy tails", "units", _ONCE, "independent units", "Yuen 1974"),
    Method(
        "group-sequential", "GroupTest", "a few planned looks, efficacy and futility", "looks", "planned looks",
        "normal estimates with independent increments", "Lan & DeMets 1983; Jennison & Turnbull 2000",
    ),
    Method(
        "group-sequential-classic", "classic_boundaries", "equally spaced looks", "looks", "planned looks",
        "as group-sequential", "Pocock 1977; O'Brien & Fleming 1979",
    ),
    Method(
        "normal-normal", "posterior", "chance to win and expected loss", "moments", "not a test",
        "effects spread as the prior says", "-",
    ),
    Method(
        "beta-binomial", "beta_binomial", "the same for proportions", "counts", "not a test", "beta priors", "-",
    ),
    Method("gamma-poisson", "gamma_poisson", "the same for rates", "counts", "not a test", "gamma priors", "-"),
    Method(
        "empirical-bayes", "learn_prior", "a prior from past experiments", "history", "not a test",
        "true effects are normal", "Efron & Morris 1973",
    ),
    Method(
        "winners-curse", "total_of_winners", "what launches really added up to", "history", "not a test",
        "known standard errors", "Lee & Shen 2018",
    ),
    Method(
        "corrections", "correct", "many comparisons, one error rate", "comparisons", _ONCE,
        "each method names its own", "Holm 1979; Hochberg 1988; Hommel 1988; Benjamini & Hochberg 1995",
    ),
    Method(
        "dunnett", "many_to_one", "every arm against the baseline", "moments", _ONCE, _INDEPENDENT,
        "Dunnett 1955",
    ),
    Method(
        "tukey", "all_pairs", "all pairs of arms", "moments", _ONCE, _INDEPENDENT,
        "Tukey 1953; Games & Howell 1976",
    ),
    Method("anova", "anova", "do arms differ at all", "moments", _ONCE, _INDEPENDENT, "Fisher; Welch 1951"),
    Method(
        "non-inferiority", "non_inferior", "not worse by a margin", "comparisons", _ONCE, "as the comparison",
        "Hauschke & Hothorn 2007",
    ),
    Method(
        "equivalence", "equivalent", "within a margin on both sides", "comparisons", _ONCE,
        "as the comparison", "Schuirmann 1987",
    ),
    Method(
        "decision", "decide", "ship, stop, continue, not trustworthy", "comparisons", "any look", "as its parts",
        "Schultzberg, Ankargren & Fraanje 2024",
    ),
    Method(
        "sample-ratio", "sample_ratio", "is the split the planned one", "counts", _ONCE, "independent units",
        "Pearson 1900; Fabijan et al. 2019",
    ),
    Method(
        "sequential-sample-ratio", "sequential_sample_ratio", "the same at every look", "counts", "any look",
        "independent units", "Lindon & Malek 2022",
    ),
    Method(
        "split-search", "explain_split", "which segment or day broke the split", "counts", _ONCE,
        "independent units", "-",
    ),
    Method("trend", "trend", "novelty and primacy", "moments", _ONCE, _INDEPENDENT, "-"),
    Method(
        "interaction", "interaction", "two experiments at once", "moments", _ONCE, _INDEPENDENT, "-",
    ),
    Method("a-a", "aa_test", "does the test err on these data", "units", "not a test", "independent units", "-"),
    Method(
        "heterogeneity", "heterogeneity", "do segments differ", "comparisons", _ONCE,
        "independent segments", "Cochran 1954; Paule & Mandel 1982",
    ),
    Method(
        "planning", "sample_size", "units, power, detectable effect, duration", "history", "not a test",
        "the future is like the history", "-",
    ),
)  # fmt: skip


def methods() -> tuple[Method, ...]:
    """Return every method."""
    return METHODS


def method(name: str) -> Method:
    """Return one method by name.

    >>> method("cuped").source
    'Deng, Xu, Kohavi & Walker 2013'
    """
    for row in METHODS:
        if row.name == name:
            return row
    raise InvalidInput("method", name, f"must be one of {', '.join(row.name for row in METHODS)}")
