"""One segment of the SQLite log: a database file with a table of records a stream (a partition of a topic).

Invariants
    a segment appears under its name complete, empty and synced; it is appended to until the next one exists
    ``heads`` has, for each stream, the offset at which it enters this segment and the offset after its last record
    records, heads and tallies of one append change in one transaction
    offsets of a stream within a segment have no holes

A stream's number is its place in the layout: topics in the order of the layout, partitions in rising order.
"""

from __future__ import annotations

import sqlite3
import struct
from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import quote

import msgspec

from groundswell import limits
from groundswell.errors import Corrupt
from groundswell.log import steps
from groundswell.log.contract import Entry, Origin, Record
from groundswell.log.driver import APPLICATION_ID, mapped, open_reader, open_writer
from groundswell.log.files import Files
from groundswell.log.rules import ORIGINS, encode_counts, record_checksum
from groundswell.model.faults import Faults

__all__ = ["FORMAT", "Head", "Stream", "StreamTally", "Writer", "create", "heads", "read", "streams_of", "tallies"]

FORMAT: Final = 1
_PAGE_BYTES: Final = 16384  # a record of 200 kB is 13 overflow pages; a lone event costs two pages of WAL
_OVERHEAD_BYTES: Final = 6 * _PAGE_BYTES  # heads, tallies and the last pages of a few streams, in each transaction
_COLUMNS: Final = "offset, appended_at_us, checksum, origin, counts, payload"
_COUNTS: Final = msgspec.json.Decoder(dict[str, int])

Stream = tuple[str, int]
StreamTally = dict[tuple[Stream, str, Origin], int]  # (stream, source, origin) -> events


class Head(NamedTuple):
    """A stream's range in a segment."""

    first: int
    next: int


def streams_of(layout: Mapping[str, int]) -> list[Stream]:
    """Return every stream of ``layout``; a stream's number is its index here."""
    return [(topic, index) for topic, count in layout.items() for index in range(count)]


def create(
    path: Path, number: int, firsts: Mapping[Stream, int], *, created_us: int, files: Files, faults: Faults
) -> None:
    """Make an empty segment at ``path`` whose streams go on at ``firsts``."""
    fresh = path.with_name(path.name + ".new")
    for leftover in (fresh, fresh.with_name(fresh.name + "-wal"), fresh.with_name(fresh.name + "-shm")):
        leftover.unlink(missing_ok=True)
    with mapped(fresh):
        connection = sqlite3.connect(fresh, isolation_level=None)
        try:
            connection.execute(f"PRAGMA page_size={_PAGE_BYTES}")
            connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version={FORMAT}")
            connection.execute("PRAGMA synchronous=OFF")  # synced as a whole below, before it has its name
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("CREATE TABLE segment (number INTEGER NOT NULL, created_at_us INTEGER NOT NULL)")
            connection.execute("INSERT INTO segment VALUES (?, ?)", (number, created_us))
            connection.execute(
                "CREATE TABLE heads (stream INTEGER PRIMARY KEY, first INTEGER NOT NULL, next INTEGER NOT NULL,"
                " last_at_us INTEGER NOT NULL)"
            )
            connection.execute(
                "CREATE TABLE tallies (stream INTEGER NOT NULL, source TEXT NOT NULL, origin INTEGER NOT NULL,"
                " events INTEGER NOT NULL, PRIMARY KEY (stream, source, origin)) WITHOUT ROWID"
            )
            for stream, first in enumerate(firsts.values()):
                connection.execute("INSERT INTO heads VALUES (?, ?, ?, 0)", (stream, first, first))
                connection.execute(
                    f"CREATE TABLE records_{stream} (offset INTEGER PRIMARY KEY, appended_at_us INTEGER NOT NULL,"
                    " checksum INTEGER NOT NULL, origin INTEGER NOT NULL, counts BLOB NOT NULL, payload BLOB NOT NULL)"
                )
            connection.execute("COMMIT")
        finally:
            connection.close()
        faults.reach(steps.SEGMENT_WRITTEN)
        files.sync_file(fresh)
        faults.reach(steps.SEGMENT_SYNCED)
        fresh.replace(path)
        faults.reach(steps.SEGMENT_NAMED)
        files.sync_folder(path.parent)
        faults.reach(steps.SEGMENT_CREATED)


