"""A worker: its partitions of the log in, files and dead letters out, one contribution at a time.

Invariants
    what a contribution covers is read from the log in order, starts where the last one stopped, and is deduplicated
    against all that is committed before it
    dead letters are in the log before the contribution that counts them is handed over
    what was admitted to the fingerprints is kept until it is handed over, so that a failed write is tried again
    without admitting anything twice
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from groundswell import limits
from groundswell.ingest import steps
from groundswell.ingest.batches import Gathered, add_counts, concat, count_fates, gather, keep_new
from groundswell.ingest.contribution import Contribution
from groundswell.ingest.dead_records import encode_dead, letters_table
from groundswell.ingest.feed import Feed
from groundswell.lake.contract import IngestState, Lake
from groundswell.log.contract import DEAD_TOPIC, EVENTS_TOPIC, Entry, EventLog
from groundswell.model.definitions import Definitions
from groundswell.model.faults import Faults, NoFaults
from groundswell.wire.hashing import fingerprints
from groundswell.wire.schema import all_properties

__all__ = ["DefinitionsLookup", "Fingerprints", "IngestWorker", "OpenFingerprints"]

DefinitionsLookup = Callable[[int], Definitions]
Int64s = npt.NDArray[np.int64]
Fates = npt.NDArray[np.uint8]


class Fingerprints(Protocol):
    """The identities that one partition has committed within the window."""

    @property
    def covered(self) -> int:
        """The offset up to which stored fingerprints reach; the rest is rebuilt from the log."""
        ...

    def admit(self, h1: Int64s, h2: Int64s, content: Int64s) -> Fates:
        """Remember new identities; return 0 for a new one, 1 for a duplicate, 2 for a duplicate with other content."""
        ...

    def advance(self, next_offset: int, appended_at_us: int) -> None:
        """Say how far the log has been admitted."""
        ...

    def settle(self, committed: int) -> None:
        """Say how far the log has been committed."""
        ...


OpenFingerprints = Callable[[int, int], Fingerprints]  # (partition, committed offset)


class _Staged(NamedTuple):
    """Admitted, not yet handed over."""

    gathered: tuple[Gathered, ...]
    table: pa.Table | None
    contribution: Contribution  # without its files


class IngestWorker:
    """Owns some partitions. Not thread-safe: one thread drives it."""

    def __init__(
        self,
        log: EventLog,
        lake: Lake,
        partitions: Sequence[int],
        open_fingerprints: OpenFingerprints,
        definitions: DefinitionsLookup,
        *,
        faults: Faults | None = None,
        rows_max: int = limits.contribution_rows_max,
    ) -> None:
        self._log = log
        self._lake = lake
        self._partitions = tuple(partitions)
        self._open_fingerprints = open_fingerprints
        self._definitions = definitions
        self._faults = faults or NoFaults()
        self.rows_max = rows_max
        self._feeds: dict[int, Feed] | None = None
        self._fingerprints: dict[int, Fingerprints] = {}
        self._staged: _Staged | None = None
        self._ensured_version = -1

    @property
    def can_resume(self) -> bool:
        """Whether ``step`` may be called again after an error; else ``reset`` comes first."""
        return self._feeds is not None

    def reset(self) -> None:
        """Start from the committed offsets: reopen the fingerprints and rebuild what they lack from the log."""
        self._feeds = None
        self._staged = None
        snapshot = self._lake.current()
        state = snapshot.state if snapshot else IngestState()
        feeds: dict[int, Feed] = {}
        for partition in self._partitions:
            committed = state.offsets.get(partition, 0)
            self._fingerprints[partition] = self._open_fingerprints(partition, committed)
            self._rebuild(partition, committed)
            feeds[partition] = self._feed(partition, committed)
        self._feeds = feeds

    def step(self) -> Contribution | None:
        """Return the next contribution, or None where the log has nothing new.

        Raises:
            Transient: call it again where ``can_resume``, else after ``reset``.
            RetentionGap: the log dropped records before they were committed.
        """
        if self._feeds is None:
            self.reset()
        if self._staged is None:
            self._staged = self._stage()
        if self._staged is None:
            return None
        contribution = self._finish(self._staged)
        self._staged = None
        return contribution

    def settle(self, contribution: Contribution) -> None:
        """Say that a contribution was accepted."""
        for partition, (_, stop) in contribution.ranges.items():
            self._fingerprints[partition].settle(stop)

    # --- from the log to staged rows ---------------------------------------------------------------------------

    def _stage(self) -> _Staged | None:
        assert self._feeds is not None
        self._faults.reach(steps.READ)
        gathered = self._gather(self._feeds)
        if not gathered:
            return None
        feeds, self._feeds = self._feeds, None  # whatever breaks from here on, fingerprints and feeds are out of step
        fates = [self._admit(one) for one in gathered]
        tables = [
            keep_new(one.table, fate)
            for one, fate in zip(gathered, fates, strict=True)
            if one.table is not None and fate is not None
        ]
        table = concat(tables) if any(len(one) for one in tables) else None
        counts = add_counts(count_fates(one, fate) for one, fate in zip(gathered, fates, strict=True))
        contribution = Contribution(
            ranges={one.partition: one.range for one in gathered},
            counts=counts,
            watermarks_us={one.partition: one.watermark_us for one in gathered if one.watermark_us is not None},
            definitions_version=max(one.definitions_version for one in gathered),
        )
        self._feeds = feeds
        return _Staged(tuple(gathered), table, contribution)

    def _gather(self, feeds: dict[int, Feed]) -> list[Gathered]:
        share = max(1, self.rows_max // len(feeds))
        gathered: list[Gathered] = []
        for partition, feed in feeds.items():
            start = feed.position
            taken = feed.take(share)
            if taken:
                gathered.append(gather(partition, start, taken))
        return gathered

    def _admit(self, one: Gathered) -> Fates | None:
        table = one.table
        fates: Fates | None = None
        index = self._fingerprints[one.partition]
        if table is not None:
            h1, h2 = fingerprints(table.column("source"), table.column("event_id"))
            fates = index.admit(h1, h2, _int64s(table.column("content_hash")))
        index.advance(one.range[1], one.appended_at_us)
        return fates

    def _rebuild(self, partition: int, committed: int) -> None:
        """Admit what is committed but not covered by stored fingerprints."""
        index = self._fingerprints[partition]
        start = max(index.covered, self._log.begins(EVENTS_TOPIC).get(partition, 0))
        feed = self._feed(partition, start)
        while feed.position < committed:
            position = feed.position
            taken = feed.take(self.rows_max, stop=committed)
            if not taken:
                return
            self._admit(gather(partition, position, taken))

    def _feed(self, partition: int, position: int) -> Feed:
        return Feed(self._log, partition, position, bytes_max=limits.ingest_read_bytes_max)

    # --- from staged rows to a contribution --------------------------------------------------------------------

    def _finish(self, staged: _Staged) -> Contribution:
        self._faults.reach(steps.RECORDED)
        version = staged.contribution.definitions_version
        if version > self._ensured_version:
            definitions = self._definitions(version)
            self._lake.ensure_columns(msgspec.structs.replace(definitions, properties=all_properties(definitions)))
            self._ensured_version = version
        self._faults.reach(steps.WRITE)
        files = () if staged.table is None else (self._lake.write(staged.table),)
        self._faults.reach(steps.DEAD_LETTERS)
        self._append_letters(staged.gathered)
        self._faults.reach(steps.HAND_OVER)
        bare = staged.contribution
        return Contribution(bare.ranges, files, bare.counts, bare.watermarks_us, bare.definitions_version)

    def _append_letters(self, gathered: Sequence[Gathered]) -> None:
        entries = [
            Entry(DEAD_TOPIC, 0, payload, {})
            for one in gathered
            if one.dead
            for payload in encode_dead(
                "letters", letters_table(one.partition, one.dead), rows_max=limits.record_events_max
            )
        ]
        if entries:
            self._log.append(entries)


def _int64s(column: pa.ChunkedArray) -> Int64s:
    return np.ascontiguousarray(column.to_numpy(), np.int64)
