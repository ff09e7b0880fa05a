"""The manifest: which segments of the SQLite log are sealed, what they held, and which topics of them are kept.

Invariants
    a row is written when a segment is sealed and its digest never changes after
    ``kept`` says which topics' records are still there; the file with other topics in it is garbage
    it is in rollback mode and synced, so the file is whole whenever nobody writes
"""

from __future__ import annotations

import sqlite3
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from groundswell import limits
from groundswell.errors import Corrupt
from groundswell.log import steps
from groundswell.log.contract import Origin, SegmentSummary
from groundswell.log.driver import APPLICATION_ID, mapped, open_reader, open_writer
from groundswell.log.files import Files
from groundswell.log.rules import ORIGINS
from groundswell.log.segment import FORMAT, Head, Stream, StreamTally, streams_of
from groundswell.model.faults import Faults

__all__ = ["Manifest", "Sealed", "State", "create"]


class Sealed(msgspec.Struct, frozen=True):
    """A sealed segment, as stored."""

    number: int
    sealed_at_us: int
    last_at_us: int  # when its last record was appended
    heads: list[tuple[int, int]]  # by number of stream
    tally: list[tuple[int, str, int, int]]  # (stream, source, origin, events)
    topic_digests: dict[str, str]
    digest: str
    kept: list[str]  # topics whose records are still here; empty: dropped

    def head(self, stream: int) -> Head:
        return Head(*self.heads[stream])

    def whole(self, layout: Mapping[str, int]) -> bool:
        """Say whether no topic was dropped yet."""
        return len(self.kept) == len(layout)

    def stream_tally(self, streams: Sequence[Stream]) -> StreamTally:
        return {(streams[stream], source, ORIGINS[origin]): events for stream, source, origin, events in self.tally}

    def summary(self, layout: Mapping[str, int]) -> SegmentSummary:
        streams = streams_of(layout)
        ranges: dict[str, dict[int, tuple[int, int]]] = {topic: {} for topic in layout}
        tally: dict[str, Counter[tuple[str, Origin]]] = {topic: Counter() for topic in layout}
        for (topic, partition), head in zip(streams, self.heads, strict=True):
            ranges[topic][partition] = head
        for ((topic, _), source, origin), events in self.stream_tally(streams).items():
            tally[topic][(source, origin)] += events
        totals = {topic: dict(counter) for topic, counter in tally.items()}
        return SegmentSummary(self.number, self.sealed_at_us, ranges, totals, self.digest, dropped=not self.kept)


class State(NamedTuple):
    """The manifest at one moment."""

    kept: tuple[Sealed, ...]  # oldest first
    dropped: StreamTally  # totals of segments that are gone
    last: Sealed | None  # the newest sealed segment, kept or not


_SEALED: Final = msgspec.json.Decoder(Sealed)
_LAYOUT: Final = msgspec.json.Decoder(dict[str, int])


def create(path: Path, layout: Mapping[str, int], created_us: int, files: Files, faults: Faults) -> None:
    """Make the manifest of an empty log. The layout never changes after."""
    fresh = path.with_name(path.name + ".new")
    fresh.unlink(missing_ok=True)
    with mapped(fresh):
        connection = sqlite3.connect(fresh, isolation_level=None)
        try:
            connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version={FORMAT}")
            connection.execute("PRAGMA synchronous=OFF")  # synced as a whole below, before it has its name
            connection.execute("CREATE TABLE log (layout BLOB NOT NULL, created_at_us INTEGER NOT NULL)")
            connection.execute(
                "CREATE TABLE segments (number INTEGER PRIMARY KEY, dropped INTEGER NOT NULL, sealed BLOB NOT NULL)"
            )
            connection.execute("CREATE INDEX kept ON segments (number) WHERE NOT dropped")
            connection.execute(
                "CREATE TABLE dropped_tallies (stream INTEGER NOT NULL, source TEXT NOT NULL, origin INTEGER NOT NULL,"
                " events INTEGER NOT NULL, PRIMARY KEY (stream, source, origin)) WITHOUT ROWID"
            )
            connection.execute("INSERT INTO log VALUES (?, ?)", (msgspec.json.encode(layout), created_us))
        finally:
            connection.close()
        faults.reach(steps.MANIFEST_WRITTEN)
        files.sync_file(fresh)
        fresh.replace(path)
        faults.reach(steps.MANIFEST_NAMED)
        files.sync_folder(path.parent)
        faults.reach(steps.MANIFEST_CREATED)


