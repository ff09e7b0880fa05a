"""Where an event is, or a person's events: log, memory of retries, dead letters, lake.

The log says what came and when, the lake what was kept. What became of each arrival is derived from both: ingest is a
function of the log, so the first arrival within the window is the one that was committed, later ones are retries.
"""

# pyarrow.compute makes its functions when it is imported, so their names are not in its source
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, Literal

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from groundswell import limits
from groundswell.errors import NotFound
from groundswell.ingest.audit_damage import read_topic
from groundswell.ingest.dead_letters import DeadLetters
from groundswell.lake.contract import IngestState, Lake
from groundswell.log.contract import EVENTS_TOPIC, EventLog, Record
from groundswell.model.clock import US_PER_S, format_us
from groundswell.model.definitions import UNIT_KINDS
from groundswell.wire.hashing import fingerprint
from groundswell.wire.record import decode_record

__all__ = ["LakeSighting", "LetterSighting", "LogSighting", "Trace", "TracedEvent", "trace"]

Fate = Literal["in flight", "committed", "duplicate", "conflict", "dead-lettered"]
_SAID: Final[Mapping[Fate, str]] = {
    "in flight": "not in the lake yet",
    "committed": "committed",
    "duplicate": "a retry, dropped",
    "conflict": "the same id with other content, dropped: the first is kept",
    "dead-lettered": "a dead letter",
}
_COLUMNS: Final = ("event_id", "source", "type", "ts", "received_at", "content_hash", *UNIT_KINDS)


class LogSighting(msgspec.Struct, frozen=True, kw_only=True):
    """One arrival."""

    partition: int
    offset: int
    row: int
    appended_at_us: int
    origin: str
    content_hash: int | None
    fate: Fate


class LakeSighting(msgspec.Struct, frozen=True, kw_only=True):
    """One row of the lake."""

    file: str
    sorted_run: int
    received_at_us: int
    content_hash: int


class LetterSighting(msgspec.Struct, frozen=True, kw_only=True):
    """One dead letter."""

    id: str
    reason: str
    message: str | None
    replayed: bool


class TracedEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One identity and everywhere it is. ``remembered_until_us``: a retry appended before it is dropped."""

    source: str
    event_id: str
    type: str | None
    ts_us: int | None
    unit: str | None
    log: tuple[LogSighting, ...] = ()
    letters: tuple[LetterSighting, ...] = ()
    lake: tuple[LakeSighting, ...] = ()
    remembered_until_us: int | None = None

    def lines(self) -> Iterator[str]:
        """Yield it in words."""
        when = f", ts {format_us(self.ts_us)}" if self.ts_us is not None else ""
        yield f"event {self.source}/{self.event_id}: {self.type or 'no type'}{when}, unit {self.unit or 'none'}"
        for one in self.log:
            place = f"partition {one.partition}, offset {one.offset}, row {one.row}"
            yield f"  log: {place}, {format_us(one.appended_at_us)}, {one.origin}: {_SAID[one.fate]}"
        if self.remembered_until_us is not None:
            yield f"  window: a retry until {format_us(self.remembered_until_us)} is dropped"
        for letter in self.letters:
            yield f"  dead letter {letter.id}: {letter.reason}, {'replayed' if letter.replayed else 'waits'}"
        for row in self.lake:
            place = f"run {row.sorted_run}" if row.sorted_run else "fresh"
            yield f"  lake: {place}, {row.file}, received {format_us(row.received_at_us)}"
        if not self.lake:
            yield "  lake: not there"


class Trace(msgspec.Struct, frozen=True, kw_only=True):
    """What was found. ``counted`` is filled by whoever knows experiments."""

    what: str
    kind: Literal["event", "unit"]
    snapshot_id: int | None
    events: tuple[TracedEvent, ...]
    notes: tuple[str, ...] = ()
    counted: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """Return it in words."""
        told = [f"{self.kind} {self.what}: {len(self.events)} event{'' if len(self.events) == 1 else 's'}"]
        for event in self.events:
            told += event.lines()
        return [*told, *self.counted, *(f"note: {note}" for note in self.notes)]


class _Found:
    """What is gathered of one identity."""

    def __init__(self, row: dict[str, Any]) -> None:
        self.source: str = row["source"]
        self.event_id: str = row["event_id"]
        self.type: str | None = row.get("type")
        self.ts_us: int | None = row.get("ts")
        self.unit: str | None = next((row[name] for name in UNIT_KINDS if row.get(name)), None)
        self.arrivals: list[tuple[Record, int, int | None]] = []  # content hash None: a dead letter
        self.rows: list[LakeSighting] = []
        self.letters: list[LetterSighting] = []


def trace(log: EventLog, lake: Lake, what: str) -> Trace:
    """Find the events with the id ``what``; where there are none, those of the unit ``what``.

    Reads the whole log that is kept and every file of the newest snapshot.

    Raises:
        NotFound: neither log nor lake know it.
    """
    for kind in ("event", "unit"):
        found = _Search(log, lake, what, kind).run()
        if found.events:
            return found
    raise NotFound(f"{what!r} is neither an event id nor a unit that log or lake know")


class _Search:
    """One pass over log and lake."""

    def __init__(self, log: EventLog, lake: Lake, what: str, kind: Literal["event", "unit"]) -> None:
        self._log = log
        self._lake = lake
        self._what = what
        self._kind: Literal["event", "unit"] = kind
        self._snapshot = lake.current()
        self._state = self._snapshot.state if self._snapshot else IngestState()
        self._found: dict[tuple[str, str], _Found] = {}
        self._left_out = 0
        sources = self._state.ledger.keys() | {source for source, _ in log.tally(EVENTS_TOPIC)}
        self._hashes = np.array([fingerprint(source, what)[0] for source in sorted(sources)], np.int64)

    def run(self) -> Trace:
        self._search_lake()
        self._search_log()
        if self._kind == "event":
            for letter in DeadLetters(self._log, self._lake).by_event(self._what):
                found = self._of({"source": letter.source, "event_id": letter.event_id, "type": letter.type})
                if found is not None:
                    sighting = LetterSighting(
                        id=letter.id, reason=letter.reason, message=letter.message, replayed=letter.replayed
                    )
                    found.letters.append(sighting)
        notes = [f"{self._left_out} more events are left out"] if self._left_out else []
        if any(self._log.begins(EVENTS_TOPIC).values()):
            notes.append("the log has dropped its oldest segments; what was in them is found in the lake alone")
        events = [self._traced(found) for found in self._found.values()]
        return Trace(
            what=self._what,
            kind=self._kind,
            snapshot_id=self._snapshot.snapshot_id if self._snapshot else None,
            events=tuple(sorted(events, key=lambda one: (one.ts_us or 0, one.source, one.event_id))),
            notes=tuple(notes),
        )

    def _search_lake(self) -> None:
        if self._snapshot is None:
            return
        for file in self._lake.files(self._snapshot.snapshot_id):
            keys = ["event_hash"] if self._kind == "event" else list(UNIT_KINDS)
            places = self._places(self._lake.read([file], keys))
            if not len(places):
                continue
            for row in _plain(self._lake.read([file], _COLUMNS).take(places)):
                found = self._of(row)
                if found is not None:
                    found.rows.append(
                        LakeSighting(
                            file=file.path.rpartition("/")[2],
                            sorted_run=file.sorted_run,
                            received_at_us=row["received_at"],
                            content_hash=row["content_hash"],
                        )
                    )

    def _search_log(self) -> None:
        for partition, stop in sorted(self._log.ends(EVENTS_TOPIC).items()):
            for record in read_topic(self._log, EVENTS_TOPIC, partition, stop):
                content = decode_record(record.payload)
                if content.batch.num_rows:
                    self._note(record, content.batch, self._places(content.batch))
                if content.dead.num_rows and self._kind == "event":
                    places = _where(pc.equal(content.dead.column("event_id"), self._what))
                    self._note(record, content.dead, places)

    def _note(self, record: Record, rows: pa.RecordBatch, places: pa.Array) -> None:
        names = [name for name in _COLUMNS if name in rows.schema.names]
        for place, row in zip(places.to_pylist(), _plain(rows.select(names).take(places)), strict=True):
            found = self._of(row)
            if found is not None:
                found.arrivals.append((record, place, row.get("content_hash")))

    def _places(self, rows: pa.Table | pa.RecordBatch) -> pa.Array:
        """Return which rows are looked for."""
        if self._kind == "event":
            hashes = np.asarray(rows.column("event_hash"))
            return pa.array(np.flatnonzero(np.isin(hashes, self._hashes)))
        masks = [pc.equal(rows.column(name), self._what) for name in UNIT_KINDS if name in rows.schema.names]
        if not masks:
            return pa.array([], pa.int64())
        mask = masks[0]
        for more in masks[1:]:
            mask = pc.or_kleene(mask, more)
        return _where(mask)

    def _of(self, row: dict[str, Any]) -> _Found | None:
        key = (row["source"], row["event_id"])
        if key not in self._found:
            if len(self._found) >= limits.trace_events_max:
                self._left_out += 1
                return None
            self._found[key] = _Found(row)
        return self._found[key]

    def _traced(self, found: _Found) -> TracedEvent:
        arrivals = sorted(found.arrivals, key=lambda one: (one[0].partition, one[0].offset, one[1]))
        fates = _Fates(self._state.offsets)
        sightings = [
            LogSighting(
                partition=record.partition,
                offset=record.offset,
                row=row,
                appended_at_us=record.appended_at_us,
                origin=record.origin,
                content_hash=content,
                fate=fates.of(record, content),
            )
            for record, row, content in arrivals
        ]
        return TracedEvent(
            source=found.source,
            event_id=found.event_id,
            type=found.type,
            ts_us=found.ts_us,
            unit=found.unit,
            log=tuple(sightings),
            letters=tuple(found.letters),
            lake=tuple(found.rows),
            remembered_until_us=fates.remembered_until_us,
        )


class _Fates:
    """What became of the arrivals of one identity, told in the order of the log."""

    def __init__(self, committed: Mapping[int, int]) -> None:
        self._committed = committed
        self._first: dict[int, tuple[int, int]] = {}  # partition -> appended at, content
        self.remembered_until_us: int | None = None

    def of(self, record: Record, content: int | None) -> Fate:
        if content is None:
            return "dead-lettered"
        if record.offset >= self._committed.get(record.partition, 0):
            return "in flight"
        window_us = limits.dedupe_window_s * US_PER_S
        first = self._first.get(record.partition)
        if first is not None and record.appended_at_us - first[0] <= window_us:
            return "duplicate" if first[1] == content else "conflict"
        self._first[record.partition] = (record.appended_at_us, content)
        self.remembered_until_us = record.appended_at_us + window_us
        return "committed"


def _where(mask: Any) -> pa.Array:
    return pa.array(np.flatnonzero(np.asarray(mask.fill_null(False))))


def _plain(rows: Any) -> list[dict[str, Any]]:
    """Return rows as plain values, times in microseconds."""
    columns: dict[str, Any] = {}
    for name in rows.schema.names:
        column = rows.column(name)
        columns[name] = column.cast(pa.int64()) if pa.types.is_timestamp(column.type) else column
    return pa.table(columns).to_pylist()
