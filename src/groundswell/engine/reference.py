"""The rules of counting in their simplest true form: plain loops over one table. Slow, and the oracle of every engine.

Invariants
    it shares no code with the engines that it judges
    units are told apart by their id's own text, never by a hash
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from groundswell.model.definitions import EXPOSURE, UNIT_KINDS, UnitKind
from groundswell.model.moments import Moments
from groundswell.model.plan import ExperimentPlan, ExperimentResult, MetricPlan, Plan, Term

__all__ = ["CountedUnit", "count_units", "execute", "term_value"]

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class CountedUnit:
    """A unit that an experiment counts; ``values`` by metric, one number a term, None where its window is open."""

    unit: str
    variant: str
    exposed_at_us: int
    values: dict[str, tuple[float, ...] | None]


def execute(table: pa.Table, plan: Plan, as_of_us: int) -> dict[str, ExperimentResult]:
    """Return the result of every experiment of ``plan`` over all rows of ``table``."""
    return {experiment.name: _result(table, experiment, as_of_us) for experiment in plan.experiments}


def _result(table: pa.Table, experiment: ExperimentPlan, as_of_us: int) -> ExperimentResult:
    units, excluded, before = _split(table, experiment, as_of_us)
    moments: dict[str, dict[str, Moments]] = {}
    for metric in experiment.metrics:
        moments[metric.name] = {}
        for variant in experiment.variants:
            values = [unit.values[metric.name] for unit in units if unit.variant == variant]
            closed = [value for value in values if value is not None]
            moments[metric.name][variant] = Moments.of(closed) if closed else Moments.empty(len(metric.terms))
    counted = {variant: sum(unit.variant == variant for unit in units) for variant in experiment.variants}
    return ExperimentResult(counted, excluded, moments, before)


def count_units(table: pa.Table, experiment: ExperimentPlan, as_of_us: int) -> list[CountedUnit]:
    """Return the units that ``experiment`` counts, in order of first appearance."""
    return _split(table, experiment, as_of_us)[0]


def _split(
    table: pa.Table, experiment: ExperimentPlan, as_of_us: int
) -> tuple[list[CountedUnit], dict[str, int], dict[str, int]]:
    """Return counted units, exclusions by reason, and units by the first variant that each saw."""
    rows_by_unit, rows_without = _once_each(_rows(table), experiment.unit)
    counted: list[CountedUnit] = []
    excluded = {"two_variants": 0, "unknown_variant": 0, "no_unit": 0}
    excluded["no_unit"] = len(_exposures(rows_without, experiment, as_of_us))
    before = dict.fromkeys(experiment.variants, 0)
    for unit, rows in rows_by_unit.items():
        exposures = _exposures(rows, experiment, as_of_us)
        if not exposures:
            continue
        first = min(exposures, key=lambda row: (row["ts"], row["event_hash"]))
        if first["variant"] in before:
            before[first["variant"]] += 1
        seen = {row["variant"] for row in exposures}
        if not seen <= set(experiment.variants):
            excluded["unknown_variant"] += 1
        elif len(seen) > 1:
            excluded["two_variants"] += 1
        else:
            values = {metric.name: _values(rows, metric, first["ts"], as_of_us) for metric in experiment.metrics}
            counted.append(CountedUnit(unit, first["variant"], first["ts"], values))
    return counted, excluded, before


def _rows(table: pa.Table) -> list[Row]:
    plain = [
        table.column(name).cast(pa.int64())
        if pa.types.is_timestamp(table.schema.field(name).type)
        else table.column(name)
        for name in table.column_names
    ]
    rows = pa.table(plain, names=table.column_names).to_pylist()
    optional = dict.fromkeys((*UNIT_KINDS, "experiment", "variant", "content_hash"))
    return [{**optional, **row} for row in rows]


def _once_each(rows: Iterable[Row], unit: UnitKind) -> tuple[dict[str, list[Row]], list[Row]]:
    """Return the rows of each unit, and the rows that lack the unit; an identity counts once, the first received."""
    groups: dict[str | None, dict[int, Row]] = {}  # by the id that tells rows apart, of whatever kind
    for row in rows:
        key = row[unit] or next((row[kind] for kind in UNIT_KINDS if row[kind]), None)
        identities = groups.setdefault(key, {})
        kept = identities.get(row["event_hash"])
        if kept is None or _arrival(row) < _arrival(kept):
            identities[row["event_hash"]] = row
    once = [row for identities in groups.values() for row in identities.values()]
    by_unit: dict[str, list[Row]] = {}
    for row in once:
        if row[unit]:
            by_unit.setdefault(row[unit], []).append(row)
    return by_unit, [row for row in once if not row[unit]]


def _arrival(row: Row) -> tuple[int, int, int]:
    return row["received_at"], row["ts"], row["content_hash"] or 0


def _exposures(rows: Iterable[Row], experiment: ExperimentPlan, as_of_us: int) -> list[Row]:
    return [
        row
        for row in rows
        if row["type"] == EXPOSURE
        and row["experiment"] == experiment.name
        and experiment.start_us <= row["ts"] <= as_of_us
        and (experiment.end_us is None or row["ts"] < experiment.end_us)
    ]


def _values(rows: Sequence[Row], metric: MetricPlan, exposed_at_us: int, as_of_us: int) -> tuple[float, ...] | None:
    if metric.window_us is not None and exposed_at_us + metric.window_us > as_of_us:
        return None
    counting = [
        row
        for row in rows
        if exposed_at_us <= row["ts"] <= as_of_us
        and (metric.window_us is None or row["ts"] < exposed_at_us + metric.window_us)
    ]
    return tuple(term_value(counting, term) for term in metric.terms)


def term_value(rows: Iterable[Row], term: Term) -> float:
    """Return what ``term`` makes of a unit's counting rows. A value that is missing or not finite is no value."""
    matching = [row for row in rows if row["type"] == term.event]
    if term.value is None:
        values: list[Any] = [1] * len(matching)
    else:
        values = [row[term.value] for row in matching if _is_value(row[term.value])]
    how: dict[str, Callable[[], float]] = {
        "sum": lambda: math.fsum(values),
        "count": lambda: float(len(values)),
        "any": lambda: float(bool(values)),
    }
    return how[term.kind]()


def _is_value(value: object) -> bool:
    return value is not None and not (isinstance(value, float) and not math.isfinite(value))
