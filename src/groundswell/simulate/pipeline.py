"""The pipeline of a seeded simulation: the real code from decoding to compaction, one step at a time.

Every process is an object that the scheduler drives; killing it means dropping the object and making a new one from
what is durable. Nothing here knows the outcome that is expected.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Final

from groundswell import limits
from groundswell.errors import Transient
from groundswell.ingest.committer import Committer
from groundswell.ingest.contribution import Contribution
from groundswell.ingest.fingerprints import PartitionFingerprints
from groundswell.ingest.worker import IngestWorker
from groundswell.lake.contract import Lake
from groundswell.log.contract import EVENTS_TOPIC, INTAKE_TOPIC, Entry, EventLog
from groundswell.model.definitions import Definitions, EventDef, PropertyDef
from groundswell.testing.clock import ManualClock
from groundswell.wire.decode import Decoded, Decoder
from groundswell.wire.intake import IntakeTally, encode_intake, intake_counts
from groundswell.wire.partition import split, split_dead
from groundswell.wire.record import RecordContent, encode_record

__all__ = ["DEFINITIONS", "SOURCE", "Killed", "Pipeline", "SeededFaults"]

SOURCE: Final = "app"
HOT_MAX: Final = 64  # small, so that run files are written and merged
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
        decoded = self._decoder.decode(body, source=SOURCE, received_at_us=now_us)
        self.log.append(_entries(decoded, self.log.partitions(EVENTS_TOPIC), now_us))

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
        """Let the committer take what waits; a kill loses the queue and restarts those who filled it."""
        waiting, self._queue = self._queue, []
        try:
            outcome = self._make_committer(self.lake, self._faults).commit([one for _, one in waiting])
        except (Killed, Transient):
            for number, _ in waiting:
                self._restart(number)
            return
        for number, contribution in waiting:
            if any(contribution is rejected for rejected in outcome.rejected):
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
        self._queue = [(owner, one) for owner, one in self._queue if owner != number]
        self._workers[number] = self._worker(self._shares[number])

    def _worker(self, share: tuple[int, ...]) -> IngestWorker:
        def fingerprints(partition: int, committed: int) -> PartitionFingerprints:
            return PartitionFingerprints.open(
                self._folder, partition, committed, clock=self._clock, window_s=limits.dedupe_window_s, hot_max=HOT_MAX
            )

        return IngestWorker(
            self.log, self.lake, share, fingerprints, lambda _: DEFINITIONS, faults=self._faults, rows_max=200
        )


def _entries(decoded: Decoded, partitions: int, now_us: int) -> list[Entry]:
    rows, dead = split(decoded.batch, partitions), split_dead(decoded.dead, partitions)
    entries: list[Entry] = []
    for partition in sorted(rows.keys() | dead.keys()):
        batch = rows.get(partition, decoded.batch.slice(0, 0))
        letters = dead.get(partition, decoded.dead.slice(0, 0))
        counts = {SOURCE: batch.num_rows + letters.num_rows}
        content = RecordContent(batch, letters, DEFINITIONS.version)
        entries.append(Entry(EVENTS_TOPIC, partition, encode_record(content), counts))
    tally = IntakeTally()
    tally.add(SOURCE, received=decoded.received, accepted=decoded.accepted, refused=decoded.refused, at_us=now_us)
    record = tally.record()
    entries.append(Entry(INTAKE_TOPIC, 0, encode_intake(record), intake_counts(record)))
    return entries
