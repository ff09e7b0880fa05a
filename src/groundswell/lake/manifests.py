"""Manifests: which files a snapshot holds, written so that a commit costs the same after ten thousand others.

Invariants
    a manifest never changes; a commit writes at most a few and one list of all
    manifests with few files are folded into the one that a commit writes anyway, so that lists stay short
    a file is removed only if the snapshot that the commit replaces holds it
"""

from __future__ import annotations

import uuid
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Final, NamedTuple, TypeVar

from pyiceberg.manifest import (
    UNASSIGNED_SEQ,
    DataFile,
    ManifestEntry,
    ManifestEntryStatus,
    ManifestFile,
    read_manifest_list,
    write_manifest,
    write_manifest_list,
)
from pyiceberg.table import Table
from pyiceberg.table.snapshots import (
    Operation,
    Snapshot,
    SnapshotSummaryCollector,
    Summary,
    update_snapshot_summaries,
)
from pyiceberg.table.update import TableUpdate

from groundswell import limits
from groundswell.errors import CommitConflict
from groundswell.lake.drivers import reading_metadata
from groundswell.lake.files import LocalFiles
from groundswell.lake.updates import add_snapshot, new_snapshot

__all__ = ["ManifestReader", "stage"]

_FOLD_BELOW: Final = 64  # files; encoding an entry costs about 20 us, so folding costs a commit 1 ms
_COMPRESSION: Final = "null"  # pyiceberg compresses entry by entry, which costs time and saves nothing
_VERSION: Final = 2  # of the Iceberg format
# kept in memory: those of all live snapshots, which expiry looks through; they share most of their entries
_MANIFESTS_MAX: Final = limits.live_snapshots_max + 100
_LISTS_MAX: Final = 1_024  # kept in memory: about 10 kB each

_Kept = TypeVar("_Kept")


def _place(table: Table, location: str) -> str:
    """Return where a file is looked for: a copied lake keeps the names of the one it was copied from."""
    return table.io.path(location) if isinstance(table.io, LocalFiles) else location


class ManifestReader:
    """Reads manifests and lists of them, and keeps the last ones read: they never change."""

    def __init__(self) -> None:
        self._entries: OrderedDict[str, tuple[ManifestEntry, ...]] = OrderedDict()
        self._lists: OrderedDict[str, tuple[ManifestFile, ...]] = OrderedDict()

    def manifests(self, table: Table, snapshot: Snapshot | None) -> tuple[ManifestFile, ...]:
        """Return the manifests of ``snapshot``."""
        if snapshot is None:
            return ()
        found = self._lists.get(snapshot.manifest_list)
        if found is None:
            with reading_metadata(_place(table, snapshot.manifest_list)):
                found = tuple(read_manifest_list(table.io.new_input(snapshot.manifest_list)))
            _keep(self._lists, snapshot.manifest_list, found, _LISTS_MAX)
        return found

    def entries(self, table: Table, manifest: ManifestFile) -> tuple[ManifestEntry, ...]:
        """Return the live files of ``manifest``."""
        found = self._entries.get(manifest.manifest_path)
        if found is None:
            with reading_metadata(_place(table, manifest.manifest_path)):
                found = tuple(manifest.fetch_manifest_entry(table.io, discard_deleted=True))
            _keep(self._entries, manifest.manifest_path, found, _MANIFESTS_MAX)
        return found

    def remember_list(self, location: str, manifests: Sequence[ManifestFile]) -> None:
        """Keep a list that was just written."""
        _keep(self._lists, location, tuple(manifests), _LISTS_MAX)

    def remember_entries(self, manifest: ManifestFile, entries: Sequence[ManifestEntry]) -> None:
        """Keep the live files of a manifest that was just written."""
        _keep(self._entries, manifest.manifest_path, tuple(entries), _MANIFESTS_MAX)

    def data_files(self, table: Table, snapshot: Snapshot | None) -> list[DataFile]:
        """Return the data files of ``snapshot``."""
        manifests = self.manifests(table, snapshot)
        return [entry.data_file for manifest in manifests for entry in self.entries(table, manifest)]


def _keep(cache: OrderedDict[str, _Kept], key: str, value: _Kept, most: int) -> None:
    cache[key] = value
    while len(cache) > most:
        cache.popitem(last=False)


class _Sorted(NamedTuple):
    """The live files of a table, sorted by what a commit does to them."""

    kept: list[ManifestFile]  # manifests that stay as they are
    carried: list[ManifestEntry]  # files that move to the commit's own manifest
    removed: list[ManifestEntry]


