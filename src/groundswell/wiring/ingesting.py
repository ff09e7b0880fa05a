"""Ingest over an installation: workers, one committer and upkeep, and what is said of how it fares."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

from groundswell.errors import GroundswellError, Transient, Unavailable
from groundswell.ingest.committer import Committer
from groundswell.ingest.fingerprints import PartitionFingerprints
from groundswell.ingest.service import IngestHealth, IngestService
from groundswell.ingest.upkeep import Housekeeping
from groundswell.ingest.worker import IngestWorker
from groundswell.lake.contract import Lake
from groundswell.log.contract import EVENTS_TOPIC, EventLog
from groundswell.model.clock import Clock, format_us
from groundswell.model.faults import Faults
from groundswell.store.control import Store

__all__ = ["HealthTeller", "Rooms", "drain_or_give_up", "ingest_service", "run_ingest"]

WORKERS_DEFAULT: Final = 2  # threads, one a core of the smallest machine
POLL_S: Final = 0.5
TOLD_AGAIN_S: Final = 60.0  # while it heals: often enough to be found, seldom enough not to fill a disk that is full
STALLED_S_MAX: Final = 60.0  # without a commit: a dozen retries at the longest back-off; waiting on helps nobody


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
    teller = HealthTeller(here.clock, say)
    if once:
        drain_or_give_up(service, here.clock, teller)
        say("everything in the log is in the lake")
        return
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    service.start()
    while not stopping.wait(POLL_S):
        health = _told_health(service, teller)
        if health is not None and health.status == "failed":
            break
    service.stop()  # raises what stopped the service, if anything did


class HealthTeller:
    """Says when ingest begins to heal and why, at most every ``TOLD_AGAIN_S``, and when it is over."""

    def __init__(self, clock: Clock, say: Callable[[str], None]) -> None:
        self._clock = clock
        self._say = say
        self._since_s: float | None = None  # healing since
        self._told_s: float | None = None
        self._owes_the_end = False  # it was said that ingest heals
        self._commits = 0

    def look(self, health: IngestHealth) -> None:
        """Say what has changed since the last look."""
        if health.status == "healing":
            self._trouble(health.commits, health.last_error)
        elif health.status == "running" and self._since_s is not None:
            if self._owes_the_end:
                lasted_s = self._clock.monotonic_s() - self._since_s
                resumed = ", commits resumed" if health.commits > self._commits else ""
                self._say(f"{self._now()} ingest healed after {lasted_s:.0f} s{resumed}")
            self._since_s, self._owes_the_end = None, False

    def unseen(self, error: Transient) -> None:
        """Say that not even the health can be asked for."""
        self._trouble(self._commits, str(error))

    def _trouble(self, commits: int, error: str | None) -> None:
        now_s = self._clock.monotonic_s()
        if self._since_s is None:
            self._since_s, self._commits = now_s, commits
        if self._told_s is not None and now_s - self._told_s < TOLD_AGAIN_S:
            return
        self._told_s, self._owes_the_end = now_s, True
        self._say(f"{self._now()} ingest does not get on and tries again: {error}")

    def _now(self) -> str:
        return format_us(self._clock.now_us())


class _Stall:
    """Finds that nothing was committed for too long while errors repeat: without errors a long rebuild may be on."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._commits = -1
        self._since_s = clock.monotonic_s()
        self.reason: str | None = None  # why it was given up

    def look(self, health: IngestHealth) -> bool:
        """Say whether to give up."""
        now_s = self._clock.monotonic_s()
        if health.status != "healing" or health.commits != self._commits:
            self._commits, self._since_s = health.commits, now_s
        if now_s - self._since_s > STALLED_S_MAX:
            self.reason = health.last_error or "no reason is known"
        return self.reason is not None


def drain_or_give_up(service: IngestService, clock: Clock, teller: HealthTeller) -> None:
    """Ingest up to the end that the log has now.

    Raises:
        Unavailable: nothing was committed for ``STALLED_S_MAX``; the message has the last error.
    """
    stall = _Stall(clock)
    drained = threading.Event()

    def watch() -> None:
        while not drained.wait(POLL_S):
            health = _told_health(service, teller)
            if health is not None and stall.look(health):
                with suppress(GroundswellError):  # drain raises what failed
                    service.stop()
                return

    watcher = threading.Thread(target=watch, name="ingest-watcher", daemon=True)
    watcher.start()
    try:
        service.drain()
    finally:
        drained.set()
        watcher.join()
    if stall.reason is not None:
        raise Unavailable(
            f"ingest committed nothing for {STALLED_S_MAX:.0f} s: {stall.reason}; "
            "the log keeps everything: mend the cause and run it again"
        )


def _told_health(service: IngestService, teller: HealthTeller) -> IngestHealth | None:
    """Tell how ``service`` fares and return it; None where log or lake do not answer."""
    try:
        health = service.health()
    except Transient as error:
        teller.unseen(error)
        return None
    teller.look(health)
    return health
