"""Ingest over an installation: workers, one committer and upkeep."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

from groundswell.ingest.committer import Committer
from groundswell.ingest.fingerprints import PartitionFingerprints
from groundswell.ingest.service import IngestService
from groundswell.ingest.upkeep import Housekeeping
from groundswell.ingest.worker import IngestWorker
from groundswell.lake.contract import Lake
from groundswell.log.contract import EVENTS_TOPIC, EventLog
from groundswell.model.clock import Clock
from groundswell.model.faults import Faults
from groundswell.store.control import Store

__all__ = ["Rooms", "ingest_service", "run_ingest"]

WORKERS_DEFAULT: Final = 2  # threads, one a core of the smallest machine
POLL_S: Final = 0.5


class Rooms(NamedTuple):
    """The rooms that ingest needs of an installation."""

    fingerprints: Path
    log: EventLog
    lake: Lake
    store: Store
    clock: Clock
    faults: Faults


def ingest_service(here: Rooms, *, workers: int | None = None, upkeep: bool = True) -> IngestService:
    """Return a service that is not started yet."""

    def fingerprints(partition: int, committed: int) -> PartitionFingerprints:
        return PartitionFingerprints.open(
            here.fingerprints,
            partition,
            committed,
            begins=here.log.begins(EVENTS_TOPIC)[partition],
            faults=here.faults,
        )

    def worker(partitions: tuple[int, ...]) -> IngestWorker:
        return IngestWorker(here.log, here.lake, partitions, fingerprints, here.store.definitions, faults=here.faults)

    return IngestService(
        here.log,
        here.lake,
        worker,
        Committer(here.lake, faults=here.faults),
        workers=workers or WORKERS_DEFAULT,
        upkeep=Housekeeping(here.log, here.lake, clock=here.clock, faults=here.faults) if upkeep else None,
        clock=here.clock,
    )


def run_ingest(here: Rooms, *, once: bool, workers: int, say: Callable[[str], None]) -> None:
    """Ingest until asked to stop, or with ``once`` until the log's present end is in the lake."""
    service = ingest_service(here, workers=workers)
    if once:
        service.drain()
        say("everything in the log is in the lake")
        return
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    service.start()
    while not stopping.wait(POLL_S):
        if service.health().status == "failed":
            break
    service.stop()  # raises what stopped the service, if anything did
