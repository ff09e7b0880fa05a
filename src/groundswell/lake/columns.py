"""Columns of the one wide table as Arrow sees them, and the checks on what is written to it.

Invariants
    the envelope comes first, in its own order; properties follow in the order in which they were added
    every column may be null: a file lacks the columns that are null in all its rows
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import pyarrow as pa

from groundswell.errors import Conflict, InvalidInput
from groundswell.model.definitions import Definitions
from groundswell.model.event import ENVELOPE

__all__ = ["ENVELOPE_SCHEMA", "arrow_type", "check_table", "declared_columns", "merge_columns", "present_columns"]

_ARROW_TYPES: Final[Mapping[str, pa.DataType]] = {
    "string": pa.string(),
    "timestamp": pa.timestamp("us", tz="UTC"),
    "long": pa.int64(),
    "int": pa.int64(),
    "float": pa.float64(),
    "bool": pa.bool_(),
}


def arrow_type(property_type: str) -> pa.DataType:
    """Return the Arrow type of a property's (or an envelope column's) logical type."""
    return _ARROW_TYPES[property_type]


def _envelope_type(logical: str) -> pa.DataType:
    return pa.int32() if logical == "int" else arrow_type(logical)


ENVELOPE_SCHEMA: Final = pa.schema([(name, _envelope_type(logical)) for name, logical in ENVELOPE.items()])


def declared_columns(definitions: Definitions) -> dict[str, pa.DataType]:
    """Return the column types that ``definitions`` ask for, envelope first."""
    columns = {field.name: field.type for field in ENVELOPE_SCHEMA}
    columns |= {name: arrow_type(prop.type) for name, prop in definitions.properties.items()}
    return columns


def merge_columns(known: pa.Schema, definitions: Definitions) -> list[pa.Field]:
    """Return the fields that ``known`` lacks.

    Raises:
        Conflict: a column exists with another type.
    """
    missing: list[pa.Field] = []
    for name, wanted in declared_columns(definitions).items():
        index = known.get_field_index(name)
        if index < 0:
            missing.append(pa.field(name, wanted))
        elif known.field(index).type != wanted:
            raise Conflict(
                f"property {name} is {wanted}, but its column in the lake is {known.field(index).type}; "
                "a column keeps its type: give the property another name"
            )
    return missing


def check_table(known: pa.Schema, table: pa.Table) -> None:
    """Hold ``table`` against the lake's columns.

    Raises:
        InvalidInput: it has no rows, a column that the lake has not, one with another type, or lacks received_at.
    """
    if table.num_rows == 0:
        raise InvalidInput("rows", 0, "a data file must have at least one row")
    for field in table.schema:
        index = known.get_field_index(field.name)
        if index < 0:
            raise InvalidInput(
                "column", field.name, "must be a column of the lake", next_step="commit it first by ensure_columns"
            )
        wanted = known.field(index).type
        found = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
        if found != wanted:
            raise InvalidInput(f"type of column {field.name}", str(field.type), f"must be {wanted}")
    received = table.schema.get_field_index("received_at")
    if received < 0 or table.column(received).null_count:
        raise InvalidInput("received_at", None, "every row must have one")


def present_columns(table: pa.Table) -> pa.Table:
    """Return ``table`` without the columns that are null in every row."""
    present = [name for name in table.column_names if table.column(name).null_count < table.num_rows]
    return table.select(present)
