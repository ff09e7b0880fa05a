"""The engine: a plan of metrics over a snapshot of the lake -> moments, under the rules of counting.

Rules of counting (``docs/concepts/counting.md``)
    a unit is exposed at its first ``exposure`` by ``ts`` within the run; ties go to the least event_hash
    events with exposure ts <= ts <= as_of count; with a window also ts < exposure ts + window, for units whose window
    has closed at as_of
    units that saw a variant which the experiment does not have, else units that saw two, are excluded and counted
    an identity (event_hash within a unit_hash, of whatever kind) counts once: of its rows the one received first, then
    the one with the least ts, then with the least content_hash
    a value that is missing (or not finite) adds 0 to a sum and is no event for a count of that value
"""

from __future__ import annotations

from typing import Protocol

import pyarrow as pa

from groundswell.model.plan import Aggregates, ExperimentPlan, Plan

__all__ = ["Engine"]


class Engine(Protocol):
    """The seam."""

    def execute(self, plan: Plan, snapshot_id: int | None = None) -> Aggregates:
        """Return moments for every experiment x metric x variant of ``plan`` in one sweep over the snapshot.

        Raises:
            SnapshotGone: the snapshot has expired.
            NotComputable: the lake is empty, so there is no ``as_of``.
        """
        ...

    def unit_table(
        self, experiment: ExperimentPlan, snapshot_id: int | None = None, as_of_us: int | None = None
    ) -> pa.Table:
        """Return one row a counted unit: ``unit_hash``, ``variant``, ``exposed_at``, and a float64 column for each term
        of each metric, named ``<metric>`` or ``<metric>.numerator`` / ``<metric>.denominator``; null where the unit's
        window has not closed. Rows are in order of ``unit_hash``.
        """
        ...
