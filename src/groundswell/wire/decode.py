"""Bodies of requests to typed Arrow, with a verdict for each event: every event is decoded and validated here, once.

Invariants
    received = accepted rows + dead letters + refused, for each body; one bad event never condemns its batch
    rows and dead letters keep the order in which they came
    the envelope's own columns are filled; columns that no event has are left out
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyarrow.compute import call_function

from groundswell import limits
from groundswell.model.clock import format_us, parse_us
from groundswell.model.definitions import Definitions
from groundswell.model.event import ENVELOPE, Verdict
from groundswell.wire.body import BOM, Form, array_fault, empty_fault, mode_of
from groundswell.wire.faults import Fault, Refused, dead, refused
from groundswell.wire.hashing import content_hashes, fingerprints, unit_columns
from groundswell.wire.reference import Reference, Row
from groundswell.wire.scan import ARRAY
from groundswell.wire.scanner import Chunk, Place, Scanner
from groundswell.wire.schema import DEAD_SCHEMA, TIMESTAMP, events_schema

__all__ = ["Body", "DeadLetter", "Decoded", "Decoder", "Group", "Outcome"]

_TS_EARLIEST_US: Final = parse_us("ts_earliest", limits.ts_earliest)
_OURS: Final = frozenset(("received_at", "source", "unit_hash", "unit_kind", "event_hash", "content_hash"))


_SPLIT: Final = "keep documents elsewhere and send their address, or send several events"

Int64s = npt.NDArray[np.int64]


class Body(NamedTuple):
    """What one request brought, decompressed."""

    data: bytes
    source: str
    received_at_us: int
    form: Form = "auto"


class DeadLetter(NamedTuple):
    """One event that is kept as it was sent."""

    position: int  # in its body
    fault: Fault
    raw: bytes


class Outcome(NamedTuple):
    """What became of one body. ``received`` counts a body that was refused whole as one."""

    received: int
    dead: Sequence[DeadLetter] = ()
    refused: Sequence[Refused] = ()

    @property
    def accepted(self) -> int:
        """Events that the log takes: rows and dead letters."""
        return self.received - len(self.refused)

    def verdicts(self, *, every: bool = False) -> Iterator[Verdict]:
        """Yield a verdict for each event that was not plainly accepted, in order; for all of them with ``every``."""
        told = {
            letter.position: Verdict(
                letter.position,
                "dead_lettered",
                letter.fault.reason,
                letter.fault.field,
                letter.fault.message,
                letter.fault.event_id,
            )
            for letter in self.dead
        }
        told |= {
            one.position: Verdict(one.position, "refused", one.reason, one.field, one.message, one.event_id)
            for one in self.refused
        }
        for index in range(self.received) if every and -1 not in told else sorted(told):
            yield told.get(index) or Verdict(index, "accepted")


class Group(NamedTuple):
    """What became of several bodies: their rows and dead letters together, and an outcome for each."""

    batch: pa.RecordBatch
    dead: pa.RecordBatch
    outcomes: Sequence[Outcome]


class Decoded(NamedTuple):
    """What became of one body."""

    batch: pa.RecordBatch
    dead: pa.RecordBatch
    outcome: Outcome

    @property
    def received(self) -> int:
        return self.outcome.received

    @property
    def accepted(self) -> int:
        """Events that the log takes: rows and dead letters."""
        return self.outcome.accepted

    @property
    def refused(self) -> Sequence[Refused]:
        return self.outcome.refused

    def verdicts(self, *, every: bool = False) -> Iterator[Verdict]:
        """Yield a verdict for each event that was not plainly accepted, in order; for all of them with ``every``."""
        return self.outcome.verdicts(every=every)


class Decoder:
    """Decodes bodies under one version of the definitions. Safe to use from several threads.

    ``scanner`` may be one of other definitions: it then leaves more to the reference, and the result is the same.
    """

    def __init__(
        self, definitions: Definitions, *, events_max: int = limits.batch_events_max, scanner: Scanner | None = None
    ) -> None:
        self.version = definitions.version
        self.schema = events_schema(definitions)
        self._reference = Reference(definitions)
        self._scanner = scanner or Scanner(definitions)
        self._events_max = events_max

    def decode(self, body: bytes, *, source: str, received_at_us: int, form: Form = "auto") -> Decoded:
        """Return what became of each event in ``body``; never raises for what a sender can send."""
        group = self.decode_all([Body(body, source, received_at_us, form)])
        return Decoded(group.batch, group.dead, group.outcomes[0])

    def decode_all(self, bodies: Sequence[Body]) -> Group:
        """Decode several bodies into one batch: setting up a batch costs as much as decoding a hundred events."""
        texts = [body.data.removeprefix(BOM) for body in bodies]
        data = texts[0] if len(texts) == 1 else b"".join(texts)
        places: list[Place] = []
        start = 0
        for text, body in zip(texts, bodies, strict=True):
            places.append(Place(start, start + len(text), mode_of(text, body.form), body.received_at_us))
            start += len(text)
        run = _Run(data, places)
        for chunk in self._scanner.scan(data, places, events_max=self._events_max):
            self._add(run, chunk)
        return self._group(run, bodies)

    def _add(self, run: _Run, chunk: Chunk) -> None:
        """Take the rows of a chunk, and read with care what the scanner left."""
        events = chunk.events
        counts = np.bincount(events[:, 0], minlength=len(run.places))
        first = np.cumsum(counts) - counts - run.counts  # subtracted from an event's place it gives that in its body
        left = np.flatnonzero(events[:, 1] < 0)
        for place, (body, _, start, end) in zip(left.tolist(), events[left].tolist(), strict=True):
            position = place - int(first[body])
            if body in run.whole or position >= self._events_max:
                continue
            raw = run.data[start:end].rstrip(b" \t\r\n")
            read = self._read(raw, run.places[body].received_at_us)
            if not isinstance(read, Fault):
                run.rows.append((run.events + place, body, read))
            elif read.dead:
                run.dead[body].append(DeadLetter(position, read, raw))
            elif read.reason == "not_json" and run.places[body].mode == ARRAY:
                run.whole[body] = array_fault(run.text(body))
            else:
                run.refused[body].append(_refused(position, read, raw))
        if chunk.broken >= 0:
            run.whole[chunk.broken] = array_fault(run.text(chunk.broken))
        if chunk.rows:
            taken = np.flatnonzero(events[:, 1] >= 0)
            run.pieces.append(_Piece(chunk.columns, taken + run.events, events[taken, 0]))
        run.counts += counts
        run.events += len(events)

    def _read(self, raw: bytes, received_at_us: int) -> Row | Fault:
        if len(raw) > limits.event_bytes_max:
            return refused("too_large", "event bytes", len(raw), f"must be at most {limits.event_bytes_max}", _SPLIT)
        row = self._reference.read(raw)
        if isinstance(row, Fault) or "ts" not in row:
            return row
        fault = _ts_fault(row["ts"], received_at_us)
        return fault._replace(event_id=row["event_id"]) if fault else row

    def _group(self, run: _Run, bodies: Sequence[Body]) -> Group:
        outcomes: list[Outcome] = []
        for place, count in enumerate(run.counts.tolist()):
            if count > self._events_max:
                run.whole[place] = _too_many(self._events_max)
            elif not count and place not in run.whole:
                run.whole[place] = empty_fault(run.text(place))
            whole = run.whole.get(place)
            if whole is None:
                outcomes.append(Outcome(count, run.dead[place], run.refused[place]))
            else:
                outcomes.append(Outcome(1, (), [_refused(-1, whole, run.text(place))]))
        if run.rows:
            ordinals, owners, rows = zip(*run.rows, strict=True)
            run.pieces.append(_Piece(self._columns(rows), np.array(ordinals), np.array(owners)))
        given, owners = _together(run.pieces or [_Piece(self._columns([]), _NONE, _NONE)], run.whole)
        return Group(_finish(given, owners, bodies), _dead_batch(bodies, outcomes), outcomes)

    def _columns(self, rows: Sequence[Row]) -> dict[str, Any]:
        columns: dict[str, Any] = {}
        for field in self.schema:
            if field.name in _OURS:
                continue
            values = [row.get(field.name) for row in rows]
            column = pa.array(values, pa.int64() if pa.types.is_timestamp(field.type) else field.type)
            if column.null_count < len(rows) or field.name in {"event_id", "type", "ts"}:
                columns[field.name] = column.cast(field.type)
        return columns


class _Piece(NamedTuple):
    """Some rows: what clients gave, each row's place among all events, and the body it is of."""

    columns: dict[str, Any]
    ordinals: Int64s
    owners: Int64s


