"""Updates of the table's metadata, in pyiceberg's words."""

# pydantic takes a field by its own name or by its alias; type checkers know the alias alone
# pyright: reportCallIssue=false

from __future__ import annotations

from collections.abc import Iterable

from pyiceberg.table.refs import MAIN_BRANCH, SnapshotRefType
from pyiceberg.table.snapshots import Snapshot, Summary
from pyiceberg.table.update import (
    AddSnapshotUpdate,
    RemoveSchemasUpdate,
    RemoveSnapshotRefUpdate,
    RemoveSnapshotsUpdate,
    SetSnapshotRefUpdate,
    TableUpdate,
)

__all__ = ["add_snapshot", "drop_schemas", "drop_snapshots", "drop_tag", "new_snapshot", "set_tag"]


def new_snapshot(
    snapshot_id: int,
    *,
    parent: Snapshot | None,
    sequence_number: int,
    timestamp_ms: int,
    manifest_list: str,
    summary: Summary,
    schema_id: int,
) -> Snapshot:
    """Return a snapshot that follows ``parent``."""
    return Snapshot(
        snapshot_id=snapshot_id,
        parent_snapshot_id=parent.snapshot_id if parent else None,
        sequence_number=sequence_number,
        timestamp_ms=timestamp_ms,
        manifest_list=manifest_list,
        summary=summary,
        schema_id=schema_id,
    )


def add_snapshot(snapshot: Snapshot) -> tuple[TableUpdate, ...]:
    """Add ``snapshot`` and make it the current one."""
    return (
        AddSnapshotUpdate(snapshot=snapshot),
        SetSnapshotRefUpdate(ref_name=MAIN_BRANCH, type=SnapshotRefType.BRANCH, snapshot_id=snapshot.snapshot_id),
    )


def set_tag(name: str, snapshot_id: int, age_ms_max: int) -> TableUpdate:
    """Keep a snapshot until it is ``age_ms_max`` old."""
    return SetSnapshotRefUpdate(
        ref_name=name, type=SnapshotRefType.TAG, snapshot_id=snapshot_id, max_ref_age_ms=age_ms_max
    )


def drop_tag(name: str) -> TableUpdate:
    """Let a snapshot go."""
    return RemoveSnapshotRefUpdate(ref_name=name)


def drop_snapshots(snapshot_ids: Iterable[int]) -> TableUpdate:
    """Expire snapshots; tags on them go too, so none may be among them."""
    return RemoveSnapshotsUpdate(snapshot_ids=sorted(snapshot_ids))


def drop_schemas(schema_ids: Iterable[int]) -> TableUpdate:
    """Forget schemas that no snapshot uses."""
    return RemoveSchemasUpdate(schema_ids=sorted(schema_ids))
