"""Which partition an event belongs to: contiguous ranges of the hash, so that its files hold a range of units.

Invariants
    all events of a unit, and every retry of an event, go to one partition
    a dead letter goes by its identity alone: what it breaks may be its unit
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from groundswell.wire.hashing import fingerprints

__all__ = ["partition_of", "split", "split_dead"]


def partition_of(hashes: npt.NDArray[np.int64], partitions: int) -> npt.NDArray[np.int64]:
    """Return the partition of each hash: equal ranges of the signed order."""
    high = (hashes >> np.int64(32)) + np.int64(2**31)  # 0 .. 2**32 - 1, in the order of the hashes
    return (high * np.int64(partitions)) >> np.int64(32)


def split(batch: pa.RecordBatch, partitions: int) -> dict[int, pa.RecordBatch]:
    """Return the rows of each partition, in order: by ``unit_hash``, or ``event_hash`` where it is null."""
    unit, event = batch.column("unit_hash"), batch.column("event_hash")
    keys = np.asarray(unit.fill_null(0) if unit.null_count else unit)
    if unit.null_count:
        keys = np.where(np.asarray(unit.is_null()), np.asarray(event), keys)
    return _cut(batch, partition_of(keys, partitions), partitions)


def split_dead(dead: pa.RecordBatch, partitions: int) -> dict[int, pa.RecordBatch]:
    """Return the dead letters of each partition, in order, by the fingerprint of (source, event_id)."""
    if not dead.num_rows:
        return {}
    event_hash, _ = fingerprints(dead.column("source"), dead.column("event_id"))
    return _cut(dead, partition_of(event_hash, partitions), partitions)


def _cut(batch: pa.RecordBatch, which: npt.NDArray[np.int64], partitions: int) -> dict[int, pa.RecordBatch]:
    if partitions == 1 or not batch.num_rows:
        return {0: batch} if batch.num_rows else {}
    order = np.argsort(which, kind="stable")
    ends = np.cumsum(np.bincount(which, minlength=partitions)).tolist()
    if ends.count(0) + ends.count(batch.num_rows) == partitions:  # all in one
        return {int(which[0]): batch}
    sorted_batch = batch.take(pa.array(order))
    starts = [0, *ends[:-1]]
    return {
        partition: sorted_batch.slice(start, end - start)
        for partition, (start, end) in enumerate(zip(starts, ends, strict=True))
        if end > start
    }
