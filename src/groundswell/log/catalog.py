"""Where each record is: the sealed segments of the manifest, those that are not sealed yet, and connections to them.

Invariants
    kept segments have consecutive numbers up to the newest, except where whole segments between them were dropped
    a segment that is not sealed is in no manifest row and has the next number
    at most ``limits.log_readers_max`` idle connections stay open
"""

from __future__ import annotations

import sqlite3
import threading
from bisect import bisect_right
from collections import Counter, OrderedDict
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from groundswell import limits
from groundswell.errors import Corrupt, RetentionGap
from groundswell.log import segment
from groundswell.log.driver import mapped, open_reader
from groundswell.log.manifest import Manifest, Sealed, State
from groundswell.log.segment import Head, Stream, StreamTally

__all__ = ["Catalog", "Place", "segment_path", "thinned_path"]


def segment_path(folder: Path, number: int) -> Path:
    """Return where segment ``number`` is while it holds every topic."""
    return folder / f"segment-{number:08d}.sqlite"


def thinned_path(folder: Path, number: int) -> Path:
    """Return where segment ``number`` is once only topics with a longer retention are left in it."""
    return folder / f"segment-{number:08d}.kept.sqlite"


class Place(NamedTuple):
    """A segment's file. ``first`` has the offset at which each stream enters it."""

    number: int
    path: Path
    first: dict[Stream, int]
    sealed: Sealed | None


