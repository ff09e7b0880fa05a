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
import pyarrow as pa

from groundswell import limits
from groundswell.model.clock import format_us, parse_us
from groundswell.model.definitions import Definitions
from groundswell.model.event import ENVELOPE, Verdict
from groundswell.wire.body import Form, split_body
from groundswell.wire.faults import Fault, Refused, dead, refused
from groundswell.wire.hashing import content_hashes, fingerprints, unit_columns
from groundswell.wire.reference import Reference, Row
from groundswell.wire.schema import DEAD_SCHEMA, TIMESTAMP, events_schema

__all__ = ["Body", "Decoded", "Decoder", "Group", "Outcome"]

_TS_EARLIEST_US: Final = parse_us("ts_earliest", limits.ts_earliest)
_OURS: Final = frozenset(("received_at", "source", "unit_hash", "unit_kind", "event_hash", "content_hash"))


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
    """Decodes bodies under one version of the definitions. Safe to use from several threads."""

    def __init__(self, definitions: Definitions, *, events_max: int = limits.batch_events_max) -> None:
        self.version = definitions.version
        self.schema = events_schema(definitions)
        self._reference = Reference(definitions)
        self._events_max = events_max
        self._client = [field for field in self.schema if field.name not in _OURS]

    def decode(self, body: bytes, *, source: str, received_at_us: int, form: Form = "auto") -> Decoded:
        """Return what became of each event in ``body``; never raises for what a sender can send."""
        group = self.decode_all([Body(body, source, received_at_us, form)])
        return Decoded(group.batch, group.dead, group.outcomes[0])

    def decode_all(self, bodies: Sequence[Body]) -> Group:
        """Decode several bodies into one batch: setting up a batch costs as much as decoding a hundred events."""
        rows: list[Row] = []
        counts: list[int] = []
        outcomes: list[Outcome] = []
        for body in bodies:
            before = len(rows)
            outcomes.append(self._decode_one(body, rows))
            counts.append(len(rows) - before)
        return Group(self._batch(rows, bodies, counts), _dead_batch(bodies, outcomes), outcomes)

    def _decode_one(self, body: Body, rows: list[Row]) -> Outcome:
        events = split_body(body.data, body.form)
        if isinstance(events, list) and len(events) > self._events_max:
            events = refused(
                "too_many_events", "events", len(events), f"must be at most {self._events_max}", "send smaller batches"
            )
        if isinstance(events, Fault):
            return Outcome(1, (), [_refused(-1, events, body.data)])
        letters: list[DeadLetter] = []
        unusable: list[Refused] = []
        for index, raw in enumerate(events):
            read = self._read(raw, body.received_at_us)
            if not isinstance(read, Fault):
                rows.append(read)
            elif read.dead:
                letters.append(DeadLetter(index, read, raw))
            else:
                unusable.append(_refused(index, read, raw))
        return Outcome(len(events), letters, unusable)

    def _read(self, raw: bytes, received_at_us: int) -> Row | Fault:
        if len(raw) > limits.event_bytes_max:
            return refused("too_large", "event bytes", len(raw), f"must be at most {limits.event_bytes_max}")
        row = self._reference.read(raw)
        if isinstance(row, Fault) or "ts" not in row:
            return row
        fault = _ts_fault(row["ts"], received_at_us)
        return fault._replace(event_id=row["event_id"]) if fault else row

    def _batch(self, rows: Sequence[Row], bodies: Sequence[Body], counts: Sequence[int]) -> pa.RecordBatch:
        given: dict[str, Any] = {}
        for field in self._client:
            values = [row.get(field.name) for row in rows]
            column = pa.array(values, pa.int64() if pa.types.is_timestamp(field.type) else field.type)
            if column.null_count < len(rows) or field.name in {"event_id", "type", "ts"}:
                given[field.name] = column.cast(field.type)
        return _finish(given, bodies, counts)


def _finish(given: Mapping[str, Any], bodies: Sequence[Body], counts: Sequence[int]) -> pa.RecordBatch:
    """Return a batch of the columns that clients gave (``event_id``, ``type``, ``ts`` among them) and our own."""
    rows = sum(counts)
    names = list(dict.fromkeys(body.source for body in bodies))
    which = np.repeat(np.array([names.index(body.source) for body in bodies], np.int32), counts)
    source = pa.DictionaryArray.from_arrays(pa.array(which), pa.array(names, pa.string())).cast(pa.string())
    received_at = np.repeat(np.array([body.received_at_us for body in bodies], np.int64), counts)
    unit_hash, unit_kind = unit_columns(given.get("user_id"), given.get("anonymous_id"), given.get("device_id"), rows)
    event_hash, _ = fingerprints(names[0] if len(names) == 1 else source, given["event_id"])
    content = content_hashes({name: column for name, column in given.items() if name != "event_id"}, rows)
    ours = {
        "ts": _filled(given["ts"], received_at),
        "received_at": pa.array(received_at, TIMESTAMP),
        "source": source,
        "unit_hash": unit_hash,
        "unit_kind": unit_kind,
        "event_hash": pa.array(event_hash),
        "content_hash": pa.array(content),
    }
    columns = {**given, **ours}
    order = [name for name in ENVELOPE if name in columns] + [name for name in columns if name not in ENVELOPE]
    return pa.RecordBatch.from_arrays([columns[name] for name in order], order)


def _filled(ts: Any, received_at: Any) -> Any:
    """Return ``ts`` with the moment of arrival where a client gave none."""
    if not ts.null_count:
        return ts
    given = np.asarray(ts.cast(pa.int64()).fill_null(0))
    return pa.array(np.where(np.asarray(ts.is_null()), received_at, given), TIMESTAMP)


def _ts_fault(ts_us: int, received_at_us: int) -> Fault | None:
    if ts_us > received_at_us + limits.ts_ahead_s_max * 1_000_000:
        rule = f"must be at most {limits.ts_ahead_s_max // 3600} h after its arrival at {format_us(received_at_us)}"
        return dead("ts_ahead", "ts", format_us(ts_us), rule, "set the clock of the device")
    if ts_us < _TS_EARLIEST_US:
        rule = f"must not be before {limits.ts_earliest}"
        return dead("ts_too_early", "ts", format_us(ts_us), rule, "send when it happened, or leave ts out")
    return None


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
