"""Which experiments counted a unit, under which variant and with which values, or why not.

One unit's rows are few, so the rules of counting are asked in their simplest form, the engine's reference.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import pyarrow as pa

from groundswell.engine.plan_of import plan_experiment
from groundswell.engine.reference import CountedUnit, count_units, execute
from groundswell.lake.contract import Lake, Snapshot
from groundswell.model.clock import format_us
from groundswell.model.definitions import UNIT_KINDS, Definitions
from groundswell.model.plan import ExperimentPlan, Plan
from groundswell.wire.hashing import hash64

__all__ = ["counted_lines"]

_COLUMNS: Final = ("type", "ts", "received_at", "event_hash", "content_hash", "experiment", "variant", *UNIT_KINDS)
_WHY: Final = {
    "two_variants": "excluded: it was seen in two variants",
    "unknown_variant": "excluded: it saw a variant that the experiment does not have",
}


def counted_lines(lake: Lake, snapshot: Snapshot, unit: str, definitions: Definitions) -> list[str]:
    """Return one line an experiment that has started: what it counted of ``unit``, or why it did not."""
    as_of_us = snapshot.state.as_of_us
    if as_of_us is None:
        return []
    plans = [
        plan_experiment(name, definition, definitions.metrics)
        for name, definition in definitions.experiments.items()
        if definition.start is not None
    ]
    rows = _rows_of(lake, snapshot, unit, plans)
    return [f"experiment {plan.name}: {_said(rows, plan, unit, as_of_us)}" for plan in plans]


def _rows_of(lake: Lake, snapshot: Snapshot, unit: str, plans: list[ExperimentPlan]) -> pa.Table:
    low = int(hash64(unit))
    values = {term.value for plan in plans for metric in plan.metrics for term in metric.terms if term.value}
    files = [
        file
        for file in lake.files(snapshot.snapshot_id)
        if file.unit_hash_min is not None
        and file.unit_hash_max is not None
        and file.unit_hash_min <= low <= file.unit_hash_max
    ]
    return lake.read(files, [*_COLUMNS, *sorted(values)], unit_hash=(low, low))


def _said(rows: pa.Table, plan: ExperimentPlan, unit: str, as_of_us: int) -> str:
    for counted in count_units(rows, plan, as_of_us):
        if counted.unit == unit:
            values = ", ".join(_values(counted, plan))
            return f"counted in {counted.variant}, exposed {format_us(counted.exposed_at_us)}; {values}"
    excluded = execute(rows, Plan((plan,)), as_of_us)[plan.name].excluded
    for reason, why in _WHY.items():
        if excluded[reason]:
            return why
    return f"not counted: no exposure of this {plan.unit} within the run, as of {format_us(as_of_us)}"


def _values(counted: CountedUnit, plan: ExperimentPlan) -> Iterator[str]:
    for metric in plan.metrics:
        value = counted.values[metric.name]
        if value is None:
            yield f"{metric.name} not yet (its window is open)"
        else:
            yield f"{metric.name} {' / '.join(f'{one:g}' for one in value)}"
