"""Upkeep: snapshots expire, and the files that only they named are deleted once no reader can need them.

Invariants
    a file named by a live or tagged snapshot is never deleted
    a file that an expired snapshot named stays for ``limits.snapshot_age_s_min`` after that snapshot was replaced
    a file that no snapshot names and none named before stays for ``limits.orphan_age_s_min``: a commit may be under way

Between expiry and deletion the doomed files are listed in ``expired/<due>-<id>.json`` beside the data. A crash before
the list is written leaves orphans, which are found by their age.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Final, NamedTuple

import msgspec
from pyiceberg.table import Table
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.refs import SnapshotRefType
from pyiceberg.table.snapshots import Snapshot
from pyiceberg.table.update import TableUpdate

from groundswell import limits
from groundswell.lake.files import ensure_folder, local_path, sync_folder
from groundswell.lake.manifests import ManifestReader
from groundswell.lake.retention import Life, expiring, files_due_us
from groundswell.lake.summary import committed_at_us
from groundswell.lake.updates import drop_schemas, drop_snapshots, drop_tag

__all__ = ["Expiry", "delete_due", "named_files", "old_files", "plan_expiry", "postpone", "waiting"]

_LISTS: Final = "expired"
_US_PER_MS: Final = 1_000
_US_PER_S: Final = 1_000_000


class Expiry(NamedTuple):
    """What an expiry changes."""

    snapshots: list[Life]
    updates: tuple[TableUpdate, ...]


def plan_expiry(metadata: TableMetadata, now_us: int) -> Expiry:
    """Return which snapshots, tags and schemas go."""
    over = [
        name
        for name, ref in metadata.refs.items()
        if ref.snapshot_ref_type == SnapshotRefType.TAG
        and ref.max_ref_age_ms is not None
        and (found := metadata.snapshot_by_id(ref.snapshot_id)) is not None
        and (found.timestamp_ms + ref.max_ref_age_ms) * _US_PER_MS <= now_us
    ]
    tagged = {ref.snapshot_id for name, ref in metadata.refs.items() if name not in over}
    gone = expiring(_lives(metadata), tagged, now_us)
    updates: list[TableUpdate] = [drop_tag(name) for name in over]
    gone_ids = {life.snapshot_id for life in gone}
    if gone_ids:
        updates.append(drop_snapshots(gone_ids))
    if over or gone_ids:
        updates += _unused_schemas(metadata, gone_ids)
    return Expiry(gone, tuple(updates))


def _lives(metadata: TableMetadata) -> list[Life]:
    ordered = sorted(metadata.snapshots, key=lambda one: one.sequence_number or 0)
    followers = [*ordered[1:], None]
    return [
        Life(one.snapshot_id, None if follower is None else committed_at_us(follower))
        for one, follower in zip(ordered, followers, strict=False)
    ]


def _unused_schemas(metadata: TableMetadata, gone: AbstractSet[int]) -> list[TableUpdate]:
    used = {one.schema_id for one in metadata.snapshots if one.snapshot_id not in gone} | {metadata.current_schema_id}
    unused = [schema.schema_id for schema in metadata.schemas if schema.schema_id not in used]
    return [drop_schemas(unused)] if unused else []


def named_files(table: Table, reader: ManifestReader, snapshots: list[Snapshot], folder: str) -> set[str]:
    """Return the paths of every file that ``snapshots`` name: lists, manifests, data."""
    named: set[str] = set()
    read: set[str] = set()
    for snapshot in snapshots:
        named.add(snapshot.manifest_list)
        for manifest in reader.manifests(table, snapshot):
            if manifest.manifest_path in read:
                continue
            read.add(manifest.manifest_path)
            named.add(manifest.manifest_path)
            named |= {entry.data_file.file_path for entry in reader.entries(table, manifest)}
    return {local_path(location, folder) for location in named}


def postpone(folder: str, doomed: AbstractSet[str], expired: list[Life]) -> None:
    """List files for deletion when no reader can need them."""
    if not doomed:
        return
    lists = f"{folder}/{_LISTS}"
    ensure_folder(lists)
    below = sorted(path.removeprefix(f"{folder}/") for path in doomed)
    target = Path(lists) / f"{files_due_us(expired)}-{uuid.uuid4().hex}.json"
    partial = target.with_suffix(".partial")
    partial.write_bytes(msgspec.json.encode(below))
    partial.rename(target)
    sync_folder(lists)


def delete_due(folder: str, now_us: int) -> int:
    """Delete listed files whose time has come. Return how many."""
    deleted = 0
    for due_us, target in _lists(folder):
        if due_us > now_us:
            continue
        for name in msgspec.json.decode(target.read_bytes(), type=list[str]):
            path = Path(folder) / name
            deleted += path.exists()
            path.unlink(missing_ok=True)
        target.unlink(missing_ok=True)
    return deleted


def _lists(folder: str) -> Iterator[tuple[int, Path]]:
    lists = Path(folder) / _LISTS
    for target in sorted(lists.glob("*.json")) if lists.is_dir() else []:
        yield int(target.name.split("-", 1)[0]), target


def waiting(folder: str) -> set[str]:
    """Return the paths of files that are listed for deletion."""
    return {
        f"{folder}/{name}"
        for _, target in _lists(folder)
        for name in msgspec.json.decode(target.read_bytes(), type=list[str])
    }


def old_files(folder: str, now_us: int) -> set[str]:
    """Return the paths of data and metadata files that were last written longer ago than a commit can take."""
    oldest_s = now_us / _US_PER_S - limits.orphan_age_s_min
    found: set[str] = set()
    for part in ("data", "metadata", _LISTS):
        for parent, _, names in os.walk(f"{folder}/{part}"):
            for name in names:
                path = Path(parent) / name
                if (part != _LISTS or name.endswith(".partial")) and path.stat().st_mtime < oldest_s:
                    found.add(str(path))
    return found
