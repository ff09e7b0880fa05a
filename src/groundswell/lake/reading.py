"""What every lake says of its files and how it selects from them: pure functions on Arrow tables."""

# pyarrow.compute makes its functions when it is imported, so their names are not in its source
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from groundswell import limits
from groundswell.errors import InvalidInput
from groundswell.lake.contract import LakeFile

__all__ = ["check_columns", "describe", "file_order", "fill", "in_range", "select"]

_CODED: Final = pa.dictionary(pa.int32(), pa.string())  # what Parquet's own dictionaries are read as


def describe(path: str, table: pa.Table, *, sorted_run: int, size: int, opaque: object = None) -> LakeFile:
    """Return what the lake knows of a data file that holds ``table``."""
    received = pc.min_max(table.column("received_at").cast(pa.int64()))
    low = high = None
    if "unit_hash" in table.column_names:
        units = pc.min_max(table.column("unit_hash"))
        low, high = units["min"].as_py(), units["max"].as_py()
    return LakeFile(
        path=path,
        rows=table.num_rows,
        bytes=size,
        unit_hash_min=low,
        unit_hash_max=high,
        received_min_us=received["min"].as_py(),
        received_max_us=received["max"].as_py(),
        sorted_run=sorted_run,
        opaque=opaque,
    )


def file_order(file: LakeFile) -> tuple[int, int, str]:
    """Order files: fresh ones first, then run by run, a run's rows without a unit before its ranges."""
    return (file.sorted_run, limits.integer_min if file.unit_hash_min is None else file.unit_hash_min, file.path)


def check_columns(schema: pa.Schema, columns: Sequence[str], coded: Collection[str] = ()) -> pa.Schema:
    """Return the schema of ``columns``; text in those named in ``coded`` is dictionary-encoded.

    Raises:
        InvalidInput: the lake has no such column.
    """
    for name in columns:
        if schema.get_field_index(name) < 0:
            raise InvalidInput("column", name, "must be a column of the lake", next_step="apply its definition first")
    types = {name: schema.field(name).type for name in columns}
    return pa.schema(
        [(name, _CODED if name in coded and pa.types.is_string(one) else one) for name, one in types.items()]
    )


def in_range(table: pa.Table, unit_hash: tuple[int, int]) -> pa.Table:
    """Return the rows whose ``unit_hash`` lies in the range, both ends inclusive; rows without one are left out."""
    low, high = unit_hash
    units = table.column("unit_hash")
    mask = pc.and_(pc.greater_equal(units, low), pc.less_equal(units, high))
    count = pc.sum(mask).as_py() or 0
    if count == table.num_rows:
        return table
    start = pc.index(mask, True).as_py() if count else 0
    if pc.all(mask.slice(start, count), skip_nulls=False).as_py():
        return table.slice(start, count)  # of a sorted file: nothing is copied
    return table.filter(mask)


def select(
    schema: pa.Schema,
    tables: Sequence[pa.Table],
    columns: Sequence[str],
    unit_hash: tuple[int, int] | None,
    coded: Collection[str] = (),
) -> pa.Table:
    """Return ``columns`` of ``tables`` one after the other; a column that a table lacks is null."""
    wanted = check_columns(schema, columns, coded)
    parts = [wanted.empty_table()]
    for table in tables:
        rows = table
        if unit_hash is not None:
            rows = in_range(table, unit_hash) if "unit_hash" in table.column_names else table.slice(0, 0)
        parts.append(fill(rows, wanted))
    return pa.concat_tables(parts)


def fill(table: pa.Table, wanted: pa.Schema) -> pa.Table:
    """Return ``table`` with exactly the columns of ``wanted``, null where it lacks them."""
    arrays = []
    for field in wanted:
        index = table.schema.get_field_index(field.name)
        if index < 0:
            arrays.append(pa.chunked_array([pa.nulls(table.num_rows, field.type)], type=field.type))
        else:
            column = table.column(index)
            arrays.append(column if column.type == field.type else column.cast(field.type))
    return pa.Table.from_arrays(arrays, schema=wanted)
