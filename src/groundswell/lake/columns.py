"""Columns of the one wide table, and the checks on what is written to it.

Invariants
    a column is added once and keeps its name and type for ever
    every column may be null: a file lacks the columns that are null in all its rows
"""

from __future__ import annotations

from typing import Final

import pyarrow as pa

from groundswell.errors import Conflict, InvalidInput
from groundswell.model.definitions import Definitions
from groundswell.wire.schema import events_schema

__all__ = ["FIRST_SCHEMA", "check_table", "missing_columns", "present_columns"]

FIRST_SCHEMA: Final = events_schema(
    Definitions()
)  # what a lake begins with: the envelope and the exposure's properties


def missing_columns(known: pa.Schema, definitions: Definitions) -> list[pa.Field]:
    """Return the fields that ``definitions`` ask for and ``known`` lacks.

    Raises:
        Conflict: a column exists with another type.
    """
    missing: list[pa.Field] = []
    for wanted in events_schema(definitions):
        index = known.get_field_index(wanted.name)
        if index < 0:
            missing.append(wanted)
        elif known.field(index).type != wanted.type:
            raise Conflict(
                f"property {wanted.name} is {wanted.type}, but its column in the lake is {known.field(index).type}; "
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
