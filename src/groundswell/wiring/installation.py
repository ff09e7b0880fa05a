"""An installation: one data folder and every room over it, each opened when it is first asked for."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from groundswell.errors import Corrupt
from groundswell.model.clock import Clock, SystemClock
from groundswell.model.faults import Faults, NoFaults
from groundswell.wiring.layout import DATA_VARIABLE, DEFAULT_FOLDER, Layout

if TYPE_CHECKING:
    import pyarrow as pa

    from groundswell.engine.contract import Engine
    from groundswell.experiments.explain import Explanation
    from groundswell.experiments.service import Computed, Scorecards
    from groundswell.ingest.audit import AuditReport
    from groundswell.ingest.dead_letters import DeadLetters
    from groundswell.ingest.service import IngestService
    from groundswell.ingest.trace import Trace
    from groundswell.lake.contract import Lake
    from groundswell.log.contract import EventLog
    from groundswell.store.control import Store
    from groundswell.wiring.ingesting import Rooms
    from groundswell.wiring.notebook import ShownScorecard

__all__ = ["Installation", "open_installation"]


def open_installation(path: str | os.PathLike[str] | None = None, *, create: bool = False) -> Installation:
    """Open the data folder at ``path`` (None: the environment's ``GROUNDSWELL_DATA``, else ``./groundswell-data``).

    Raises:
        NotFound: nothing is there and ``create`` is False.
        Unavailable, Corrupt: it is there and cannot be used; the message says why.
    """
    root = path if path is not None else os.environ.get(DATA_VARIABLE, DEFAULT_FOLDER)
    return Installation(Layout.create(root) if create else Layout.find(root))


class Installation:
    """Every room of one data folder. Use it as a context manager, or ``close`` it."""

    def __init__(self, layout: Layout, *, clock: Clock | None = None, faults: Faults | None = None) -> None:
        self.layout = layout
        self.clock: Clock = clock or SystemClock()
        self.faults: Faults = faults or NoFaults()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Release files and connections. What was not opened is not touched."""
        for name in ("log", "lake", "store"):
            opened = self.__dict__.pop(name, None)
            if opened is not None and hasattr(opened, "close"):
                opened.close()

    # --- rooms -------------------------------------------------------------------------------------------------

    @cached_property
    def store(self) -> Store:
        """The control store."""
        from groundswell.store.control import Store

        return Store.open(self.layout.control, clock=self.clock)

    @cached_property
    def log(self) -> EventLog:
        """The event log."""
        from groundswell.log.sqlite import SqliteEventLog

        return SqliteEventLog(self.layout.log, clock=self.clock, faults=self.faults)

    @cached_property
    def lake(self) -> Lake:
        """The lake."""
        from groundswell.lake.iceberg import IcebergLake

        return IcebergLake(self.layout.lake, clock=self.clock, faults=self.faults)

    @cached_property
    def engine(self) -> Engine:
        """The engine."""
        from groundswell.engine.local import LocalEngine

        return LocalEngine(self.lake)

    @cached_property
    def scorecards(self) -> Scorecards:
        """Scorecards over lake, engine and store."""
        from groundswell.experiments.service import Scorecards

        return Scorecards(self.lake, self.engine, self.store, clock=self.clock)

    def ingest(self, *, workers: int | None = None) -> IngestService:
        """Return a new ingest service over log and lake; the caller starts, drains and stops it."""
        from groundswell.wiring.ingesting import ingest_service

        return ingest_service(self.ingest_rooms(), workers=workers)

    def ingest_rooms(self) -> Rooms:
        """Return what ingest works on."""
        from groundswell.wiring.ingesting import Rooms

        return Rooms(self.layout.fingerprints, self.log, self.lake, self.store, self.clock, self.faults)

    # --- what people ask for -----------------------------------------------------------------------------------

    def scorecard(
        self, experiment: str, *, snapshot_id: int | None = None, definitions_version: int | None = None
    ) -> ShownScorecard:
        """Return the scorecard of ``experiment``; in a notebook it shows itself as a table with intervals.

        Raises:
            NotFound: no such experiment.
            NotComputable: nothing is in the lake yet.
            SnapshotGone: that snapshot has expired.
        """
        from groundswell.wiring.notebook import ShownScorecard

        computed = self.compute([experiment], snapshot_id=snapshot_id, definitions_version=definitions_version)
        return ShownScorecard(computed.scorecards[experiment])

    def compute(self, experiments: Sequence[str] | None = None, **settings: Any) -> Computed:
        """Return scorecards of several experiments (None: all that have started) from one sweep."""
        return self.scorecards.compute(experiments, **settings)

    def publish(self, experiment: str, *, by: str, snapshot_id: int | None = None) -> tuple[ShownScorecard, int]:
        """Compute and keep a scorecard; return it and its number."""
        from groundswell.wiring.notebook import ShownScorecard

        card, number = self.scorecards.publish(experiment, by=by, snapshot_id=snapshot_id)
        return ShownScorecard(card), number

    def explain(self, experiment: str, *, against: int, snapshot_id: int | None = None) -> Explanation:
        """Return why the scorecard differs from the one at snapshot ``against``."""
        return self.scorecards.explain(experiment, against=against, snapshot_id=snapshot_id)

    def dead_letters(self) -> DeadLetters:
        """Return the dead letters: list, show, replay."""
        from groundswell.ingest.dead_letters import DeadLetters

        return DeadLetters(self.log, self.lake, faults=self.faults)

    def audit(self) -> AuditReport:
        """Recount log and lake from the records."""
        from groundswell.ingest.audit import audit, audit_lake

        try:
            log = self.log
        except Corrupt as error:
            return audit_lake(self.lake, error)
        return audit(log, self.lake)

    def trace(self, what: str) -> Trace:
        """Follow an event id, or a unit, through log, fingerprints, dead letters, lake and experiments."""
        from groundswell.wiring.tracing import trace

        return trace(self.log, self.lake, self.store.definitions(), what)

    def export(self, experiment: str, folder: str | os.PathLike[str], *, snapshot_id: int | None = None) -> list[Path]:
        """Write the moments and the per-unit table of an experiment as Parquet; return the files."""
        from groundswell.wiring.exporting import export_experiment

        return export_experiment(self.scorecards, self.engine, experiment, Path(folder), snapshot_id=snapshot_id)

    def sql(self, text: str, *, snapshot_id: int | None = None) -> pa.Table:
        """Return the answer of a read-only query over the table ``events``.

        Raises:
            InvalidInput: the query is wrong, or would write.
        """
        from groundswell.lake.sql import query

        return query(self.lake, text, snapshot_id=snapshot_id)
