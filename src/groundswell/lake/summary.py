"""What a snapshot's summary says: how far ingest came, and when by our own clock."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.snapshots import Snapshot as IcebergSnapshot

from groundswell.errors import Corrupt, SnapshotGone
from groundswell.lake.contract import IngestState, Snapshot

__all__ = ["snapshot_by_id", "state_of", "summarize", "to_snapshot"]

STATE: Final = "groundswell.state"
COMMITTED_AT: Final = "groundswell.committed-at-us"
_US_PER_MS: Final = 1_000


def summarize(state: IngestState, now_us: int) -> Mapping[str, str]:
    """Return the properties that a snapshot's summary carries."""
    return {STATE: msgspec.json.encode(state).decode(), COMMITTED_AT: str(now_us)}


def state_of(metadata: TableMetadata, snapshot: IcebergSnapshot | None) -> IngestState:
    """Return the state as of ``snapshot``.

    A snapshot that another engine made carries none; it has not moved ingest, so its nearest ancestor's state holds.

    Raises:
        Corrupt: no ancestor carries a state, or it cannot be read. To begin anew would count everything twice.
    """
    if snapshot is None:
        return IngestState()
    seen: IcebergSnapshot | None = snapshot
    while seen is not None:
        text = seen.summary.additional_properties.get(STATE) if seen.summary else None
        if text is not None:
            try:
                return msgspec.json.decode(text, type=IngestState)
            except msgspec.MsgspecError as error:
                raise Corrupt(f"the state in snapshot {seen.snapshot_id} cannot be read ({error})") from error
        seen = None if seen.parent_snapshot_id is None else metadata.snapshot_by_id(seen.parent_snapshot_id)
    raise Corrupt(f"snapshot {snapshot.snapshot_id} and its ancestors carry no ingest state; roll the table back")


def committed_at_us(snapshot: IcebergSnapshot) -> int:
    """Return when ``snapshot`` was committed, by the committer's clock."""
    text = snapshot.summary.additional_properties.get(COMMITTED_AT) if snapshot.summary else None
    return int(text) if text is not None and text.isdigit() else snapshot.timestamp_ms * _US_PER_MS


def to_snapshot(metadata: TableMetadata, snapshot: IcebergSnapshot) -> Snapshot:
    """Return the contract's form of ``snapshot``."""
    return Snapshot(snapshot.snapshot_id, committed_at_us(snapshot), state_of(metadata, snapshot))


def snapshot_by_id(metadata: TableMetadata, snapshot_id: int) -> IcebergSnapshot:
    """Return a live snapshot.

    Raises:
        SnapshotGone: it has expired or never was.
    """
    found = metadata.snapshot_by_id(snapshot_id)
    if found is None:
        raise SnapshotGone(f"snapshot {snapshot_id} is not in the lake: it has expired or never was")
    return found