class Writer:
    """The one connection of a process that appends to the newest segment. Used under the appender's lock only."""

    def __init__(self, path: Path, number: int, streams: Sequence[Stream], *, busy_s: float) -> None:
        self.path = path
        self.number = number
        self._numbers = {stream: index for index, stream in enumerate(streams)}
        self._next: list[int] = []
        self._seen_version = -1
        self._wal_bytes = 0
        with mapped(path):
            self._connection = open_writer(path, busy_s=busy_s)
            row = self._connection.execute("SELECT created_at_us FROM segment").fetchone()
        if row is None:
            raise Corrupt(f"{path} has no segment row; restore it from a backup")
        self.created_us: int = row[0]

    @property
    def bytes(self) -> int:
        """Size of the file with what is still in its write-ahead log."""
        with mapped(self.path):
            pages = self._connection.execute("PRAGMA page_count").fetchone()[0]
            return pages * _PAGE_BYTES

    def append(self, entries: Iterable[Entry], now_us: int, faults: Faults) -> list[tuple[int, int]]:
        """Insert ``entries`` in one synced transaction; return (partition, offset) of each."""
        with mapped(self.path):
            self._connection.execute("BEGIN IMMEDIATE")
            self._load_heads()
            rows: dict[int, list[tuple[int, int, int, int, bytes, bytes]]] = {}
            tally: Counter[tuple[int, str, int]] = Counter()
            positions: list[tuple[int, int]] = []
            fresh = dict(enumerate(self._next))
            for entry in entries:
                stream = self._numbers[(entry.topic, entry.partition)]
                offset = fresh[stream]
                fresh[stream] = offset + 1
                origin = ORIGINS.index(entry.origin)
                counts = encode_counts(entry.counts)
                checksum = record_checksum(
                    (entry.partition, offset, now_us, origin), entry.topic, counts, entry.payload
                )
                rows.setdefault(stream, []).append((offset, now_us, checksum, origin, counts, entry.payload))
                for source, events in entry.counts.items():
                    tally[(stream, source, origin)] += events
                positions.append((entry.partition, offset))
                self._wal_bytes += len(entry.payload)
            self._wal_bytes += _OVERHEAD_BYTES
            for stream, values in rows.items():
                self._connection.executemany(f"INSERT INTO records_{stream} VALUES (?, ?, ?, ?, ?, ?)", values)
            self._connection.executemany(
                "UPDATE heads SET next = ?, last_at_us = max(last_at_us, ?) WHERE stream = ?",
                [(fresh[stream], now_us, stream) for stream in rows],
            )
            self._connection.executemany(
                "INSERT INTO tallies VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET events = events + excluded.events",
                [(*key, events) for key, events in tally.items()],
            )
            faults.reach(steps.INSERTED)
            self._connection.execute("COMMIT")
            self._next = list(fresh.values())
            faults.reach(steps.COMMITTED)
        return positions

    def checkpoint_if_due(self, faults: Faults) -> None:
        """Copy the write-ahead log into the file once it is large enough, so that it stays small."""
        if self._wal_bytes >= limits.wal_bytes_max:
            with mapped(self.path):
                self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
            self._wal_bytes = 0
            faults.reach(steps.CHECKPOINTED)

    def close(self) -> None:
        with mapped(self.path):
            self._connection.close()

    def _load_heads(self) -> None:
        version = self._connection.execute("PRAGMA data_version").fetchone()[0]
        if version != self._seen_version:  # another connection has written, or we have just opened
            found = self._connection.execute("SELECT next FROM heads ORDER BY stream").fetchall()
            self._next = [row[0] for row in found]
            self._seen_version = version
        if len(self._next) != len(self._numbers):
            raise Corrupt(f"{self.path} has {len(self._next)} streams, must have {len(self._numbers)}; restore it")


def heads(connection: sqlite3.Connection, streams: Sequence[Stream]) -> dict[Stream, Head]:
    """Return the range of every stream in a segment."""
    rows = connection.execute("SELECT first, next FROM heads ORDER BY stream").fetchall()
    return {stream: Head(*row) for stream, row in zip(streams, rows, strict=True)}


def tallies(connection: sqlite3.Connection, streams: Sequence[Stream]) -> StreamTally:
    """Return events by (stream, source, origin) in a segment."""
    rows = connection.execute("SELECT stream, source, origin, events FROM tallies").fetchall()
    return {(streams[stream], source, ORIGINS[origin]): events for stream, source, origin, events in rows}


def is_empty(path: Path) -> bool:
    """Say whether ``path`` is a segment to which nothing was ever appended."""
    if not path.exists():
        return False
    with mapped(path):
        connection = open_reader(path)
        try:
            return connection.execute("SELECT count(*) FROM heads WHERE next > 0").fetchone()[0] == 0
        finally:
            connection.close()


def last_at_us(connection: sqlite3.Connection) -> int:
    """Return when the last record was appended; 0 for an empty segment."""
    return connection.execute("SELECT max(last_at_us) FROM heads").fetchone()[0]


