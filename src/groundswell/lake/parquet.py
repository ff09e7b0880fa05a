"""One data file: how it is written, what Iceberg is told of it, how it is read.

Invariants
    a file that was returned is on the disk, its name too
    columns carry Iceberg's field ids, so that every engine finds them by id
    every page carries a checksum; files of releases that wrote none are read all the same
    bounds are exact and kept for ``unit_hash``, ``ts`` and ``received_at`` alone: nothing else prunes
"""

from __future__ import annotations

import struct
import uuid
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final, NamedTuple, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.manifest import DataFile, DataFileContent, FileFormat
from pyiceberg.typedef import Record

from groundswell.errors import Corrupt, Unavailable
from groundswell.lake.columns import present_columns
from groundswell.lake.contract import LakeFile
from groundswell.lake.drivers import driver_errors
from groundswell.lake.files import ensure_folder, sync_file, sync_folder
from groundswell.lake.reading import fill, in_range
from groundswell.model.clock import format_us

__all__ = [
    "FileDetails",
    "column_names",
    "damaged_columns",
    "from_data_file",
    "lake_file",
    "read_file",
    "to_data_file",
    "write_file",
]

BOUNDED: Final = ("unit_hash", "ts", "received_at")
_STATISTICS: Final = [*BOUNDED, "type"]  # of row groups: ranges, days and event types prune
_ROWS_FRESH: Final = 512 * 1024  # a fresh file is read whole
_ROWS_SORTED: Final = 64 * 1024  # a reader of a range of units skips what lies outside
_SAMPLE: Final = 1024  # rows that decide whether a text column is worth a dictionary
_DISTINCT_MAX: Final = _SAMPLE // 4
_LONG: Final = struct.Struct("<q")  # how Iceberg writes long and timestamp bounds


class FileDetails(NamedTuple):
    """What a manifest says of a file beyond ``LakeFile``; it can be sent between processes."""

    bounds: Mapping[str, tuple[int, int]]  # column -> least and greatest value, in its int64 form
    nulls: Mapping[str, int]  # column -> rows without a value; a column that the file lacks counts every row
    split_offsets: tuple[int, ...]


def write_file(table: pa.Table, folder: str, field_ids: Mapping[str, int], *, sorted_run: int) -> LakeFile:
    """Write ``table`` below ``folder`` and wait until it is on the disk.

    Raises:
        Unavailable: the disk is full; nothing is left behind.
    """
    details, path = _bounds(table), Path(folder)
    if sorted_run:
        low, high = details.bounds.get("unit_hash", (0, -1))
        span = f"{low & _MASK:016x}-{high & _MASK:016x}" if low <= high else "none"
        path = path / "runs" / f"run-{sorted_run}-{span}-{uuid.uuid4().hex}.parquet"
    else:
        day = format_us(details.bounds["received_at"][0])[:10]
        path = path / "fresh" / day / f"{uuid.uuid4().hex}.parquet"
    with driver_errors(f"writing {path.name}"):
        ensure_folder(str(path.parent))
        try:
            metadata = _write_parquet(table, path, field_ids, _ROWS_SORTED if sorted_run else _ROWS_FRESH)
            sync_file(str(path))
            sync_folder(str(path.parent))
        except (OSError, pa.ArrowException):
            path.unlink(missing_ok=True)
            raise
    details = details._replace(split_offsets=_split_offsets(metadata))
    return lake_file(str(path), table.num_rows, path.stat().st_size, details)


_MASK: Final = (1 << 64) - 1


def _write_parquet(table: pa.Table, path: Path, field_ids: Mapping[str, int], rows: int) -> pq.FileMetaData:
    present = present_columns(table)
    fields = [field.with_metadata({b"PARQUET:field_id": b"%d" % field_ids[field.name]}) for field in present.schema]
    schema = pa.schema(fields)
    with pq.ParquetWriter(
        path,
        schema,
        compression="zstd",
        compression_level=1,
        use_dictionary=cast("Any", [name for name in schema.names if _wants_dictionary(present.column(name))]),
        write_statistics=cast("Any", [name for name in _STATISTICS if name in schema.names]),
        store_schema=False,
        write_page_checksum=True,
    ) as writer:
        writer.write_table(present.cast(schema) if present.schema != schema else present, row_group_size=rows)
    return pq.read_metadata(path)  # pyarrow's own collector hides the error of a full disk behind another


def _wants_dictionary(column: pa.ChunkedArray) -> bool:
    if pa.types.is_dictionary(column.type):
        return True
    if not pa.types.is_string(column.type):
        return False
    return len(column.slice(0, _SAMPLE).unique()) <= _DISTINCT_MAX


def _bounds(table: pa.Table) -> FileDetails:
    bounds: dict[str, tuple[int, int]] = {}
    nulls: dict[str, int] = {}
    for name in BOUNDED:
        index = table.schema.get_field_index(name)
        if index < 0:
            nulls[name] = table.num_rows
            continue
        column = table.column(index)
        nulls[name] = column.null_count
        values = column.cast(pa.int64()).drop_null().to_numpy()
        if len(values):
            bounds[name] = (int(np.min(values)), int(np.max(values)))
    return FileDetails(bounds, nulls, ())


def _split_offsets(metadata: pq.FileMetaData) -> tuple[int, ...]:
    starts: list[int] = []
    for group in range(metadata.num_row_groups):
        first = metadata.row_group(group).column(0)
        starts.append(first.dictionary_page_offset or first.data_page_offset)
    return tuple(starts)


