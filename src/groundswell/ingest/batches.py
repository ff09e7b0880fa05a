"""Decoded records of one partition as one table, and what became of its rows. Pure functions.

Invariants
    rows keep the order of the log
    every event of the records is in the table or among the dead letters
"""

# pyarrow.compute makes its functions when it is imported, so their names are not in its source
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from groundswell.ingest.contribution import OffsetRange
from groundswell.ingest.feed import Taken
from groundswell.model.ledger import LakeCounts

__all__ = ["CONFLICT", "DUPLICATE", "NEW", "DeadBatch", "Gathered", "concat", "count_fates", "gather", "keep_new"]

NEW: Final = 0
DUPLICATE: Final = 1
CONFLICT: Final = 2

Fates = npt.NDArray[np.uint8]


class DeadBatch(NamedTuple):
    """The dead letters of one record of the log."""

    offset: int
    rows: pa.RecordBatch


class Gathered(NamedTuple):
    """Records of one partition, decoded: ``table`` None where they hold no event that can be counted."""

    partition: int
    range: OffsetRange
    table: pa.Table | None
    dead: tuple[DeadBatch, ...]
    watermark_us: int | None
    appended_at_us: int
    definitions_version: int


def gather(partition: int, start: int, taken: Sequence[Taken]) -> Gathered:
    """Return ``taken`` as one table. ``start`` is the offset at which the range begins: logs may have holes."""
    batches = [one.content.batch for one in taken if one.content.batch.num_rows]
    dead = [DeadBatch(one.record.offset, one.content.dead) for one in taken if one.content.dead.num_rows]
    table = concat(batches) if batches else None
    moments = [one.content.heartbeat_us for one in taken if one.content.heartbeat_us is not None]
    if table is not None:
        moments.append(_watermark_us(table))
    return Gathered(
        partition=partition,
        range=(start, taken[-1].record.offset + 1),
        table=table,
        dead=tuple(dead),
        watermark_us=max(moments, default=None),
        appended_at_us=taken[-1].record.appended_at_us,
        definitions_version=max(one.content.definitions_version for one in taken),
    )


def concat(parts: Sequence[pa.RecordBatch | pa.Table]) -> pa.Table:
    """Return ``parts`` one after the other; a column that a part lacks is null there."""
    tables = [part if isinstance(part, pa.Table) else pa.Table.from_batches([part]) for part in parts]
    first = tables[0].schema
    if all(table.schema.equals(first) for table in tables):
        return pa.concat_tables(tables)
    return pa.concat_tables(tables, promote_options="default")


def keep_new(table: pa.Table, fates: Fates) -> pa.Table:
    """Return the rows that are new."""
    new = fates == NEW
    return table if new.all() else table.filter(pa.array(new))


def count_fates(gathered: Gathered, fates: Fates | None) -> dict[str, LakeCounts]:
    """Return what became of each source's events."""
    counts: dict[str, LakeCounts] = {}
    if gathered.table is not None and fates is not None:
        source = gathered.table.column("source")
        dropped = fates != NEW
        conflicts = fates == CONFLICT
        total = _by_value(source)
        lost = _by_value(source.filter(pa.array(dropped))) if dropped.any() else {}
        clashed = _by_value(source.filter(pa.array(conflicts))) if conflicts.any() else {}
        for name, rows in total.items():
            duplicates = lost.get(name, 0)
            counts[name] = LakeCounts(
                committed=rows - duplicates, deduplicated=duplicates, conflicts=clashed.get(name, 0)
            )
    for batch in gathered.dead:
        for name, rows in _by_value(batch.rows.column("source")).items():
            counts[name] = counts.get(name, LakeCounts()) + LakeCounts(dead_lettered=rows)
    return counts


def add_counts(parts: Iterable[dict[str, LakeCounts]]) -> dict[str, LakeCounts]:
    """Return the sums by source."""
    total: dict[str, LakeCounts] = {}
    for part in parts:
        for name, counts in part.items():
            total[name] = total.get(name, LakeCounts()) + counts
    return total


def _by_value(column: pa.Array | pa.ChunkedArray) -> dict[str, int]:
    counted = pc.value_counts(column)
    return dict(zip(counted.field("values").to_pylist(), counted.field("counts").to_pylist(), strict=True))


def _watermark_us(table: pa.Table) -> int:
    """Return the largest min(ts, received_at): a phone whose clock is ahead moves no watermark."""
    ts, received = (table.column(name).cast(pa.int64()).to_numpy() for name in ("ts", "received_at"))
    return int(np.minimum(ts, received).max())
