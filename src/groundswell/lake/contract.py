"""The lake: one wide Iceberg table of events. Files become visible only by ``commit``.

Invariants
    a commit is one compare-and-swap on the table's metadata; it happens wholly or not at all
    every snapshot carries the whole ``IngestState`` in its summary: a snapshot explains itself
    a file named by a live or tagged snapshot is never deleted
    the schema is committed before any file uses it; columns are added, never changed
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple, Protocol

import msgspec
import pyarrow as pa

from groundswell.model.definitions import Definitions
from groundswell.model.ledger import LakeCounts

__all__ = ["Change", "IngestState", "Lake", "LakeFile", "Snapshot"]


class IngestState(msgspec.Struct, frozen=True, kw_only=True):
    """How far ingest came, as of one snapshot. Keys of the mappings are partitions of the events topic."""

    format: int = 1
    offsets: dict[int, int] = {}  # next offset to commit
    watermarks_us: dict[int, int] = {}  # largest min(ts, received_at), heartbeats included
    ledger: dict[str, LakeCounts] = {}  # by source, since the lake began
    definitions_version: int = 0

    @property
    def as_of_us(self) -> int | None:
        """The least watermark over partitions that have one."""
        return min(self.watermarks_us.values(), default=None)


class LakeFile(NamedTuple):
    """A data file, written and fsynced. ``sorted_run`` 0 is a fresh file; else the id of its sorted run."""

    path: str
    rows: int
    bytes: int
    unit_hash_min: int | None  # None: every row lacks a unit
    unit_hash_max: int | None
    received_min_us: int
    received_max_us: int
    sorted_run: int = 0
    opaque: object = None  # the implementation's own descriptor


class Snapshot(NamedTuple):
    """A version of the table."""

    snapshot_id: int
    committed_at_us: int
    state: IngestState


class Change(NamedTuple):
    """What a commit does. ``state`` None keeps the state as it is (compaction)."""

    add: Sequence[LakeFile] = ()
    remove: Sequence[LakeFile] = ()
    state: IngestState | None = None


class Lake(Protocol):
    """The seam. Safe to use from several threads; several processes may commit, one wins."""

    def ensure_columns(self, definitions: Definitions) -> None:
        """Add a column for each property that has none. Raises ``Conflict`` where a type differs."""
        ...

    def columns(self, files: Sequence[LakeFile] | None = None) -> pa.Schema:
        """Return the lake's columns in their order; with ``files`` only those that at least one of them has."""
        ...

    def write(self, table: pa.Table, *, sorted_run: int = 0) -> LakeFile:
        """Write a data file and fsync it and its folder. It is invisible until a commit names it."""
        ...

    def commit(self, decide: Callable[[IngestState], Change | None]) -> Snapshot | None:
        """Load the table, ask ``decide`` about its state, commit the change by compare-and-swap on that very metadata.

        ``decide`` returns None to commit nothing, or raises; it may be asked again after a lost race.

        Raises:
            CommitConflict: a removed file is no longer in the table, an added one already is, or races were lost too
                often.
            Unavailable: the answer is unclear even after reloading (disk full, catalog away).
        """
        ...

    def current(self) -> Snapshot | None:
        """Return the newest snapshot; None while the table is empty."""
        ...

    def snapshot(self, snapshot_id: int) -> Snapshot:
        """Return a live or tagged snapshot. Raises ``SnapshotGone``."""
        ...

    def snapshots(self) -> list[Snapshot]:
        """Return live snapshots, oldest first."""
        ...

    def files(self, snapshot_id: int | None = None) -> list[LakeFile]:
        """Return the data files of a snapshot (None: the newest)."""
        ...

    def read(
        self,
        files: Sequence[LakeFile],
        columns: Sequence[str],
        *,
        unit_hash: tuple[int, int] | None = None,
        coded: Collection[str] = (),
    ) -> pa.Table:
        """Return ``columns`` of ``files``, those a file lacks as null; with ``unit_hash`` (low, high), both inclusive,
        only rows in that range (row groups outside are not read). Order of rows is that of files. Text columns named in
        ``coded`` come dictionary-encoded, which spares decoding the same few words for every row.
        """
        ...

    def tag(self, name: str, snapshot_id: int, *, keep_s: int) -> None:
        """Keep a snapshot for ``keep_s`` seconds under ``name``."""
        ...

    def expire(self) -> int:
        """Expire snapshots past age and count (tagged and current ones stay); delete files that only they named, when
        no reader can need them. Return how many snapshots went. A commit does it too where too many snapshots live.
        """
        ...

    def remove_orphans(self) -> int:
        """Delete files older than ``limits.orphan_age_s_min`` that no snapshot names. Return how many."""
        ...

    def location(self) -> Mapping[str, str]:
        """Return what other readers need: catalog, namespace, table, warehouse, newest metadata file."""
        ...
