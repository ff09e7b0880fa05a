"""A request's body to typed Arrow, with a verdict for each event: every event is decoded and validated here, once.

Invariants
    received = accepted rows + dead letters + refused; one bad event never condemns its batch
    rows and dead letters keep the order of the request
    ``batch`` has the envelope's own columns filled; columns that no event has are left out
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

__all__ = ["Decoded", "Decoder"]

_TS_EARLIEST_US: Final = parse_us("ts_earliest", limits.ts_earliest)
_OURS: Final = ("received_at", "source", "unit_hash", "unit_kind", "event_hash", "content_hash")


class Decoded(NamedTuple):
    """What became of one body."""

    batch: pa.RecordBatch
    dead: pa.RecordBatch
    refused: Sequence[Refused]
    received: int  # a body refused whole counts as one

    @property
    def accepted(self) -> int:
        """Events that the log takes: rows and dead letters."""
        return self.batch.num_rows + self.dead.num_rows

    def verdicts(self, *, every: bool = False) -> Iterator[Verdict]:
        """Yield a verdict for each event that was not plainly accepted, in order; for all of them with ``every``."""
        told = {
            letter["index"]: Verdict(
                letter["index"],
                "dead_lettered",
                letter["reason"],
                letter["field"],
                letter["message"],
                letter["event_id"],
            )
            for letter in self.dead.select(["index", "reason", "field", "message", "event_id"]).to_pylist()
        }
        told |= {
            fault.position: Verdict(fault.position, "refused", fault.reason, fault.field, fault.message, fault.event_id)
            for fault in self.refused
        }
        for index in range(self.received) if every and -1 not in told else sorted(told):
            yield told.get(index) or Verdict(index, "accepted")


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
        events = split_body(body, form)
        if isinstance(events, list) and len(events) > self._events_max:
            events = refused(
                "too_many_events", "events", len(events), f"must be at most {self._events_max}", "send smaller batches"
            )
        if isinstance(events, Fault):
            whole = Refused(-1, events.reason, events.message, body[: limits.refused_sample_bytes_max], events.field)
            return Decoded(self._batch([], source, received_at_us), _no_dead(), [whole], 1)
        rows: list[Row] = []
        dead_letters: list[tuple[int, Fault, bytes]] = []
        unusable: list[Refused] = []
        for index, raw in enumerate(events):
            read = self._read(raw, received_at_us)
            if not isinstance(read, Fault):
                rows.append(read)
            elif read.dead:
                dead_letters.append((index, read, raw))
            else:
                sample = raw[: limits.refused_sample_bytes_max]
                unusable.append(Refused(index, read.reason, read.message, sample, read.field, read.event_id))
        return Decoded(
            self._batch(rows, source, received_at_us),
            _dead_batch(dead_letters, source, received_at_us),
            unusable,
            len(events),
        )

    def _read(self, raw: bytes, received_at_us: int) -> Row | Fault:
        if len(raw) > limits.event_bytes_max:
            return refused("too_large", "event bytes", len(raw), f"must be at most {limits.event_bytes_max}")
        row = self._reference.read(raw)
        if isinstance(row, Fault) or "ts" not in row:
            return row
        fault = _ts_fault(row["ts"], received_at_us)
        return fault._replace(event_id=row["event_id"]) if fault else row

    def _batch(self, rows: Sequence[Row], source: str, received_at_us: int) -> pa.RecordBatch:
        columns: dict[str, Any] = {}
        for field in self._client:
            values = [row.get(field.name) for row in rows]
            column = pa.array(values, pa.int64() if pa.types.is_timestamp(field.type) else field.type)
            if column.null_count < len(rows) or field.name in {"event_id", "type", "ts"}:
                columns[field.name] = column.cast(field.type)
        return finish(columns, len(rows), source, received_at_us)


def finish(given: Mapping[str, Any], rows: int, source: str, received_at_us: int) -> pa.RecordBatch:
    """Return a batch of the columns a client gave (``event_id``, ``type`` and ``ts`` among them) and our own."""
    received_at = pa.array(np.full(rows, received_at_us), TIMESTAMP)
    unit_hash, unit_kind = unit_columns(given.get("user_id"), given.get("anonymous_id"), given.get("device_id"), rows)
    event_hash, _ = fingerprints(source, given["event_id"])
    content = content_hashes({name: column for name, column in given.items() if name != "event_id"}, rows)
    ours = {
        "ts": given["ts"].fill_null(received_at[0]) if given["ts"].null_count else given["ts"],
        "received_at": received_at,
        "source": pa.array([source]).take(pa.array(np.zeros(rows, np.int32))),
        "unit_hash": unit_hash,
        "unit_kind": unit_kind,
        "event_hash": pa.array(event_hash),
        "content_hash": pa.array(content),
    }
    columns = {**given, **ours}
    names = [name for name in ENVELOPE if name in columns] + [name for name in columns if name not in ENVELOPE]
    return pa.RecordBatch.from_arrays([columns[name] for name in names], names)


def _ts_fault(ts_us: int, received_at_us: int) -> Fault | None:
    if ts_us > received_at_us + limits.ts_ahead_s_max * 1_000_000:
        rule = f"must be at most {limits.ts_ahead_s_max // 3600} h after its arrival at {format_us(received_at_us)}"
        return dead("ts_ahead", "ts", format_us(ts_us), rule, "set the clock of the device")
    if ts_us < _TS_EARLIEST_US:
        return dead(
            "ts_too_early", "ts", format_us(ts_us), f"must not be before {limits.ts_earliest}", "send RFC 3339 text"
        )
    return None


def _no_dead() -> pa.RecordBatch:
    return _dead_batch([], "", 0)


def _dead_batch(letters: Sequence[tuple[int, Fault, bytes]], source: str, received_at_us: int) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist(
        [
            {
                "source": source,
                "event_id": fault.event_id,
                "received_at": received_at_us,
                "reason": fault.reason,
                "field": fault.field,
                "message": fault.message,
                "raw": raw,
                "index": index,
            }
            for index, fault, raw in letters
        ],
        schema=DEAD_SCHEMA,
    )
