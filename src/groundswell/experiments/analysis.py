"""From moments to a scorecard: pure, so that the same aggregates always give the same scorecard.

The experiment's definition and ``stats`` decide the method; this module only arranges what they say.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from groundswell import limits, stats
from groundswell.experiments.scorecard import (
    Completeness,
    Effect,
    Interval,
    MetricResult,
    SampleRatio,
    Scorecard,
    Status,
)
from groundswell.lake.contract import Snapshot
from groundswell.model.clock import format_us, parse_us
from groundswell.model.definitions import Definitions, ExperimentDef, MetricDef
from groundswell.model.plan import Aggregates, ExperimentResult

__all__ = ["build_scorecard"]

PARTITION_BEHIND_US: Final = 60_000_000  # a partition a minute older than the newest holds the others back


def build_scorecard(
    name: str, definitions: Definitions, aggregates: Aggregates, snapshot: Snapshot, *, computed_at_us: int
) -> Scorecard:
    """Return the scorecard of experiment ``name``.

    Args:
        name: an experiment of ``definitions`` that ``aggregates`` holds.
        definitions: the version that the plan was made from.
        aggregates: the engine's answer.
        snapshot: what the aggregates were computed on; its watermarks say how complete it is.
        computed_at_us: now; the only part of a scorecard that does not follow from the rest.
    """
    experiment = definitions.experiments[name]
    counted = aggregates.experiments[name]
    alpha = experiment.alpha if experiment.alpha is not None else limits.alpha_default
    status = _status(experiment, aggregates.as_of_us)
    return Scorecard(
        experiment=name,
        status=status,
        snapshot_id=aggregates.snapshot_id,
        definitions_version=definitions.version,
        as_of=format_us(aggregates.as_of_us),
        computed_at=format_us(computed_at_us),
        alpha=alpha,
        shown="absolute" if status == "ended" else "always_valid",
        units=counted.units,
        excluded=counted.excluded,
        srm=_sample_ratio(experiment, counted),
        completeness=_completeness(snapshot),
        results=_results(experiment, definitions.metrics, counted, running=status != "ended"),
        counting=_counting(experiment),
        recompute=(
            f"groundswell scorecard {name} --snapshot {aggregates.snapshot_id} --definitions {definitions.version}"
        ),
    )


def _status(experiment: ExperimentDef, as_of_us: int) -> Status:
    if experiment.start is None or as_of_us < parse_us("start", experiment.start):
        return "not_started"
    if experiment.end is not None and as_of_us >= parse_us("end", experiment.end):
        return "ended"
    return "running"


def _sample_ratio(experiment: ExperimentDef, counted: ExperimentResult) -> SampleRatio:
    after = stats.sample_ratio(counted.units, experiment.variants)
    before = stats.sample_ratio(counted.units_before_exclusion or counted.units, experiment.variants)
    return SampleRatio(
        p_value=after.p_value,
        ok=after.ok,
        expected=after.expected,
        before_exclusion_p_value=before.p_value,
        reason=after.reason,
    )


def _completeness(snapshot: Snapshot) -> Completeness:
    watermarks = snapshot.state.watermarks_us
    newest = max(watermarks.values())
    return Completeness(
        data_to=format_us(min(watermarks.values())),
        partitions=len(watermarks),
        partitions_behind=sum(1 for at_us in watermarks.values() if at_us < newest - PARTITION_BEHIND_US),
        newest=format_us(newest),
    )


def _results(
    experiment: ExperimentDef, metrics: Mapping[str, MetricDef], counted: ExperimentResult, *, running: bool
) -> list[MetricResult]:
    baseline = experiment.baseline
    alpha = experiment.alpha if experiment.alpha is not None else limits.alpha_default
    found: list[MetricResult] = []
    for name in experiment.metrics:
        moments = counted.moments[name]
        for variant in experiment.variants:
            if variant != baseline:
                compared = stats.compare(moments[variant], moments[baseline], stats.Settings(alpha=alpha))
                found.append(_result(name, metrics[name], (variant, baseline), compared, running=running))
    return found


def _result(
    name: str, metric: MetricDef, pair: tuple[str, str], compared: stats.Comparison, *, running: bool
) -> MetricResult:
    reasons = {
        field: reason
        for field, reason in (
            ("mean", compared.treatment.reason),
            ("baseline_mean", compared.baseline.reason),
            ("absolute", compared.absolute.reason or compared.reason),
            ("relative", compared.relative.reason or compared.reason),
            ("always_valid", compared.always_valid.reason or compared.reason),
            ("p_value", compared.reason),
        )
        if reason is not None
    }
    warnings = [f"{note.code}: {note.text}" for note in compared.warnings]
    if running and metric.window is None:
        warnings.append(
            "values_still_grow: without a window a unit's value grows while the experiment runs, so the always-valid "
            "interval is approximate; give the metric a window"
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
        reasons=reasons,
    )


def _counting(experiment: ExperimentDef) -> list[str]:
    return [
        f"a unit is a {experiment.unit}, exposed at its first exposure within the run",
        "events from that moment to as_of count; with a window, those within it, for units whose window has closed",
        "units seen in two variants are excluded and counted",
        "an event counts once, however often it arrived",
    ]
