"""A chunk of an imported file to records of the log: mapped where it must be, decoded, cut by partition. Pure.

It is what the importer spreads over processes, so what goes in and what comes out can be sent between them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
import pyarrow as pa

from groundswell import limits
from groundswell.ingest.emit import Emitter
from groundswell.ingest.mapping import FileMapping
from groundswell.ingest.readers import BrokenRow, RowChunk
from groundswell.model.definitions import Definitions
from groundswell.wire.decode import Decoded, Decoder
from groundswell.wire.faults import Refused
from groundswell.wire.partition import split, split_dead
from groundswell.wire.record import RecordContent, encode_record

__all__ = ["Chunk", "ChunkDecoder", "DecodedChunk", "RowFault"]

Chunk = RowChunk | bytes  # rows to map, or lines that are events already
_BOM: Final = b"\xef\xbb\xbf"


class RowFault(NamedTuple):
    """What is wrong with one row: with the row itself, or with one of its events."""

    row: int
    status: str  # refused, or dead_lettered
    reason: str
    message: str


class DecodedChunk(NamedTuple):
    """Records by partition, and what became of the events."""

    records: Sequence[tuple[int, bytes, int]]  # partition, payload, events
    rows: int
    received: int
    accepted: int
    dead_lettered: int
    refused: Sequence[Refused]
    reasons: Counter[str]  # of refused and dead-lettered events
    faults: Sequence[RowFault]  # the first few; lines that are events are numbered from the chunk's own first
    ts_max_us: int | None  # largest min(ts, received_at)


class ChunkDecoder:
    """Decodes the chunks of one file under one mapping and one version of the definitions."""

    def __init__(self, mapping: FileMapping, definitions: Definitions, id_prefix: str, partitions: int) -> None:
        self._source = mapping.source
        self._partitions = partitions
        self._decoder = Decoder(definitions, events_max=_EVENTS_MAX)
        self._emitter = None if mapping.as_is else Emitter(mapping, definitions, id_prefix)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that rows must hold, in order."""
        return () if self._emitter is None else self._emitter.columns

    def decode(self, chunk: Chunk, received_at_us: int) -> DecodedChunk:
        """Return what the log is to hold of ``chunk``."""
        if isinstance(chunk, bytes):
            decoded = self._decode(chunk.removeprefix(_BOM), received_at_us)
            lines = 0 if decoded.refused and decoded.refused[0].position < 0 else decoded.received
            return self._result(decoded, range(1, lines + 1), (), lines)
        return self._decode_rows(chunk, received_at_us)

    def _decode_rows(self, chunk: RowChunk, received_at_us: int) -> DecodedChunk:
        assert self._emitter is not None
        events: list[bytes] = []
        row_of: list[int] = []
        broken = list(chunk.broken)
        for number, cells in zip(chunk.numbers, chunk.rows, strict=True):
            try:
                made = self._emitter.emit(number, cells)
            except UnicodeEncodeError:
                broken.append(BrokenRow(number, "invalid_utf8", "row == unreadable, must be UTF-8", b""))
                continue
            events += made
            row_of += [number] * len(made)
        decoded = self._decode(b"\n".join(events), received_at_us)
        return self._result(decoded, row_of, broken, len(chunk.numbers) + len(chunk.broken))

    def _decode(self, body: bytes, received_at_us: int) -> Decoded:
        return self._decoder.decode(body, source=self._source, received_at_us=received_at_us, form="ndjson")

    def _result(self, decoded: Decoded, row_of: Sequence[int], broken: Sequence[BrokenRow], rows: int) -> DecodedChunk:
        refused = [one for one in decoded.refused if one.position >= 0]
        received = decoded.received - (len(decoded.refused) - len(refused)) + len(broken)
        faults = [RowFault(one.number, "refused", one.reason, one.message) for one in broken]
        faults += [RowFault(row_of[one.position], "refused", one.reason, one.message) for one in refused]
        letters = decoded.dead.slice(0, limits.import_samples_max).select(["index", "reason", "message"]).to_pylist()
        faults += [RowFault(row_of[one["index"]], "dead_lettered", one["reason"], one["message"]) for one in letters]
        refused += [Refused(one.number, one.reason, f"row {one.number}: {one.message}", one.sample) for one in broken]
        return DecodedChunk(
            records=self._records(decoded),
            rows=rows,
            received=received,
            accepted=decoded.accepted,
            dead_lettered=decoded.dead.num_rows,
            refused=refused,
            reasons=Counter(one.reason for one in refused) + Counter(decoded.dead.column("reason").to_pylist()),
            faults=sorted(faults)[: limits.import_samples_max],
            ts_max_us=_ts_max_us(decoded.batch),
        )

    def _records(self, decoded: Decoded) -> list[tuple[int, bytes, int]]:
        batches = split(decoded.batch, self._partitions) if decoded.batch.num_rows else {}
        letters = split_dead(decoded.dead, self._partitions)
        records: list[tuple[int, bytes, int]] = []
        for partition in sorted(batches.keys() | letters.keys()):
            batch = batches.get(partition, decoded.batch.slice(0, 0))
            dead = letters.get(partition, decoded.dead.slice(0, 0))
            for start in range(0, max(batch.num_rows, dead.num_rows), limits.record_events_max):
                part, part_dead = (one.slice(start, limits.record_events_max) for one in (batch, dead))
                payload = encode_record(RecordContent(part, part_dead, self._decoder.version))
                records.append((partition, payload, part.num_rows + part_dead.num_rows))
        return records


def _ts_max_us(batch: pa.RecordBatch) -> int | None:
    if not batch.num_rows:
        return None
    ts, received = (batch.column(name).cast(pa.int64()).to_numpy() for name in ("ts", "received_at"))
    return int(np.minimum(ts, received).max())


_EVENTS_MAX: Final = 1 << 24  # chunks are bounded by rows and bytes before they come here
