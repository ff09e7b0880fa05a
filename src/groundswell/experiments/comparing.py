"""One metric of one variant against the baseline: which test, and what may be shown of it.

Invariants
    an arm whose units are all alike has no known variance: a share is then compared by a score test, a mean not at all
    the always-valid interval is withheld while its theory does not hold yet (``stats.fitness``), with the reason
    the fixed interval is the one to act on only where nobody could have chosen the moment: the end was planned and this
    metric's units have all matured
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from groundswell import stats
from groundswell.experiments.scorecard import Effect, Interval, MetricResult
from groundswell.model.definitions import MetricDef
from groundswell.model.moments import Moments
from groundswell.stats.fitness import all_alike, unfit_for_many_looks

__all__ = ["compare_arms", "metric_result"]

_ALIKE: Final = "so its variance is not known; wait for more units, or define a conversion metric of the same event"


def compare_arms(
    metric: MetricDef, treatment: Moments, baseline: Moments, settings: stats.Settings
) -> stats.Comparison:
    """Return the comparison that the metric's type and the data allow."""
    compared = stats.compare(treatment, baseline, settings)
    pair = compared.pair
    if pair is None or compared.reason is not None:
        return compared
    alike = [name for name, arm in (("treatment", pair.treatment), ("baseline", pair.baseline)) if all_alike(arm)]
    if alike and metric.type == "conversion":
        compared = stats.compare_proportions(_counts(treatment), _counts(baseline), settings)
    elif alike:
        return _without(compared, f"{alike[0]}: no unit differs from another, {_ALIKE}")
    why = unfit_for_many_looks(pair.treatment, pair.baseline)
    return compared if why is None else _withheld(compared, why)


def metric_result(
    name: str, metric: MetricDef, pair: tuple[str, str], compared: stats.Comparison, *, settled: bool
) -> MetricResult:
    """Arrange a comparison as the scorecard shows it. ``settled``: the fixed interval may be acted on."""
    warnings = [f"{note.code}: {_named(note.text, pair)}" for note in compared.warnings]
    if not settled and metric.window is None:
        warnings.append(
            "values_still_grow: without a window a unit's value grows while data come in, so the always-valid interval "
            "is approximate; give the metric a window"
        )
    return MetricResult(
        metric=name,
        type=metric.type,
        window=metric.window,
        better=metric.better,
        variant=pair[0],
        baseline=pair[1],
        n=compared.treatment_n,
        mean=compared.treatment.estimate,
        mean_interval=Interval(compared.treatment.low, compared.treatment.high),
        baseline_n=compared.baseline_n,
        baseline_mean=compared.baseline.estimate,
        baseline_interval=Interval(compared.baseline.low, compared.baseline.high),
        absolute=Effect(compared.absolute.estimate, compared.absolute.low, compared.absolute.high),
        relative=Effect(compared.relative.estimate, compared.relative.low, compared.relative.high),
        always_valid=Interval(compared.always_valid.low, compared.always_valid.high),
        always_valid_relative=Interval(compared.always_valid_relative.low, compared.always_valid_relative.high),
        p_value=compared.p_value,
        statistic=compared.statistic,
        degrees_of_freedom=compared.degrees_of_freedom,
        method=compared.method,
        warnings=warnings,
        reasons={field: _named(reason, pair) for field, reason in _reasons(compared).items()},
    )


def _named(text: str, pair: tuple[str, str]) -> str:
    """Return what statistics says of treatment and baseline with the names of the variants."""
    for role, name in zip(("treatment", "baseline"), pair, strict=True):
        if text.startswith(f"{role}: "):
            return f"{name}: {text.removeprefix(f'{role}: ')}"
    return text


def _reasons(compared: stats.Comparison) -> dict[str, str]:
    """Return why each field that is null, wholly or in part, is so."""
    fields: tuple[tuple[str, str | None], ...] = (
        ("mean" if compared.treatment.estimate is None else "mean_interval", compared.treatment.reason),
        ("baseline_mean" if compared.baseline.estimate is None else "baseline_interval", compared.baseline.reason),
        ("absolute", compared.absolute.reason or compared.reason),
        ("relative", compared.relative.reason or compared.reason),
        ("always_valid", compared.always_valid.reason or compared.reason),
        ("always_valid_relative", compared.always_valid_relative.reason or compared.reason),
        ("p_value", compared.reason),
    )
    return {name: reason for name, reason in fields if reason is not None}


def _counts(moments: Moments) -> tuple[int, int]:
    return round(float(moments.mean[0]) * moments.count), moments.count


def _without(compared: stats.Comparison, reason: str) -> stats.Comparison:
    """Keep the estimates; take back every interval and p-value."""
    unknown = stats.Effect(reason=reason)
    return replace(
        compared,
        absolute=stats.Effect(compared.absolute.estimate, reason=reason),
        relative=stats.Effect(compared.relative.estimate, reason=reason),
        always_valid=unknown,
        always_valid_relative=unknown,
        always_valid_p=None,
        p_value=None,
        statistic=None,
        degrees_of_freedom=None,
        reason=reason,
    )


def _withheld(compared: stats.Comparison, reason: str) -> stats.Comparison:
    unknown = stats.Effect(reason=reason)
    return replace(compared, always_valid=unknown, always_valid_relative=unknown, always_valid_p=None)