class _Run:
    """What is known while bodies are decoded."""

    def __init__(self, data: bytes, places: Sequence[Place]) -> None:
        self.data = data
        self.places = places
        self.events = 0
        self.counts = np.zeros(len(places), np.int64)  # events of each body
        self.whole: dict[int, Fault] = {}  # bodies that are refused whole
        self.dead: list[list[DeadLetter]] = [[] for _ in places]
        self.refused: list[list[Refused]] = [[] for _ in places]
        self.rows: list[tuple[int, int, Row]] = []  # place among all events, body, what the reference read
        self.pieces: list[_Piece] = []

    def text(self, body: int) -> bytes:
        place = self.places[body]
        return self.data[place.start : place.stop]


def _together(pieces: Sequence[_Piece], dropped: Mapping[int, Fault]) -> tuple[dict[str, Any], Int64s]:
    """Return the columns of all pieces in the order of the events, without dropped bodies, and the rows' owners."""
    owners = np.concatenate([piece.owners for piece in pieces])
    keep = ~np.isin(owners, list(dropped)) if dropped else None
    if len(pieces) == 1 and (keep is None or keep.all()):
        return pieces[0].columns, owners
    ordinals = np.concatenate([piece.ordinals for piece in pieces])
    order = np.argsort(ordinals, kind="stable")
    if keep is not None:
        order = order[keep[order]]
    table = pa.concat_tables([pa.table(piece.columns) for piece in pieces], promote_options="default")
    table = table.take(pa.array(order)).combine_chunks()
    columns = {
        name: column.chunk(0) if column.num_chunks else pa.array([], column.type)
        for name, column in zip(table.column_names, table.columns, strict=True)
    }
    return columns, owners[order]


