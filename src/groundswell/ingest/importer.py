"""Files into the log, through the very same decode as the collector, so that doing it again changes nothing.

Invariants
    an event's id is a digest of the uncompressed file and the mapping, and the row's number; lines that are events
    already keep their own
    how far an import came is appended with the events themselves, all or nothing: what is interrupted goes on there
    a file that was imported whole with a mapping is never read again: the store's ledger of imports is permanent
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, Protocol

import msgspec

from groundswell import limits
from groundswell.errors import InvalidDefinition
from groundswell.ingest import steps
from groundswell.ingest.chunks import Chunk, ChunkDecoder, DecodedChunk, RowFault
from groundswell.ingest.decoders import decode_all
from groundswell.ingest.mapping import FileMapping
from groundswell.ingest.readers import RowChunk, file_digest, format_of, read_lines, read_rows
from groundswell.log.contract import EVENTS_TOPIC, INTAKE_TOPIC, Entry, EventLog
from groundswell.model.clock import Clock
from groundswell.model.definitions import Definitions
from groundswell.model.faults import Faults, NoFaults
from groundswell.store.contract import ImportRecord
from groundswell.wire.intake import IntakeRecord, IntakeTally, intake_counts
from groundswell.wire.record import NO_DEAD, NO_ROWS, RecordContent, encode_record

__all__ = ["FileImporter", "ImportLedger", "ImportProgress", "ImportReport"]


class ImportLedger(Protocol):
    """What the store keeps of imports, for ever."""

    def find_import(self, digest: str, mapping_digest: str) -> ImportRecord | None: ...

    def import_started(self, digest: str, mapping_digest: str, name: str, rows: int | None = None) -> ImportRecord: ...

    def import_finished(
        self, digest: str, mapping_digest: str, *, rows: int, counts: Mapping[str, int] | None = None
    ) -> ImportRecord: ...


class ImportProgress(msgspec.Struct, frozen=True, kw_only=True):
    """How far one file came, as of one append. It stands in the intake topic beside the counts it belongs to."""

    file: str
    mapping: str
    rows: int = 0
    received: int = 0
    accepted: int = 0
    dead_lettered: int = 0
    refused: int = 0
    ts_max_us: int | None = None
    done: bool = False


class _ImportIntake(IntakeRecord, frozen=True, omit_defaults=True):
    """An intake record that says how far an import came; readers of plain intake records skip what it adds."""

    imported: ImportProgress | None = None


@dataclass(frozen=True, slots=True)
class ImportReport:
    """What an import did, all attempts together; ``reasons`` and ``faults`` are of this attempt."""

    progress: ImportProgress
    already: bool  # it was whole before; nothing was read or appended
    resumed_from: int  # rows that earlier attempts had brought in
    reasons: Mapping[str, int]
    faults: tuple[RowFault, ...]  # the first few rows that were refused or dead-lettered


class FileImporter:
    """Imports files into one log. ``processes`` decode; 0: one a core for a large file, none for a small one."""

    def __init__(
        self,
        log: EventLog,
        ledger: ImportLedger,
        definitions: Definitions,
        *,
        clock: Clock,
        faults: Faults | None = None,
        processes: int = 0,
    ) -> None:
        self._log = log
        self._ledger = ledger
        self._definitions = definitions
        self._clock = clock
        self._faults = faults or NoFaults()
        self._processes = processes
        self._partitions = log.partitions(EVENTS_TOPIC)

    def run(
        self, path: Path, mapping: FileMapping, *, told: Callable[[ImportProgress], None] | None = None
    ) -> ImportReport:
        """Append the events of ``path``; ``told`` hears of each append.

        Raises:
            InvalidDefinition: the mapping does not fit the file or the definitions; nothing was appended.
            InvalidInput: the file cannot be read; what was appended so far stays, and is not appended again.
            Transient: run it again, it goes on where it stopped.
        """
        begun = ImportProgress(file=file_digest(path), mapping=mapping.digest())
        known = self._ledger.find_import(begun.file, begun.mapping)
        if known is not None and known.state == "finished":
            return ImportReport(_finished(known), True, known.rows or 0, {}, ())
        make = partial(ChunkDecoder, mapping, self._definitions, event_id_prefix(begun), self._partitions)
        chunks = _chunks(path, mapping, make().columns)  # complains of the mapping before anything is noted
        record = self._ledger.import_started(begun.file, begun.mapping, path.name)
        progress = self._last_progress(begun, record) if record.attempts > 1 else begun
        attempt = _Attempt(progress)
        if not progress.done:
            rest = skip_rows(chunks, progress.rows)
            for decoded in decode_all(make, rest, self._clock, processes=self._processes_for(path)):
                self._append(attempt, decoded, mapping)
                if told is not None:
                    told(attempt.progress)
            self._finish(attempt)
        self._faults.reach(steps.IMPORT_RECORDED)
        whole = attempt.progress
        counts = {name: getattr(whole, name) for name in _COUNTS}
        self._ledger.import_finished(begun.file, begun.mapping, rows=whole.rows, counts=counts)
        return ImportReport(whole, False, progress.rows, attempt.reasons, tuple(attempt.faults))

    def _append(self, attempt: _Attempt, decoded: DecodedChunk, mapping: FileMapping) -> None:
        self._faults.reach(steps.IMPORT_APPEND)
        tally = IntakeTally()
        tally.add(
            mapping.source,
            received=decoded.received,
            accepted=decoded.accepted,
            refused=decoded.refused,
            at_us=self._clock.now_us(),
        )
        attempt.add(decoded, relative=mapping.as_is)
        entries = [
            Entry(EVENTS_TOPIC, partition, payload, {mapping.source: events}, "import")
            for partition, payload, events in decoded.records
        ]
        self._log.append([*entries, _intake_entry(tally.record(), attempt.progress)])

    def _finish(self, attempt: _Attempt) -> None:
        """Append the time to which everything is here, so that the watermark covers all that was imported."""
        self._faults.reach(steps.IMPORT_FINISH)
        attempt.progress = msgspec.structs.replace(attempt.progress, done=True)
        entries: list[Entry] = []
        if attempt.progress.ts_max_us is not None:
            beat = encode_record(RecordContent(NO_ROWS, NO_DEAD, self._definitions.version, attempt.progress.ts_max_us))
            entries = [Entry(EVENTS_TOPIC, partition, beat, {}, "system") for partition in range(self._partitions)]
        self._log.append([*entries, _intake_entry(IntakeRecord(), attempt.progress)])

    def _last_progress(self, begun: ImportProgress, record: ImportRecord) -> ImportProgress:
        """Return how far earlier attempts came, from what they appended since the import was first started."""
        offset = self._first_since(record.started_at_us - limits.clock_skew_s_max * 1_000_000)
        found = begun
        while records := self._log.read(INTAKE_TOPIC, 0, offset, bytes_max=limits.ingest_read_bytes_max):
            for one in records:
                imported = _decode_progress(one.payload)
                if imported and (imported.file, imported.mapping) == (begun.file, begun.mapping):
                    found = max(found, imported, key=lambda progress: (progress.done, progress.rows))
            offset = records[-1].offset + 1
        return found

    def _first_since(self, moment_us: int) -> int:
        """Return an offset of the intake topic before which everything was appended before ``moment_us``."""
        low, high = self._log.begins(INTAKE_TOPIC)[0], self._log.ends(INTAKE_TOPIC)[0]
        while low < high:
            middle = (low + high) // 2
            records = self._log.read(INTAKE_TOPIC, 0, middle, bytes_max=1)
            if records and records[0].appended_at_us < moment_us:
                low = records[0].offset + 1
            else:
                high = middle
        return low

    def _processes_for(self, path: Path) -> int:
        if self._processes:
            return self._processes
        return os.cpu_count() or 1 if path.stat().st_size >= limits.import_spread_bytes_min else 0


class _Attempt:
    """What one run adds up."""

    def __init__(self, progress: ImportProgress) -> None:
        self.progress = progress
        self.reasons: Counter[str] = Counter()
        self.faults: list[RowFault] = []

    def add(self, decoded: DecodedChunk, *, relative: bool) -> None:
        """Count a chunk; ``relative`` says that its faults count rows from the chunk's first."""
        before = self.progress
        base = before.rows if relative else 0
        self.reasons.update(decoded.reasons)
        room = limits.import_samples_max - len(self.faults)
        self.faults += [fault._replace(row=fault.row + base) for fault in decoded.faults[:room]]
        moments = [moment for moment in (before.ts_max_us, decoded.ts_max_us) if moment is not None]
        self.progress = msgspec.structs.replace(
            before,
            rows=before.rows + decoded.rows,
            received=before.received + decoded.received,
            accepted=before.accepted + decoded.accepted,
            dead_lettered=before.dead_lettered + decoded.dead_lettered,
            refused=before.refused + decoded.received - decoded.accepted,
            ts_max_us=max(moments, default=None),
        )


