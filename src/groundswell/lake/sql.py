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
from groundswell.errors import Corrupt, GroundswellError, InvalidInput, Unavailable
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
        Corrupt: a data file is damaged or missing; the message names it.
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
            _check_named_file(lake, files, error)
            raise _told(text, error) from error


def _check_named_file(lake: Lake, files: Sequence[LakeFile], error: duckdb.Error) -> None:
    """Raise what is wrong with a data file where DuckDB's message names one: the query is not to blame.

    Raises:
        Corrupt, SnapshotGone: of that file.
    """
    if isinstance(error, duckdb.ParserException | duckdb.BinderException | duckdb.CatalogException):
        return  # these speak of the statement, which may name a file itself
    message = _message(error)
    for file in files:
        if file.path in message:
            lake.columns([file])  # knows whether it is gone and whether it may be
            raise Corrupt(f"data file {file.path} is damaged ({message}); restore it from a backup") from error


def _message(error: duckdb.Error) -> str:
    return "; ".join(str(error).strip().split("\n\n", 1)[0].splitlines())  # without the picture of the statement


def _told(text: str, error: duckdb.Error) -> GroundswellError:
    message = _message(error)
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