def _finish(given: Mapping[str, Any], owners: Int64s, bodies: Sequence[Body]) -> pa.RecordBatch:
    """Return a batch of the columns that clients gave (``event_id``, ``type``, ``ts`` among them) and our own."""
    rows = len(owners)
    names = list(dict.fromkeys(body.source for body in bodies))
    if len(names) == 1:
        source = pa.repeat(names[0], rows)
    else:
        which = np.array([names.index(body.source) for body in bodies], np.int32)[owners]
        source = pa.array(names, pa.string()).take(pa.array(which))
    received_at = np.array([body.received_at_us for body in bodies], np.int64)[owners]
    unit_hash, unit_kind = unit_columns(given.get("user_id"), given.get("anonymous_id"), given.get("device_id"), rows)
    event_hash, _ = fingerprints(names[0] if len(names) == 1 else source, given["event_id"])
    content = content_hashes({name: column for name, column in given.items() if name != "event_id"}, rows)
    ours = {
        "ts": _filled(given["ts"], received_at),
        "received_at": _timestamps(received_at),
        "source": source,
        "unit_hash": unit_hash,
        "unit_kind": unit_kind,
        "event_hash": pa.array(event_hash),
        "content_hash": pa.array(content),
    }
    columns = {**given, **ours}
    order = [name for name in ENVELOPE if name in columns] + sorted(columns.keys() - ENVELOPE.keys())
    return pa.RecordBatch.from_arrays([columns[name] for name in order], order)


def _filled(ts: Any, received_at: Int64s) -> Any:
    """Return ``ts`` with the moment of arrival where a client gave none."""
    if not ts.null_count:
        return ts
    return call_function("coalesce", [ts, _timestamps(received_at)])


def _timestamps(moments_us: Int64s) -> Any:
    return pa.Array.from_buffers(TIMESTAMP, len(moments_us), [None, pa.py_buffer(moments_us)], 0)


def _ts_fault(ts_us: int, received_at_us: int) -> Fault | None:
    if ts_us > received_at_us + limits.ts_ahead_s_max * 1_000_000:
        rule = f"must be at most {limits.ts_ahead_s_max // 3600} h after its arrival at {format_us(received_at_us)}"
        return dead("ts_ahead", "ts", format_us(ts_us), rule, "set the clock of the device")
    if ts_us < _TS_EARLIEST_US:
        rule = f"must not be before {limits.ts_earliest}"
        return dead("ts_too_early", "ts", format_us(ts_us), rule, "send when it happened, or leave ts out")
    return None


def _too_many(events_max: int) -> Fault:
    """Return why a body is refused that goes on past ``events_max``; nobody counted how far."""
    message = f"events: more than {events_max}, must be at most {events_max}; send smaller batches"
    return Fault(False, "too_many_events", "events", message)


def _refused(position: int, fault: Fault, raw: bytes) -> Refused:
    sample = raw[: limits.refused_sample_bytes_max]
    return Refused(position, fault.reason, fault.message, sample, fault.field, fault.event_id)


def _dead_batch(bodies: Sequence[Body], outcomes: Sequence[Outcome]) -> pa.RecordBatch:
    letters = [(body, letter) for body, outcome in zip(bodies, outcomes, strict=True) for letter in outcome.dead]
    if not letters:
        return _NO_DEAD
    columns = zip(
        *(
            (
                body.source,
                letter.fault.event_id,
                body.received_at_us,
                letter.fault.reason,
                letter.fault.field,
                letter.fault.message,
                letter.raw,
                letter.position,
            )
            for body, letter in letters
        ),
        strict=True,
    )
    return pa.RecordBatch.from_arrays(
        [pa.array(column, field.type) for column, field in zip(columns, DEAD_SCHEMA, strict=True)], schema=DEAD_SCHEMA
    )


_NO_DEAD: Final = pa.RecordBatch.from_pylist([], schema=DEAD_SCHEMA)
_NONE: Final = np.empty(0, np.int64)
