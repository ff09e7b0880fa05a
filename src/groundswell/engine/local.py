"""The engine in this process."""

from __future__ import annotations

import pyarrow as pa

from groundswell.engine import reference
from groundswell.errors import NotComputable
from groundswell.lake.contract import Lake, Snapshot
from groundswell.model.plan import Aggregates, ExperimentPlan, MetricPlan, Plan
from groundswell.wire.hashing import hash64

__all__ = ["LocalEngine", "term_columns"]

_EVENT_COLUMNS = ("type", "ts", "received_at", "user_id", "anonymous_id", "device_id", "unit_hash", "unit_kind")
_COLUMNS = (*_EVENT_COLUMNS, "event_hash", "content_hash", "experiment", "variant")


class LocalEngine:
    """Counts a snapshot of ``lake`` on this machine's cores (``threads`` None: all of them)."""

    def __init__(self, lake: Lake, *, threads: int | None = None) -> None:
        self._lake = lake
        self._threads = threads

    def execute(self, plan: Plan, snapshot_id: int | None = None) -> Aggregates:
        snapshot = self._snapshot(snapshot_id)
        as_of_us = _as_of_us(snapshot, plan.as_of_us)
        table = self._table(snapshot, plan)
        return Aggregates(snapshot.snapshot_id, as_of_us, reference.execute(table, plan, as_of_us))

    def unit_table(
        self, experiment: ExperimentPlan, snapshot_id: int | None = None, as_of_us: int | None = None
    ) -> pa.Table:
        snapshot = self._snapshot(snapshot_id)
        moment_us = _as_of_us(snapshot, as_of_us)
        units = reference.count_units(self._table(snapshot, Plan((experiment,))), experiment, moment_us)
        units.sort(key=lambda unit: hash64(unit.unit))
        columns = {
            "unit_hash": pa.array([hash64(unit.unit) for unit in units], pa.int64()),
            "variant": pa.array([unit.variant for unit in units], pa.string()),
            "exposed_at": pa.array([unit.exposed_at_us for unit in units], pa.timestamp("us", tz="UTC")),
        }
        for metric in experiment.metrics:
            for k, name in enumerate(term_columns(metric)):
                values = [unit.values[metric.name] for unit in units]
                columns[name] = pa.array([None if value is None else value[k] for value in values], pa.float64())
        return pa.table(columns)

    def _snapshot(self, snapshot_id: int | None) -> Snapshot:
        snapshot = self._lake.current() if snapshot_id is None else self._lake.snapshot(snapshot_id)
        if snapshot is None:
            raise NotComputable("the lake is empty: nothing has been committed yet")
        return snapshot

    def _table(self, snapshot: Snapshot, plan: Plan) -> pa.Table:
        metrics = [metric for experiment in plan.experiments for metric in experiment.metrics]
        values = {term.value for metric in metrics for term in metric.terms if term.value is not None}
        columns = list(dict.fromkeys((*_COLUMNS, *sorted(values))))
        return self._lake.read(self._lake.files(snapshot.snapshot_id), columns)


def term_columns(metric: MetricPlan) -> list[str]:
    """Return the names of a metric's columns in a unit table."""
    if len(metric.terms) == 1:
        return [metric.name]
    return [f"{metric.name}.numerator", f"{metric.name}.denominator"]


def _as_of_us(snapshot: Snapshot, asked_us: int | None) -> int:
    as_of_us = snapshot.state.as_of_us if asked_us is None else asked_us
    if as_of_us is None:
        raise NotComputable(f"snapshot {snapshot.snapshot_id} has no watermark yet, so there is no as_of")
    return as_of_us