class Catalog:
    """Finds segments and lends connections. Safe to share between threads."""

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.folder = folder
        self.streams = segment.streams_of(manifest.layout)
        self.numbers = {stream: number for number, stream in enumerate(self.streams)}
        self._manifest = manifest
        self._lock = threading.Lock()
        self._state: State | None = None
        self._places: tuple[Place, ...] = ()
        self._idle: OrderedDict[Path, list[sqlite3.Connection]] = OrderedDict()
        try:
            self._check_files(self.refresh())
        except BaseException:
            self.close()
            raise

    def refresh(self) -> tuple[Place, ...]:
        """Return the segments that are there now, oldest first; the last is the one that is appended to."""
        state = self._manifest.state()
        with self._lock:
            if state is not self._state:
                known = {place.number: place for place in self._places if place.sealed is None}
                places = [self._sealed_place(sealed) for sealed in state.kept]
                number = state.last.number + 1 if state.last else 1
                while number in known:  # what was not sealed and still is not
                    places.append(known[number])
                    number += 1
                self._state, self._places = state, tuple(places)
            last = state.last.number if state.last else 0
            number = max(last, self._places[-1].number if self._places else 0) + 1
            while (path := segment_path(self.folder, number)).exists():
                with mapped(path):
                    connection = open_reader(path)
                    try:
                        found = segment.heads(connection, self.streams)
                    finally:
                        connection.close()
                first = {stream: head.first for stream, head in found.items()}
                self._places = (*self._places, Place(number, path, first, None))
                number += 1
            if not self._places or self._places[-1].sealed is not None:
                raise Corrupt(f"{path} is missing; restore it from a backup, or records past segment {last} are lost")
            return self._places

    def places_from(self, stream: Stream, start: int) -> list[Place]:
        """Return the segments that hold ``stream`` from offset ``start`` on.

        Raises:
            RetentionGap: ``start`` was dropped.
        """
        places = self._unbroken(stream[0])
        begin = places[0].first[stream]
        if start < begin:
            raise RetentionGap(f"{stream[0]}/{stream[1]} begins at offset {begin}; offset {start} was dropped")
        return places[bisect_right(places, start, key=lambda place: place.first[stream]) - 1 :]

    def begins(self, topic: str) -> dict[int, int]:
        """Return the first offset kept, by partition."""
        first = self._unbroken(topic)[0].first
        return {partition: first[(name, partition)] for name, partition in self.streams if name == topic}

    def last_heads(self) -> dict[Stream, Head]:
        """Return the ranges of the newest segment."""
        with self.reader(self.refresh()[-1]) as connection:
            return segment.heads(connection, self.streams)

    def holds_records(self) -> bool:
        """Say whether the newest segment has a record."""
        return any(head.next > head.first for head in self.last_heads().values())

    def tally(self) -> StreamTally:
        """Return all events ever appended by (stream, source, origin)."""
        self.refresh()
        with self._lock:  # the two belong together
            places, state = self._places, self._state
        assert state is not None
        totals: Counter[tuple[Stream, str, segment.Origin]] = Counter(state.dropped)
        for place in places:
            totals.update(self._tally_of(place))
        return dict(totals)

    def pending(self, stream: Stream, start: int) -> dict[str, int]:
        """Return events of ``stream`` at or past offset ``start``, by source."""
        totals: Counter[str] = Counter()
        for place in self.places_from(stream, start):
            if start > place.first[stream]:
                with self.reader(place) as connection:
                    totals.update(segment.counts_from(connection, self.numbers[stream], start))
            else:
                for (found, source, _), events in self._tally_of(place).items():
                    if found == stream:
                        totals[source] += events
        return dict(totals)

    @contextmanager
    def reader(self, place: Place) -> Generator[sqlite3.Connection]:
        """Lend a read connection to ``place``.

        Raises:
            RetentionGap: the segment was dropped meanwhile.
            Corrupt: the segment is missing or damaged.
        """
        with mapped(place.path):
            connection = self._borrow(place)
            try:
                yield connection
            except BaseException:
                connection.close()
                raise
            self._give_back(place, connection)

    def forget(self, path: Path) -> None:
        """Close idle connections to a file that is about to go."""
        with self._lock:
            idle = self._idle.pop(path, [])
        for connection in idle:
            connection.close()

    def close(self) -> None:
        with self._lock:
            paths = list(self._idle)
        for path in paths:
            self.forget(path)

    def _unbroken(self, topic: str) -> list[Place]:
        """Return the newest segments that hold all of ``topic`` from some offset on, oldest first."""
        numbers = {stream: number for stream, number in self.numbers.items() if stream[0] == topic}
        found: list[Place] = []
        for place in reversed(self.refresh()):
            if place.sealed is not None and topic not in place.sealed.kept:
                break
            if found and place.sealed is not None:
                sealed, first = place.sealed, found[-1].first
                if any(sealed.head(number).next != first[stream] for stream, number in numbers.items()):
                    break  # a segment between the two is gone
            found.append(place)
        return found[::-1]

    def _tally_of(self, place: Place) -> StreamTally:
        if place.sealed is not None:
            return place.sealed.stream_tally(self.streams)
        with self.reader(place) as connection:
            return segment.tallies(connection, self.streams)

    def _sealed_place(self, sealed: Sealed) -> Place:
        whole = sealed.whole(self._manifest.layout)
        path = segment_path(self.folder, sealed.number) if whole else thinned_path(self.folder, sealed.number)
        first = {stream: sealed.head(number).first for number, stream in enumerate(self.streams)}
        return Place(sealed.number, path, first, sealed)

    def _borrow(self, place: Place) -> sqlite3.Connection:
        with self._lock:
            idle = self._idle.get(place.path)
            if idle:
                self._idle.move_to_end(place.path)
                return idle.pop()
        if not place.path.exists():
            if all(now.path != place.path for now in self.refresh()):
                raise RetentionGap(f"{place.path} was dropped while it was read; begin anew at the first offset kept")
            raise Corrupt(f"{place.path} is missing; restore it from a backup")
        return open_reader(place.path, sealed=place.sealed is not None)

    def _give_back(self, place: Place, connection: sqlite3.Connection) -> None:
        surplus: list[sqlite3.Connection] = []
        with self._lock:
            self._idle.setdefault(place.path, []).append(connection)
            self._idle.move_to_end(place.path)
            while sum(map(len, self._idle.values())) > limits.log_readers_max:
                path, oldest = next(iter(self._idle.items()))
                surplus.append(oldest.pop(0)) if oldest else None
                if not oldest:
                    del self._idle[path]
        for other in surplus:
            other.close()

    def _check_files(self, places: tuple[Place, ...]) -> None:
        """Raise :class:`Corrupt` where a file between those we know is missing."""
        for place in places:
            if not place.path.exists():
                raise Corrupt(f"{place.path} is missing; restore it from a backup")
        newest = max((int(path.stem.split("-")[1]) for path in self.folder.glob("segment-????????.sqlite")), default=0)
        if newest > places[-1].number:
            lost = segment_path(self.folder, places[-1].number + 1)
            raise Corrupt(f"{lost} is missing before segment {newest}; restore it from a backup")
