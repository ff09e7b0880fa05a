"""The pipeline of a seeded simulation: the real code from decoding to compaction, one step at a time.

Every process is an object that the scheduler drives; killing it means dropping the object and making a new one from
what is durable. Nothing here knows the outcome that is expected.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Final

from groundswell.collector.appender import entries_of, intake_entry
from groundswell.errors import Transient
from groundswell.ingest.committer import Committer
from groundswell.ingest.contribution import Contribution
from groundswell.ingest.fingerprints import PartitionFingerprints
from groundswell.ingest.worker import IngestWorker
from groundswell.lake.contract import Lake
from groundswell.log.contract import EVENTS_TOPIC, Entry, EventLog
from groundswell.model.definitions import Definitions, EventDef, PropertyDef
from groundswell.testing.clock import ManualClock
from groundswell.wire.decode import Body, Decoder, Group
from groundswell.wire.intake import IntakeTally

__all__ = ["DEFINITIONS", "SOURCE", "Killed", "Pipeline", "SeededFaults"]

SOURCE: Final = "app"
HOT_MAX: Final = 64  # small, so that run files are written and merged
_NOBODY: Final = -1  # owner of a contribution whose worker is gone
DEFINITIONS: Final = Definitions(
    version=1,
    properties={"revenue": PropertyDef(type="float")},
    events={"purchase": EventDef(properties=("revenue",), required=("revenue",))},
).with_builtins()


class Killed(BaseException):
    """A process was killed at a step. No code of the pipeline may catch it."""


class SeededFaults:
    """Kills whoever reaches a step, with a fixed chance; counts which steps it killed at."""

    def __init__(self, rng: Random, chance: float) -> None:
        self._rng = rng
        self.chance = chance
        self.killed: dict[str, int] = {}

    def reach(self, step: str) -> None:
        if self._rng.random() < self.chance:
            self.killed[step] = self.killed.get(step, 0) + 1
            raise Killed(step)


class Pipeline:
    """Collector, workers, committer and compaction over a log and a lake that outlive them."""

    def __init__(
        self,
        log: EventLog,
        lake: Lake,
        folder: Path,
        *,
        clock: ManualClock,
        faults: SeededFaults,
        workers: int,
        make_committer: Callable[[Lake, SeededFaults], Committer],
        compact: Callable[[], object],
    ) -> None:
        self.log = log
        self.lake = lake
        self._folder = folder
        self._clock = clock
        self._faults = faults
        self._make_committer = make_committer
        self._compact = compact
        self._decoder = Decoder(DEFINITIONS)
        partitions = range(log.partitions(EVENTS_TOPIC))
        self._shares = [tuple(partitions[start::workers]) for start in range(workers)]
        self._workers = [self._worker(share) for share in self._shares]
        self._queue: list[tuple[int, Contribution]] = []

    # --- processes, each step of which may be its last -----------------------------------------------------------

    def collect(self, body: bytes) -> None:
        """Take a request in; return only if it may be acknowledged. Raises ``Killed`` or ``Transient`` otherwise."""
        now_us = self._clock.now_us()
        group = self._decoder.decode_all([Body(body, SOURCE, now_us)])
        self.log.append(_entries(group, self.log.partitions(EVENTS_TOPIC), now_us))

    def work(self, number: int) -> None:
        """Let one worker take its next step."""
        if any(owner == number for owner, _ in self._queue):
            return  # one contribution at a time keeps the order of its ranges
        try:
            contribution = self._workers[number].step()
        except (Killed, Transient):
            self._restart(number)
            return
        if contribution is not None:
            self._queue.append((number, contribution))

    def commit(self) -> None:
        """Let the committer take what waits; a kill restarts everybody, and what waited arrives once more."""
        waiting, self._queue = self._queue, []
        try:
            outcome = self._make_committer(self.lake, self._faults).commit([one for _, one in waiting])
        except (Killed, Transient):
            self._queue = [(_NOBODY, one) for _, one in waiting]  # the next committer may get them all the same
            for number in range(len(self._workers)):
                self._restart(number)
            return
        for number, contribution in waiting:
            if number != _NOBODY and any(contribution is rejected for rejected in outcome.rejected):
                self._restart(number)

    def compact(self) -> None:
        """Merge files; a kill leaves orphans and nothing else."""
        try:
            self._compact()
        except (Killed, Transient):
            return

    def drain(self) -> None:
        """Bring everything into the lake."""
        while True:
            for number in range(len(self._workers)):
                self.work(number)
            if not self._queue:
                return
            self.commit()

    @property
    def workers(self) -> int:
        return len(self._workers)

    def _restart(self, number: int) -> None:
        # what a dead worker handed over may still arrive, beside what its successor makes of the same range
        self._queue = [(_NOBODY if owner == number else owner, one) for owner, one in self._queue]
        self._workers[number] = self._worker(self._shares[number])

    def _worker(self, share: tuple[int, ...]) -> IngestWorker:
        def fingerprints(partition: int, committed: int) -> PartitionFingerprints:
            return PartitionFingerprints.open(
                self._folder, partition, committed, begins=self.log.begins(EVENTS_TOPIC)[partition], hot_max=HOT_MAX
            )

        return IngestWorker(
            self.log, self.lake, share, fingerprints, lambda _: DEFINITIONS, faults=self._faults, rows_max=200
        )


def _entries(group: Group, partitions: int, now_us: int) -> list[Entry]:
    (outcome,) = group.outcomes
    tally = IntakeTally()
    tally.add(SOURCE, received=outcome.received, accepted=outcome.accepted, refused=outcome.refused, at_us=now_us)
    return [*entries_of(group, DEFINITIONS.version, partitions), intake_entry(tally)]