def event_id_prefix(begun: ImportProgress) -> str:
    """Return what the ids of a file's events begin with under one mapping."""
    return hashlib.blake2b(
        f"{begun.file} {begun.mapping}".encode(), digest_size=16, person=b"gw import id 1"
    ).hexdigest()


def skip_rows(chunks: Iterator[Chunk], rows: int) -> Iterator[Chunk]:
    """Yield what comes after the first ``rows`` rows."""
    for chunk in chunks:
        if rows == 0:
            yield chunk
        elif isinstance(chunk, bytes):
            lines = [line for line in chunk.split(b"\n") if line.strip(b" \t\r")]
            if len(lines) > rows:
                yield b"\n".join(lines[rows:])
            rows = max(0, rows - len(lines))
        elif chunk.last > rows:
            kept = [place for place, number in enumerate(chunk.numbers) if number > rows]
            yield RowChunk(
                [chunk.numbers[place] for place in kept],
                [chunk.rows[place] for place in kept],
                [one for one in chunk.broken if one.number > rows],
                chunk.last,
            )


def _chunks(path: Path, mapping: FileMapping, columns: tuple[str, ...]) -> Iterator[Chunk]:
    """Return the file's chunks; the first is read at once, so that what is wrong with the whole file is said first."""
    if mapping.as_is:
        if (kind := format_of(path, mapping)) != "ndjson":
            raise InvalidDefinition(
                "events",
                "as_is",
                f"goes with NDJSON, and the file is {kind}",
                next_step="map its columns",
                file=mapping.file,
            )
        made: Iterator[Chunk] = read_lines(path, chunk_bytes=limits.import_chunk_bytes)
    else:
        made = read_rows(path, mapping, columns, chunk_rows=limits.import_chunk_rows)
    first = next(made, None)
    return iter(()) if first is None else _chain(first, made)


def _chain(first: Chunk, rest: Iterator[Chunk]) -> Iterator[Chunk]:
    yield first
    yield from rest


def _intake_entry(record: IntakeRecord, progress: ImportProgress) -> Entry:
    intake = _ImportIntake(counts=record.counts, reasons=record.reasons, samples=record.samples, imported=progress)
    return Entry(INTAKE_TOPIC, 0, msgspec.json.encode(intake), intake_counts(record), "system")


def _decode_progress(payload: bytes) -> ImportProgress | None:
    try:
        return _INTAKE.decode(payload).imported
    except msgspec.DecodeError:
        return None


def _finished(record: ImportRecord) -> ImportProgress:
    counts = {name: record.counts.get(name, 0) for name in _COUNTS}
    return ImportProgress(file=record.digest, mapping=record.mapping_digest, rows=record.rows or 0, done=True, **counts)


_COUNTS: Final = ("received", "accepted", "dead_lettered", "refused")
_INTAKE: Final = msgspec.json.Decoder(_ImportIntake)
