"""Helpers of the ingest tests: a small world of definitions, records of chosen events, a lake read back."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from groundswell.ingest.committer import Committer
from groundswell.ingest.service import IngestService
from groundswell.ingest.worker import IngestWorker
from groundswell.lake.contract import IngestState, Lake
from groundswell.log.contract import EVENTS_TOPIC, INTAKE_TOPIC, Entry, EventLog, Origin
from groundswell.model.definitions import Definitions, EventDef, PropertyDef
from groundswell.model.faults import Faults, NoFaults
from groundswell.testing.clock import ManualClock
from groundswell.testing.lake import MemoryLake
from groundswell.testing.log import MemoryEventLog
from groundswell.wire.decode import Decoder
from groundswell.wire.intake import IntakeTally, encode_intake, intake_counts
from groundswell.wire.partition import split, split_dead
from groundswell.wire.record import RecordContent, decode_record, encode_record

DEFINITIONS = Definitions(
    version=1,
    properties={"revenue": PropertyDef(type="float"), "watch_ms": PropertyDef(type="int")},
    events={
        "view": EventDef(properties=("watch_ms",)),
        "purchase": EventDef(properties=("revenue",), required=("revenue",)),
    },
)
Int64s = npt.NDArray[np.int64]


class SetFingerprints:
    """Fingerprints without files: everything is rebuilt from the log."""

    covered = 0

    def __init__(self) -> None:
        self._seen: dict[tuple[int, int], int] = {}

    def admit(self, h1: Int64s, h2: Int64s, content: Int64s) -> npt.NDArray[np.uint8]:
        fates = np.zeros(len(h1), np.uint8)
        for row, (a, b, value) in enumerate(zip(h1.tolist(), h2.tolist(), content.tolist(), strict=True)):
            known = self._seen.get((a, b))
            if known is None:
                self._seen[(a, b)] = value
            else:
                fates[row] = 1 if known == value else 2
        return fates

    def advance(self, next_offset: int, appended_at_us: int) -> None:
        del next_offset, appended_at_us

    def settle(self, committed: int) -> None:
        del committed


@dataclass
class Bench:
    """Log, lake and clock of one test, with short ways to send events and to look at what arrived."""

    log: EventLog
    lake: Lake
    clock: ManualClock
    definitions: dict[int, Definitions] = field(default_factory=lambda: {1: DEFINITIONS})
    sent: Counter[str] = field(default_factory=Counter)

    def send(
        self,
        events: Iterable[Mapping[str, Any] | bytes],
        *,
        source: str = "app",
        origin: Origin = "live",
        version: int = 1,
    ) -> list[tuple[int, int]]:
        """Append events as a collector would; return where they landed."""
        body = b"\n".join(one if isinstance(one, bytes) else json.dumps(one).encode() for one in events)
        decoded = Decoder(self.definitions[version]).decode(
            body, source=source, received_at_us=self.clock.now_us(), form="ndjson"
        )
        partitions = self.log.partitions(EVENTS_TOPIC)
        rows, dead = split(decoded.batch, partitions), split_dead(decoded.dead, partitions)
        entries: list[Entry] = []
        for partition in sorted(rows.keys() | dead.keys()):
            batch = rows.get(partition, decoded.batch.slice(0, 0))
            letters = dead.get(partition, decoded.dead.slice(0, 0))
            payload = encode_record(RecordContent(batch, letters, version))
            entries.append(Entry(EVENTS_TOPIC, partition, payload, {source: batch.num_rows + letters.num_rows}, origin))
        tally = IntakeTally()
        tally.add(source, received=decoded.received, accepted=decoded.accepted, refused=decoded.refused)
        intake = tally.record()
        entries.append(Entry(INTAKE_TOPIC, 0, encode_intake(intake), intake_counts(intake)))
        self.sent[source] += decoded.accepted
        return self.log.append(entries)

    def worker(self, partitions: Sequence[int] = (0, 1, 2, 3), **kwargs: Any) -> IngestWorker:
        return IngestWorker(
            self.log,
            self.lake,
            partitions,
            lambda _partition, _committed: SetFingerprints(),
            self.definitions.__getitem__,
            **kwargs,
        )

    def service(self, *, workers: int = 1, faults: Faults | None = None, **kwargs: Any) -> IngestService:
        chosen = faults or NoFaults()
        return IngestService(
            self.log,
            self.lake,
            lambda partitions: self.worker(partitions, faults=chosen),
            kwargs.pop("committer", None) or Committer(self.lake, faults=chosen),
            workers=workers,
            **kwargs,
        )

    def state(self) -> IngestState:
        snapshot = self.lake.current()
        return snapshot.state if snapshot else IngestState()

    def ids(self) -> Counter[str]:
        """Event ids in the lake, with how often each is there."""
        table = self.lake.read(self.lake.files(), ["event_id"])
        return Counter(table.column("event_id").to_pylist())


def event(number: int, kind: str = "view", **fields: Any) -> dict[str, Any]:
    return {"event_id": f"e{number}", "type": kind, "user_id": f"u{number % 7}", **fields}


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def bench(clock: ManualClock) -> Bench:
    return Bench(MemoryEventLog(clock=clock), MemoryLake(clock=clock), clock)


@pytest.fixture
def make_event() -> Callable[..., dict[str, Any]]:
    return event


@pytest.fixture
def records(bench: Bench) -> Callable[[], list[RecordContent]]:
    def read() -> list[RecordContent]:
        return [
            decode_record(record.payload)
            for partition in range(bench.log.partitions(EVENTS_TOPIC))
            for record in bench.log.read(EVENTS_TOPIC, partition, 0, bytes_max=1 << 30)
        ]

    return read
