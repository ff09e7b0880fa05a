"""SQL over one snapshot, read only: DuckDB sees the view ``events`` and nothing else of this machine.

Invariants
    one statement, and it must be a SELECT: every other kind can write a file or change a setting
    only the data files of the snapshot can be opened; no other file, no network, no extension, no Python object
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import duckdb
import pyarrow as pa

from groundswell import limits
from groundswell.errors import GroundswellError, InvalidInput, Unavailable
from groundswell.lake.contract import Lake, LakeFile

__all__ = ["query"]

_SQL_TYPES: Final[Mapping[pa.DataType, str]] = {
    pa.string(): "VARCHAR",
    pa.int64(): "BIGINT",
    pa.int32(): "INTEGER",
    pa.float64(): "DOUBLE",
    pa.bool_(): "BOOLEAN",
    pa.timestamp("us", tz="UTC"): "TIMESTAMPTZ",
}
_CONFIG: Final[Mapping[str, str | bool | int | float | list[str]]] = {
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "allow_community_extensions": "false",
    "python_enable_replacements": "false",
    "temp_directory": "",
    "memory_limit": f"{limits.sql_memory_bytes_max // 2**20}MiB",
}


def query(lake: Lake, text: str, *, snapshot_id: int | None = None) -> pa.Table:
    """Return what a SELECT over the view ``events`` gives.

    Args:
        lake: a lake whose files are on local disk.
        text: one SELECT statement in DuckDB's SQL.
        snapshot_id: None is the newest.

    Raises:
        InvalidInput: ``text`` is not one SELECT, or DuckDB finds fault with it.
        SnapshotGone: the snapshot has expired.
        Unavailable: the answer needs more memory than ``limits.sql_memory_bytes_max``.
    """
    files = lake.files(snapshot_id)
    view = _view(lake.columns(), set(lake.columns(files).names), files)
    with duckdb.connect(":memory:", config=dict(_CONFIG)) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute(f"SET allowed_paths = {_list([file.path for file in files])}")
        connection.execute("SET enable_external_access = false")
        connection.execute("SET lock_configuration = true")
        try:
            connection.execute(view)
            statements = connection.extract_statements(text)
            if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
                raise InvalidInput("sql", text, "must be one SELECT statement", next_step="the lake is read only")
            return connection.sql(text).to_arrow_table()
        except duckdb.Error as error:
            raise _told(text, error) from error


def _told(text: str, error: duckdb.Error) -> GroundswellError:
    message = "; ".join(str(error).strip().split("\n\n", 1)[0].splitlines())  # without the picture of the statement
    if isinstance(error, duckdb.OutOfMemoryException):
        return Unavailable(f"the query needs more memory than it may have ({message}); select or group less")
    if isinstance(error, duckdb.PermissionException):
        rule = "must read the view events alone"
    elif isinstance(error, duckdb.IOException):
        return Unavailable(f"a data file cannot be read ({message}); run the query again")
    else:
        rule = f"must be valid: {message}"
    return InvalidInput("sql", text, rule)


def _view(schema: pa.Schema, present: set[str], files: Sequence[LakeFile]) -> str:
    """Return the view's definition: every column of the lake, null where no file has it."""
    columns = [
        f'"{field.name}"' if field.name in present else f'CAST(NULL AS {_SQL_TYPES[field.type]}) AS "{field.name}"'
        for field in schema
    ]
    source = f"read_parquet({_list([file.path for file in files])}, union_by_name = true)" if files else "(SELECT 1)"
    some = "" if files else " WHERE false"
    return f"CREATE VIEW events AS SELECT {', '.join(columns)} FROM {source}{some}"


def _list(paths: Sequence[str]) -> str:
    quoted = ", ".join("'" + path.replace("'", "''") + "'" for path in paths)
    return f"[{quoted}]"
