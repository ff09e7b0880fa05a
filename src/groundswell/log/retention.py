"""Sealing, dropping and recounting the segments of the SQLite log.

Invariants
    a segment is sealed once a newer one exists and its write-ahead log is copied into it; from then on it never changes
    a topic's records go segment by segment, oldest first, once they are past its retention and below what is needed
    the manifest decides: the file that stays is made, then the manifest says so, then the file that goes is removed
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

from groundswell.errors import Corrupt, RetentionGap
from groundswell.log import segment, steps
from groundswell.log.catalog import Catalog, Place, segment_path, thinned_path
from groundswell.log.driver import mapped, open_writer
from groundswell.log.files import Files
from groundswell.log.manifest import Manifest, Sealed
from groundswell.log.rules import ORIGINS, SegmentRules, chain_digest, topic_digest
from groundswell.model.clock import US_PER_S, Clock
from groundswell.model.faults import Faults

__all__ = ["Finding", "Keeper"]

_CHECKPOINT_WAIT_S: Final = 0.1  # for readers, while appends wait; what is not sealed now is sealed next time


class Finding(NamedTuple):
    """Something that does not add up: in which segment (0: the manifest), in which file, and what."""

    segment: int
    file: str
    what: str


class Keeper:
    """Looks after segments that are full. All but ``verify`` run under the appender's lock."""

    def __init__(
        self,
        folder: Path,
        *,
        manifest: Manifest,
        catalog: Catalog,
        rules: SegmentRules,
        clock: Clock,
        faults: Faults,
        files: Files,
    ) -> None:
        self._folder = folder
        self._manifest = manifest
        self._catalog = catalog
        self._rules = rules
        self._clock = clock
        self._faults = faults
        self._files = files
        self._layout = manifest.layout

    def seal(self) -> int:
        """Seal every segment but the newest that is not sealed; return how many. One that a reader holds waits."""
        sealed = 0
        for place in self._catalog.refresh()[:-1]:
            if place.sealed is not None:
                continue
            if not self._checkpoint(place.path):
                break  # summaries are chained, so later ones wait too
            self._faults.reach(steps.SEAL_CHECKPOINTED)
            last = self._manifest.state().last
            with self._catalog.reader(place) as connection:
                summary = self._summarise(place, connection, last.digest if last else "")
            self._manifest.put(summary)
            self._faults.reach(steps.SEALED)
            self._catalog.forget(place.path)
            sealed += 1
        return sealed

    def drop(self, keep: Mapping[str, Mapping[int, int]]) -> int:
        """Drop what is past retention and not needed; return how many segments went wholly."""
        now_us = self._clock.now_us()
        going: dict[int, list[str]] = {}
        for topic in self._layout:
            for place in self._catalog.refresh():
                sealed = place.sealed
                if sealed is None or not self._expired(sealed, topic, keep.get(topic, {}), now_us):
                    break
                if topic in sealed.kept:
                    going.setdefault(place.number, []).append(topic)
        dropped = 0
        for place in self._catalog.refresh():
            if place.sealed is not None and place.number in going:
                dropped += self._reduce(place.sealed, going[place.number])
        return dropped

    def sweep(self) -> None:
        """Remove files that a crash left behind: unfinished ones, and what the manifest no longer names."""
        named = {place.path for place in self._catalog.refresh()}
        with mapped(self._folder):
            for path in sorted(self._folder.glob("*.new*")):
                path.unlink(missing_ok=True)
            for path in sorted(self._folder.glob("segment-*.sqlite")):
                if path not in named:
                    self._remove(path)

    def verify(self) -> list[Finding]:
        """Recount every kept record and walk the chain of digests."""
        findings: list[Finding] = []
        before = ""
        for sealed in self._manifest.all():
            if chain_digest(before, sealed.topic_digests) != sealed.digest:
                findings.append(Finding(sealed.number, str(self._manifest.path), "the chain of digests is broken here"))
            before = sealed.digest
        for place in self._catalog.refresh():
            try:
                with self._catalog.reader(place) as connection:
                    findings.extend(self._recount(place, connection))
            except Corrupt as error:
                findings.append(Finding(place.number, str(place.path), str(error)))
            except RetentionGap:  # dropped while we looked at others
                continue
        return findings

    def _checkpoint(self, path: Path) -> bool:
        with mapped(path):
            connection = open_writer(path, busy_s=_CHECKPOINT_WAIT_S)
            try:
                busy, _, _ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            finally:
                connection.close()
        return not busy

    def _summarise(self, place: Place, connection: sqlite3.Connection, before: str) -> Sealed:
        streams = self._catalog.streams
        heads = segment.heads(connection, streams)
        tally = segment.tallies(connection, streams)
        digests = {
            topic: topic_digest(
                checksum
                for stream, number in self._catalog.numbers.items()
                if stream[0] == topic
                for checksum in segment.checksums(connection, number)
            )
            for topic in self._layout
        }
        return Sealed(
            number=place.number,
            sealed_at_us=self._clock.now_us(),
            last_at_us=segment.last_at_us(connection),
            heads=[(heads[stream].first, heads[stream].next) for stream in streams],
            tally=[
                (self._catalog.numbers[stream], source, ORIGINS.index(origin), events)
                for (stream, source, origin), events in sorted(tally.items())
            ],
            topic_digests=digests,
            digest=chain_digest(before, digests),
            kept=list(self._layout),
        )

    def _expired(self, sealed: Sealed, topic: str, keep: Mapping[int, int], now_us: int) -> bool:
        if now_us - sealed.last_at_us < self._rules.retention_of(topic) * US_PER_S:
            return False
        return all(
            sealed.head(number).next <= keep.get(stream[1], sealed.head(number).next)
            for stream, number in self._catalog.numbers.items()
            if stream[0] == topic
        )

    def _reduce(self, sealed: Sealed, going: list[str]) -> int:
        """Drop the topics ``going`` of a segment; return 1 if nothing is left of it."""
        holding = {
            stream[0]
            for stream, number in self._catalog.numbers.items()
            if sealed.head(number).next > sealed.head(number).first
        }
        if holding.isdisjoint(going) and not holding.isdisjoint(sealed.kept):
            return 0  # only topics without a record would go
        kept = [topic for topic in sealed.kept if topic not in going]
        if holding.isdisjoint(kept):
            kept = []
        whole, thinned = segment_path(self._folder, sealed.number), thinned_path(self._folder, sealed.number)
        source = whole if sealed.whole(self._layout) else thinned
        if kept:
            numbers = {number: stream for stream, number in self._catalog.numbers.items() if stream[0] in kept}
            segment.copy_streams(source, thinned, list(numbers), self._files)
            self._faults.reach(steps.DROP_COPIED)
        self._manifest.put(_keeping(sealed, kept))
        self._faults.reach(steps.DROP_DECIDED)
        for path in (whole, thinned):
            if not kept or path != thinned:
                self._remove(path)
        self._faults.reach(steps.DROP_REMOVED)
        return not kept

    def _remove(self, path: Path) -> None:
        self._catalog.forget(path)
        with mapped(path):
            for part in (path, path.with_name(path.name + "-wal"), path.with_name(path.name + "-shm")):
                part.unlink(missing_ok=True)
            self._files.sync_folder(self._folder)

    def _recount(self, place: Place, connection: sqlite3.Connection) -> list[Finding]:
        """Compare the records of a segment with its heads, tallies and, once sealed, its summary."""
        streams = self._catalog.streams
        sealed = place.sealed
        found: list[str] = []
        with segment.snapshot(connection):
            heads = segment.heads(connection, streams)
            tally = segment.tallies(connection, streams)
            counted: Counter[tuple[segment.Stream, str, segment.Origin]] = Counter()
            digests: dict[str, list[int]] = {topic: [] for topic in self._layout}
            for stream, number in self._catalog.numbers.items():
                if sealed is not None and stream[0] not in sealed.kept:
                    continue
                expected = heads[stream].first
                for record, checksum in segment.scan(connection, number, stream):
                    if record.offset != expected:
                        found.append(f"{stream[0]}/{stream[1]} has offset {record.offset}, must have {expected}")
                    expected = record.offset + 1
                    digests[stream[0]].append(checksum)
                    for source, events in record.counts.items():
                        counted[(stream, source, record.origin)] += events
                if expected != heads[stream].next:
                    found.append(f"{stream[0]}/{stream[1]} ends at {expected}, must end at {heads[stream].next}")
        kept = {key: n for key, n in tally.items() if n and (sealed is None or key[0][0] in sealed.kept)}
        if kept != {key: n for key, n in counted.items() if n}:
            found.append("events by source do not add up to the segment's own tally")
        if sealed is not None:
            found.extend(self._against_summary(sealed, heads, tally, digests))
        return [Finding(place.number, str(place.path), what) for what in found]

    def _against_summary(
        self,
        sealed: Sealed,
        heads: Mapping[segment.Stream, segment.Head],
        tally: segment.StreamTally,
        digests: Mapping[str, list[int]],
    ) -> list[str]:
        found: list[str] = []
        if [tuple(heads[stream]) for stream in self._catalog.streams] != [tuple(head) for head in sealed.heads]:
            found.append("ranges differ from those it was sealed with")
        if tally != sealed.stream_tally(self._catalog.streams):
            found.append("events by source differ from those it was sealed with")
        found.extend(
            f"records of {topic} do not match the digest they were sealed with"
            for topic in sealed.kept
            if topic_digest(digests[topic]) != sealed.topic_digests[topic]
        )
        return found


def _keeping(sealed: Sealed, kept: list[str]) -> Sealed:
    return Sealed(
        number=sealed.number,
        sealed_at_us=sealed.sealed_at_us,
        last_at_us=sealed.last_at_us,
        heads=sealed.heads,
        tally=sealed.tally,
        topic_digests=sealed.topic_digests,
        digest=sealed.digest,
        kept=kept,
    )