class Manifest:
    """Reads the manifest when it has changed; writes it under the appender's lock. Safe to share between threads."""

    def __init__(self, path: Path, *, busy_s: float = limits.log_busy_s) -> None:
        self.path = path
        self._busy_s = busy_s
        self._lock = threading.Lock()
        self._version = -1
        self._state: State | None = None
        with mapped(path):
            self._connection = open_reader(path)
            try:
                self.layout = self._check_format()
            except BaseException:
                self._connection.close()
                raise

    def state(self) -> State:
        """Return what is sealed and kept; the same object as long as nothing has changed."""
        with self._lock, mapped(self.path):
            version = self._connection.execute("PRAGMA data_version").fetchone()[0]
            if version != self._version or self._state is None:
                self._state = self._load()
                self._version = version
            return self._state

    def all(self) -> list[Sealed]:
        """Return every segment ever sealed, oldest first."""
        with self._lock, mapped(self.path):
            found = self._connection.execute("SELECT sealed FROM segments ORDER BY number").fetchall()
            return [self._decode(row[0]) for row in found]

    def put(self, sealed: Sealed) -> None:
        """Write one row, durably; the tally of one that keeps no topic joins the totals of what was dropped."""
        with mapped(self.path):
            connection = open_writer(self.path, busy_s=self._busy_s, wal=False)
            try:
                connection.execute("BEGIN IMMEDIATE")
                connection.execute(
                    "INSERT INTO segments VALUES (?, ?, ?)"
                    " ON CONFLICT DO UPDATE SET dropped = excluded.dropped, sealed = excluded.sealed",
                    (sealed.number, not sealed.kept, msgspec.json.encode(sealed)),
                )
                if not sealed.kept:
                    connection.executemany(
                        "INSERT INTO dropped_tallies VALUES (?, ?, ?, ?)"
                        " ON CONFLICT DO UPDATE SET events = events + excluded.events",
                        sealed.tally,
                    )
                connection.execute("COMMIT")
            finally:
                connection.close()

    def close(self) -> None:
        with self._lock:
            self._connection.close()

    def _load(self) -> State:
        read = self._connection.execute
        read("BEGIN")
        try:
            kept = read("SELECT sealed FROM segments WHERE NOT dropped ORDER BY number").fetchall()
            dropped = read("SELECT stream, source, origin, events FROM dropped_tallies").fetchall()
            last = read("SELECT sealed FROM segments ORDER BY number DESC LIMIT 1").fetchone()
        finally:
            read("COMMIT")
        streams = streams_of(self.layout)
        return State(
            kept=tuple(self._decode(row[0]) for row in kept),
            dropped={(streams[stream], source, ORIGINS[origin]): events for stream, source, origin, events in dropped},
            last=self._decode(last[0]) if last else None,
        )

    def _decode(self, stored: bytes) -> Sealed:
        try:
            return _SEALED.decode(stored)
        except msgspec.MsgspecError as error:
            raise Corrupt(f"{self.path} has a row that cannot be read ({error}); restore it from a backup") from error

    def _check_format(self) -> dict[str, int]:
        found = self._connection.execute("PRAGMA user_version").fetchone()[0]
        if self._connection.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
            raise Corrupt(f"{self.path} is no manifest of a log; name another folder, or restore it from a backup")
        if found != FORMAT:
            raise Corrupt(f"{self.path} has format {found}, must be {FORMAT}; use the release that wrote it")
        row = self._connection.execute("SELECT layout FROM log").fetchone()
        if row is None:
            raise Corrupt(f"{self.path} has no layout; restore it from a backup")
        try:
            return _LAYOUT.decode(row[0])
        except msgspec.MsgspecError as error:
            raise Corrupt(f"{self.path} has a layout that cannot be read; restore it from a backup") from error