def _sort(table: Table, reader: ManifestReader, add: AbstractSet[str], remove: AbstractSet[str]) -> _Sorted:
    """Decide which manifests stay.

    Raises:
        CommitConflict: a file to be removed is no longer in the table, or one to be added already is.
    """
    kept: list[ManifestFile] = []
    carried: list[ManifestEntry] = []
    removed: list[ManifestEntry] = []
    for manifest in reader.manifests(table, table.metadata.current_snapshot()):
        entries = reader.entries(table, manifest)
        gone = [entry for entry in entries if entry.data_file.file_path in remove]
        stay = [entry for entry in entries if entry.data_file.file_path not in remove]
        if again := [entry.data_file.file_path for entry in stay if entry.data_file.file_path in add]:
            raise CommitConflict(f"{len(again)} files to add are already in the table, the first is {again[0]}")
        if gone or (len(stay) < _FOLD_BELOW and (add or remove)):
            removed += gone
            carried += stay
        elif stay:
            kept.append(manifest)
    found = {entry.data_file.file_path for entry in removed}
    if missing := sorted(remove - found):
        raise CommitConflict(f"{len(missing)} files to remove are no longer in the table, the first is {missing[0]}")
    return _Sorted(kept, carried, removed)


def stage(
    table: Table,
    reader: ManifestReader,
    *,
    add: Sequence[DataFile],
    remove: AbstractSet[str],
    properties: Mapping[str, str],
    timestamp_ms: int,
    written: list[str],
) -> tuple[Snapshot, tuple[TableUpdate, ...]]:
    """Write the manifests of a new snapshot and return it with the updates that make it current.

    Args:
        table: the table as loaded; the commit must compare with it.
        reader: reads the manifests of its current snapshot.
        add: new data files.
        remove: locations of data files of the current snapshot.
        properties: go into the snapshot's summary.
        timestamp_ms: of the snapshot.
        written: takes the location of every metadata file before it is written, so that a failure can be cleaned up.

    Raises:
        CommitConflict: a file to be removed is no longer in the table, or one to be added already is.
        OSError: the disk is full.
    """
    metadata = table.metadata
    parent = metadata.current_snapshot()
    added = {data.file_path for data in add}
    if len(added) < len(add):
        raise CommitConflict("a file was to be added twice in one commit")
    files = _sort(table, reader, added, remove)
    snapshot_id = metadata.new_snapshot_id()
    name = uuid.uuid4()
    locations = table.location_provider()
    sequence_number = metadata.next_sequence_number()
    manifests = list(files.kept)
    if add or files.removed:
        written.append(locations.new_metadata_location(f"{name}-m0.avro"))
        manifest = _write_manifest(table, written[-1], snapshot_id, add, files)
        manifests.insert(0, manifest)
        reader.remember_entries(manifest, _as_read(snapshot_id, sequence_number, add, files))
    written.append(locations.new_metadata_location(f"snap-{snapshot_id}-0-{name}.avro"))
    with write_manifest_list(
        format_version=_VERSION,
        output_file=table.io.new_output(written[-1]),
        snapshot_id=snapshot_id,
        parent_snapshot_id=parent.snapshot_id if parent else None,
        sequence_number=sequence_number,
        avro_compression=_COMPRESSION,
    ) as list_writer:
        list_writer.add_manifests(manifests)
    if manifests and manifests[0].sequence_number == UNASSIGNED_SEQ:
        manifests[0].sequence_number = sequence_number  # as the list says it
    reader.remember_list(written[-1], manifests)
    snapshot = new_snapshot(
        snapshot_id,
        parent=parent,
        sequence_number=sequence_number,
        timestamp_ms=timestamp_ms,
        manifest_list=written[-1],
        summary=_summary(table, parent, add, [entry.data_file for entry in files.removed], properties),
        schema_id=metadata.current_schema_id,
    )
    return snapshot, add_snapshot(snapshot)


def _write_manifest(
    table: Table, location: str, snapshot_id: int, add: Sequence[DataFile], files: _Sorted
) -> ManifestFile:
    metadata = table.metadata
    with write_manifest(
        format_version=_VERSION,
        spec=metadata.spec(),
        schema=metadata.schema(),
        output_file=table.io.new_output(location),
        snapshot_id=snapshot_id,
        avro_compression=_COMPRESSION,
    ) as writer:
        for data in add:
            status = ManifestEntryStatus.ADDED
            writer.add_entry(ManifestEntry.from_args(status=status, snapshot_id=snapshot_id, data_file=data))
        for entry in files.carried:
            writer.existing(entry)
        for entry in files.removed:
            writer.delete(entry)
    return writer.to_manifest_file()


def _as_read(snapshot_id: int, sequence_number: int, add: Sequence[DataFile], files: _Sorted) -> list[ManifestEntry]:
    """Return the live entries of the manifest as they will be read: new files take their numbers from the snapshot."""
    added = [
        ManifestEntry.from_args(
            status=ManifestEntryStatus.ADDED,
            snapshot_id=snapshot_id,
            sequence_number=sequence_number,
            file_sequence_number=sequence_number,
            data_file=data,
        )
        for data in add
    ]
    return [*added, *files.carried]


def _summary(
    table: Table,
    parent: Snapshot | None,
    add: Sequence[DataFile],
    removed: Sequence[DataFile],
    properties: Mapping[str, str],
) -> Summary:
    counts = SnapshotSummaryCollector()
    schema = table.metadata.schema()
    for data in add:
        counts.add_file(data, schema)
    for data in removed:
        counts.remove_file(data, schema)
    operation = Operation.OVERWRITE if removed else Operation.APPEND
    summary = Summary(operation, **counts.build(), **properties)
    return update_snapshot_summaries(summary, parent.summary if parent else None)
