"""Upkeep: what keeps log and lake small while ingest runs.

Invariants
    every change of the table goes through ``Lake.commit`` like a worker's; losing a race costs a round, nothing else
    the log keeps what is not committed, and what fingerprints may have to be rebuilt from
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from groundswell.lake.compaction import compact, compaction_due
from groundswell.lake.contract import IngestState, Lake
from groundswell.log.contract import EVENTS_TOPIC, EventLog
from groundswell.model.clock import Clock
from groundswell.model.faults import Faults, NoFaults

__all__ = ["Housekeeping"]

ORPHANS_EVERY_S: Final = 3600.0  # a walk over every file; orphans are a day old before they go
EXPIRE_EVERY_S: Final = 60.0  # each expiry is a commit of its own


class Housekeeping:
    """One round: compact many files into runs, expire snapshots, sweep orphans now and then, drop old segments."""

    def __init__(self, log: EventLog, lake: Lake, *, clock: Clock, faults: Faults | None = None) -> None:
        self._log = log
        self._lake = lake
        self._clock = clock
        self._faults = faults or NoFaults()
        self._expired_s = clock.monotonic_s()
        self._swept_s = clock.monotonic_s()

    def run(self) -> None:
        """Do what is due. Raises ``Transient`` where the next round may succeed."""
        now_s = self._clock.monotonic_s()
        if compaction_due(self._lake.files()):
            compact(self._lake, clock=self._clock, faults=self._faults)
        if now_s - self._expired_s >= EXPIRE_EVERY_S:
            self._expired_s = now_s
            self._lake.expire()
        if now_s - self._swept_s >= ORPHANS_EVERY_S:
            self._swept_s = now_s
            self._lake.remove_orphans()
        self._log.maintain({EVENTS_TOPIC: self._committed()})

    def _committed(self) -> Mapping[int, int]:
        current = self._lake.current()
        state = current.state if current else IngestState()
        return {partition: state.offsets.get(partition, 0) for partition in range(self._log.partitions(EVENTS_TOPIC))}