def read(
    connection: sqlite3.Connection, number: int, stream: Stream, start: int, *, stop: int, bytes_max: int
) -> list[Record]:
    """Return records of ``stream`` from ``start`` on: one if there is any, then as many as fit in ``bytes_max``.

    Raises:
        Corrupt: a record does not match its checksum, or an offset is missing.
    """
    rows = connection.execute(
        f"SELECT {_COLUMNS} FROM records_{number} WHERE offset >= ? AND offset < ? ORDER BY offset", (start, stop)
    )
    records: list[Record] = []
    size = 0
    try:
        for row in rows:
            record, _ = _decode(stream, row)
            if record.offset != start + len(records):
                raise Corrupt(f"{stream[0]}/{stream[1]} lacks offset {start + len(records)}; restore it from a backup")
            size += len(record.payload)
            if records and size > bytes_max:
                break
            records.append(record)
    finally:
        rows.close()  # ends the read transaction
    return records


def scan(connection: sqlite3.Connection, number: int, stream: Stream) -> Iterator[tuple[Record, int]]:
    """Yield every record of ``stream`` with its checksum, in order."""
    for row in connection.execute(f"SELECT {_COLUMNS} FROM records_{number} ORDER BY offset"):
        yield _decode(stream, row)


def checksums(connection: sqlite3.Connection, number: int) -> Iterator[int]:
    """Yield the stored checksums of a stream, in order."""
    for row in connection.execute(f"SELECT checksum FROM records_{number} ORDER BY offset"):
        yield row[0]


def counts_from(connection: sqlite3.Connection, number: int, start: int) -> dict[str, int]:
    """Return events at or past offset ``start`` by source."""
    totals: Counter[str] = Counter()
    query = f"SELECT counts, count(*) FROM records_{number} WHERE offset >= ? GROUP BY counts"
    for counts, records in connection.execute(query, (start,)):
        for source, events in (_COUNTS.decode(counts) if counts else {}).items():
            totals[source] += events * records
    return dict(totals)


@contextmanager
def snapshot(connection: sqlite3.Connection) -> Generator[None]:
    """Let every statement of the block see the same moment."""
    connection.execute("BEGIN")
    try:
        yield
    finally:
        connection.execute("COMMIT")


def copy_streams(source: Path, target: Path, numbers: Sequence[int], files: Files) -> None:
    """Make ``target`` a copy of the sealed segment ``source`` with the records of the streams ``numbers`` alone."""
    fresh = target.with_name(target.name + ".new")
    fresh.unlink(missing_ok=True)
    with mapped(source):
        connection = sqlite3.connect(f"file:{quote(str(fresh.absolute()))}", uri=True, isolation_level=None)
        try:
            connection.execute(f"PRAGMA page_size={_PAGE_BYTES}")
            connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version={FORMAT}")
            connection.execute("PRAGMA synchronous=OFF")  # synced as a whole below, before it has its name
            connection.execute("PRAGMA journal_mode=OFF")  # nothing to roll back: the file has no name yet
            connection.execute("ATTACH ? AS source", (f"file:{quote(str(source.absolute()))}?mode=ro&immutable=1",))
            connection.execute("BEGIN")
            schema = connection.execute("SELECT name, sql FROM source.sqlite_schema WHERE type = 'table'").fetchall()
            wanted = {f"records_{number}" for number in numbers}
            for name, sql in schema:
                connection.execute(sql)
                if not name.startswith("records_") or name in wanted:
                    connection.execute(f"INSERT INTO main.{name} SELECT * FROM source.{name}")
            connection.execute("COMMIT")
        finally:
            connection.close()
        files.sync_file(fresh)
        fresh.replace(target)
        files.sync_folder(target.parent)


def _decode(stream: Stream, row: tuple[int, int, int, int, bytes, bytes]) -> tuple[Record, int]:
    topic, partition = stream
    offset, appended_at_us, checksum, origin, counts, payload = row
    try:
        found = record_checksum((partition, offset, appended_at_us, origin), topic, counts, payload)
        if found == checksum:
            decoded = _COUNTS.decode(counts) if counts else {}
            return Record(topic, partition, offset, appended_at_us, payload, decoded, ORIGINS[origin]), checksum
    except (TypeError, struct.error, msgspec.DecodeError, IndexError):
        found = None  # a column of another type, or counts that are no JSON: damaged all the same
    raise Corrupt(
        f"{topic}/{partition} offset {offset} has checksum {found}, must be {checksum}; "
        "restore its segment from a backup"
    )
