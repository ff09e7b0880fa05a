"""From moments to a scorecard: pure, so that the same aggregates always give the same scorecard.

The experiment's definition and ``stats`` decide the method; this module only arranges what they say.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from groundswell import limits, stats
from groundswell.experiments.comparing import compare_arms, metric_result
from groundswell.experiments.scorecard import Completeness, MetricResult, SampleRatio, Scorecard, Status
from groundswell.lake.contract import Snapshot
from groundswell.model.clock import US_PER_S, duration_s, format_us, parse_us
from groundswell.model.definitions import Definitions, ExperimentDef, MetricDef
from groundswell.model.plan import Aggregates, ExperimentResult

__all__ = ["build_scorecard"]

PARTITION_BEHIND_US: Final = 60_000_000  # a partition a minute older than the newest holds the others back


def build_scorecard(
    name: str,
    definitions: Definitions,
    aggregates: Aggregates,
    snapshot: Snapshot,
    *,
    computed_at_us: int,
    end_planned: bool,
) -> Scorecard:
    """Return the scorecard of experiment ``name``.

    Args:
        name: an experiment of ``definitions`` that ``aggregates`` holds.
        definitions: the version that the plan was made from.
        aggregates: the engine's answer.
        snapshot: what the aggregates were computed on; its watermarks say how complete it is.
        computed_at_us: now; the only part of a scorecard that does not follow from the rest.
        end_planned: the experiment's end was defined before it had come.
    """
    experiment = definitions.experiments[name]
    counted = aggregates.experiments[name]
    results = _results(experiment, definitions.metrics, counted, as_of_us=aggregates.as_of_us, end_planned=end_planned)
    settled = end_planned and all(
        _matured(experiment, definitions.metrics[metric], aggregates.as_of_us) for metric in experiment.metrics
    )
    return Scorecard(
        experiment=name,
        status=_status(experiment, aggregates.as_of_us),
        snapshot_id=aggregates.snapshot_id,
        definitions_version=definitions.version,
        as_of=format_us(aggregates.as_of_us),
        computed_at=format_us(computed_at_us),
        alpha=_alpha(experiment),
        shown="absolute" if settled else "always_valid",
        units=counted.units,
        excluded=counted.excluded,
        srm=_sample_ratio(experiment, counted),
        completeness=_completeness(snapshot),
        results=results,
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
    """Test the split before and after exclusion: either alone can hide what the other shows."""
    after = stats.sample_ratio(counted.units, experiment.variants)
    before = stats.sample_ratio(counted.units_before_exclusion or counted.units, experiment.variants)
    verdicts = [one.ok for one in (after, before) if one.ok is not None]
    reason = after.reason
    if after.ok and before.ok is False:
        reason = "the split is off before exclusion: one variant's units are excluded more often than another's"
    return SampleRatio(
        p_value=after.p_value,
        ok=all(verdicts) if verdicts else None,
        expected=after.expected,
        before_exclusion_p_value=before.p_value,
        reason=reason,
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
    experiment: ExperimentDef,
    metrics: Mapping[str, MetricDef],
    counted: ExperimentResult,
    *,
    as_of_us: int,
    end_planned: bool,
) -> list[MetricResult]:
    baseline = experiment.baseline
    settings = stats.Settings(alpha=_alpha(experiment))
    found: list[MetricResult] = []
    for name in experiment.metrics:
        metric, moments = metrics[name], counted.moments[name]
        settled = end_planned and _matured(experiment, metric, as_of_us)
        for variant in experiment.variants:
            if variant != baseline:
                compared = compare_arms(metric, moments[variant], moments[baseline], settings)
                result = metric_result(name, metric, (variant, baseline), compared, settled=settled)
                found.append(_with_split(_with_open_windows(result, counted), experiment, counted))
    return found


def _alpha(experiment: ExperimentDef) -> float:
    return experiment.alpha if experiment.alpha is not None else limits.alpha_default


def _matured(experiment: ExperimentDef, metric: MetricDef, as_of_us: int) -> bool:
    """Return whether no later event can change the metric: the run is over, and so is the last unit's window."""
    if experiment.end is None or metric.window is None:
        return False
    return as_of_us >= parse_us("end", experiment.end) + duration_s("window", metric.window) * US_PER_S


def _with_open_windows(result: MetricResult, counted: ExperimentResult) -> MetricResult:
    """Say so where units are there and none has matured: nothing is wrong, it is early."""
    early = {
        name
        for name, n in ((result.variant, result.n), (result.baseline, result.baseline_n))
        if n == 0 and counted.units[name]
    }
    if not early or result.window is None:
        return result
    reason = f"early: no unit's {result.window} window has closed yet"
    return msgspec.structs.replace(result, reasons=dict.fromkeys(result.reasons, reason), warnings=[])


def _with_split(result: MetricResult, experiment: ExperimentDef, counted: ExperimentResult) -> MetricResult:
    """Warn where the split is sound but that of the units whose window has closed is not."""
    if (result.n, result.baseline_n) == (counted.units[result.variant], counted.units[result.baseline]):
        return result
    weights = {name: experiment.variants[name] for name in (result.variant, result.baseline)}
    split = stats.sample_ratio({result.variant: result.n, result.baseline: result.baseline_n}, weights)
    if split.ok is not False:
        return result
    warning = (
        f"matured_split: of the units whose window has closed {result.n:,} are {result.variant} and "
        f"{result.baseline_n:,} {result.baseline} (p = {split.p_value:.2g}): the variants did not begin together; wait"
    )
    return msgspec.structs.replace(result, warnings=[*result.warnings, warning])


def _counting(experiment: ExperimentDef) -> list[str]:
    return [
        f"a unit is a {experiment.unit}, exposed at its first exposure within the run",
        "events from that moment to as_of count; with a window, those within it, for units whose window has closed",
        "units seen in two variants are excluded and counted",
        "an event counts once, however often it arrived",
    ]