def lake_file(path: str, rows: int, size: int, details: FileDetails) -> LakeFile:
    """Return what the contract says of a file; the id of its run is in its name."""
    low, high = details.bounds.get("unit_hash", (None, None))
    received = details.bounds["received_at"]
    return LakeFile(path, rows, size, low, high, *received, sorted_run=_run_of(path), opaque=details)


def _run_of(path: str) -> int:
    name = path.rpartition("/")[2]
    return int(name.split("-", 2)[1]) if name.startswith("run-") else 0


def to_data_file(file: LakeFile, location: str, field_ids: Mapping[str, int], spec_id: int) -> DataFile:
    """Return the manifest's description of ``file``."""
    details = file.opaque
    if not isinstance(details, FileDetails):
        raise TypeError(f"{file.path} was not written by this lake")
    present = {name: bounds for name, bounds in details.bounds.items() if name in field_ids}
    return DataFile.from_args(
        content=DataFileContent.DATA,
        file_path=location,
        file_format=FileFormat.PARQUET,
        partition=Record(),
        record_count=file.rows,
        file_size_in_bytes=file.bytes,
        column_sizes={},
        value_counts={field_ids[name]: file.rows for name in details.nulls},
        null_value_counts={field_ids[name]: count for name, count in details.nulls.items()},
        nan_value_counts={},
        lower_bounds={field_ids[name]: _LONG.pack(low) for name, (low, _) in present.items()},
        upper_bounds={field_ids[name]: _LONG.pack(high) for name, (_, high) in present.items()},
        key_metadata=None,
        split_offsets=list(details.split_offsets) or None,
        equality_ids=None,
        sort_order_id=None,
        spec_id=spec_id,
    )


def from_data_file(data: DataFile, path: str, field_ids: Mapping[str, int]) -> LakeFile:
    """Return the file that a manifest describes.

    Raises:
        Corrupt: the manifest lacks the bounds that this lake always writes.
    """
    lower, upper, nulls = data.lower_bounds or {}, data.upper_bounds or {}, data.null_value_counts or {}
    bounds = {
        name: (_LONG.unpack(lower[field_ids[name]])[0], _LONG.unpack(upper[field_ids[name]])[0])
        for name in BOUNDED
        if field_ids[name] in lower and field_ids[name] in upper
    }
    if "received_at" not in bounds:
        raise Corrupt(f"the manifest knows no bounds of received_at for {path}; it was not written by Groundswell")
    counts = {name: nulls.get(field_ids[name], 0) for name in BOUNDED}
    details = FileDetails(bounds, counts, tuple(data.split_offsets or ()))
    return lake_file(path, data.record_count, data.file_size_in_bytes, details)


def column_names(path: str) -> list[str]:
    """Return the columns that the file has."""
    with pq.ParquetFile(path) as file:
        return file.schema_arrow.names


def damaged_columns(path: str, what: str) -> dict[str, str]:
    """Return what is wrong with each damaged column; holds one column of one row group in memory at a time.

    Raises:
        FileNotFoundError: the file is not there.
        Corrupt: its footer is damaged, so nothing of it can be read.
    """
    damaged: dict[str, str] = {}
    with ExitStack() as open_files:
        with driver_errors(what):
            file = open_files.enter_context(pq.ParquetFile(path, page_checksum_verification=True))
            names, groups = file.schema_arrow.names, file.num_row_groups
        for name in names:
            try:
                for group in range(groups):
                    with driver_errors(what):
                        file.read_row_group(group, columns=[name], use_threads=False).validate(full=True)
            except (Corrupt, Unavailable) as error:
                damaged[name] = str(error)
    return damaged


def read_file(path: str, wanted: pa.Schema, unit_hash: tuple[int, int] | None) -> pa.Table:
    """Return the columns of ``wanted``, null where the file lacks them; with a range only its row groups are read.

    Raises:
        FileNotFoundError: the file is not there.
        pa.ArrowInvalid: it is no Parquet file.
    """
    metadata = pq.read_metadata(path)
    present = set(metadata.schema.names)
    coded = [field.name for field in wanted if pa.types.is_dictionary(field.type) and field.name in present]
    with pq.ParquetFile(path, metadata=metadata, memory_map=False, read_dictionary=coded) as file:
        names = set(file.schema_arrow.names)
        columns = [field.name for field in wanted if field.name in names]
        if unit_hash is None:
            return fill(_with_rows(file.read(columns=columns), file.metadata.num_rows), wanted)
        if "unit_hash" not in names:
            return wanted.empty_table()
        groups = _groups_in_range(file.metadata, file.schema_arrow.names.index("unit_hash"), unit_hash)
        rows = file.read_row_groups(groups, columns=list(dict.fromkeys([*columns, "unit_hash"])))
    return fill(in_range(rows, unit_hash), wanted)


def _with_rows(table: pa.Table, rows: int) -> pa.Table:
    """Keep the number of rows of a file that has none of the columns asked for."""
    return table if table.num_columns else pa.table({"": pa.nulls(rows)})


def _groups_in_range(metadata: pq.FileMetaData, column: int, unit_hash: tuple[int, int]) -> list[int]:
    groups: list[int] = []
    for group in range(metadata.num_row_groups):
        statistics = metadata.row_group(group).column(column).statistics
        if (
            statistics is None
            or not statistics.has_min_max
            or (statistics.min <= unit_hash[1] and statistics.max >= unit_hash[0])
        ):
            groups.append(group)
    return groups
