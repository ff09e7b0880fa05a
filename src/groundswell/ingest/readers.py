"""Files as numbered rows: CSV, TSV, NDJSON and Parquet, plain, gzip or zstd.

Invariants
    a row's number counts from 1 and depends on the file's bytes alone: broken rows count, blank lines do not
    a row that cannot be read is handed on as broken; the rows after it are still read
    memory is bounded by a chunk, whatever the file's size
"""

from __future__ import annotations

import codecs
import csv
import gzip
import hashlib
import io
import zlib
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Final, NamedTuple

import msgspec

from groundswell import limits
from groundswell.errors import InvalidDefinition, InvalidInput
from groundswell.ingest.mapping import FileFormat, FileMapping

__all__ = ["BrokenRow", "RowChunk", "file_digest", "format_of", "read_lines", "read_rows"]

_READ_BYTES: Final = 1 << 20
_SUFFIXES: Final[dict[str, FileFormat]] = {
    ".csv": "csv", ".tsv": "tsv", ".tab": "tsv", ".ndjson": "ndjson", ".jsonl": "ndjson", ".parquet": "parquet",
}  # fmt: skip
_PACKED: Final = (".gz", ".zst")


class BrokenRow(NamedTuple):
    """A row that cannot be read."""

    number: int
    reason: str
    message: str
    sample: bytes


class RowChunk(NamedTuple):
    """Rows in order: ``numbers[i]`` is the number of ``rows[i]``, which holds the wanted columns' cells."""

    numbers: Sequence[int]
    rows: Sequence[Sequence[Any]]
    broken: Sequence[BrokenRow]
    last: int  # number of the last row read, broken or not


def format_of(path: Path, mapping: FileMapping) -> FileFormat:
    """Return the mapping's format, else what the file's name says.

    Raises:
        InvalidInput: neither says it.
    """
    if mapping.format is not None:
        return mapping.format
    suffix = path.with_suffix("").suffix if path.suffix in _PACKED else path.suffix
    if suffix not in _SUFFIXES:
        raise InvalidInput(
            "file", str(path), f"must end in one of {', '.join(_SUFFIXES)}", next_step="write format: into the mapping"
        )
    return _SUFFIXES[suffix]


@contextmanager
def open_file(path: Path) -> Generator[IO[bytes]]:
    """Open a file's uncompressed bytes.

    Raises:
        InvalidInput: it cannot be opened, or is cut short or damaged while it is read.
    """
    try:
        with path.open("rb") as raw:
            if path.suffix == ".gz":
                with gzip.GzipFile(fileobj=raw) as unpacked:
                    yield unpacked  # pyright: ignore[reportReturnType]
            elif path.suffix == ".zst":
                with _zstd(path, raw) as unpacked:
                    yield unpacked
            else:
                yield raw
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise InvalidInput(
            "file", str(path), f"must be whole gzip data ({error})", next_step="fetch it again"
        ) from None
    except OSError as error:
        raise InvalidInput("file", str(path), f"must be readable ({error.strerror or error})") from None


@contextmanager
def _zstd(path: Path, raw: IO[bytes]) -> Generator[IO[bytes]]:
    """Unpack with Arrow, which notices a stream that was cut."""
    import pyarrow as pa

    try:
        with pa.CompressedInputStream(raw, "zstd") as unpacked:
            yield unpacked  # pyright: ignore[reportReturnType]
    except OSError as error:
        raise InvalidInput(
            "file", str(path), f"must be whole zstd data ({error})", next_step="fetch it again"
        ) from None


def file_digest(path: Path) -> str:
    """Return the SHA-256 of the file's uncompressed bytes in hex, as ``sha256sum`` prints it."""
    digest = hashlib.sha256()
    with open_file(path) as file:
        while block := file.read(_READ_BYTES):
            digest.update(block)
    return digest.hexdigest()


def read_rows(path: Path, mapping: FileMapping, columns: Sequence[str], *, chunk_rows: int) -> Iterator[RowChunk]:
    """Yield the cells of ``columns``, chunk by chunk; None where an NDJSON or Parquet row has none.

    Raises:
        InvalidDefinition: the mapping reads a column that the file lacks; names the mapping's line.
        InvalidInput: the file cannot be read at all.
    """
    kind = format_of(path, mapping)
    if kind == "parquet":
        yield from _read_parquet(path, mapping, columns, chunk_rows)
    elif kind == "ndjson":
        yield from _read_objects(path, columns, chunk_rows)
    else:
        yield from _read_table(path, mapping, columns, chunk_rows, "," if kind == "csv" else "\t")


def read_lines(path: Path, *, chunk_bytes: int) -> Iterator[bytes]:
    """Yield whole lines of an NDJSON file, about ``chunk_bytes`` at a time.

    Raises:
        InvalidInput: a line is longer than ``limits.import_line_bytes_max``, or the file cannot be read.
    """
    rest = b""
    with open_file(path) as file:
        while block := file.read(chunk_bytes):
            at = block.rfind(b"\n") + 1
            if at == 0:
                rest += block
                if len(rest) > limits.import_line_bytes_max:
                    rule = f"must be at most {limits.import_line_bytes_max}"
                    raise InvalidInput("line bytes", len(rest), rule, next_step="write one JSON object a line")
                continue
            yield rest + block[:at]
            rest = block[at:]
    if rest:
        yield rest


# --- CSV and TSV -------------------------------------------------------------------------------------------------


def _read_table(
    path: Path, mapping: FileMapping, columns: Sequence[str], chunk_rows: int, delimiter: str
) -> Iterator[RowChunk]:
    with open_file(path) as file:
        text = io.TextIOWrapper(file, "utf-8-sig", errors="surrogateescape", newline="")
        reader = csv.reader(text, delimiter=delimiter, strict=True)
        try:
            header = next(reader, None)
        except csv.Error as error:
            raise InvalidInput("header", str(path), f"must be a row of column names ({error})") from None
        if header is None:
            raise InvalidInput("file", str(path), "must have a header", next_step="write the column names first")
        places = _places(header, mapping, columns)
        builder = _ChunkBuilder(chunk_rows)
        while (cells := _next_row(reader, builder)) is not _END:
            if not cells:
                continue
            if len(cells) != len(header):
                rule = f"must be {len(header)}, as in the header"
                builder.add_broken("wrong_cells", f"cells == {len(cells)}, {rule}", delimiter.join(cells))
            else:
                builder.add([cells[place] for place in places])
            if builder.full:
                yield builder.take()
        yield builder.take()


_END: Final[list[str]] = []


def _next_row(reader: Any, builder: _ChunkBuilder) -> list[str]:
    """Return the next row; ``_END`` itself at the end. Rows that the csv module cannot cut are noted as broken."""
    while True:
        try:
            return next(reader, _END)
        except csv.Error as error:
            builder.add_broken("not_csv", f"row == unreadable, {error}", "")


def _places(header: Sequence[str], mapping: FileMapping, columns: Sequence[str]) -> list[int]:
    """Return where each of ``columns`` stands in ``header``."""
    lines = dict(mapping.columns())
    places: list[int] = []
    for column in columns:
        count = header.count(column)
        if count != 1:
            rule = "must be a column of the file" if count == 0 else "must be the name of one column, not of several"
            shown = ", ".join(header[:12]) + (", ..." if len(header) > 12 else "")
            raise InvalidDefinition(
                "column", column, rule, next_step=f"it has {shown}", file=mapping.file, line=lines.get(column)
            )
        places.append(header.index(column))
    return places


class _ChunkBuilder:
    """Collects numbered rows."""

    def __init__(self, chunk_rows: int) -> None:
        self._chunk_rows = chunk_rows
        self._number = 0
        self._numbers: list[int] = []
        self._rows: list[Sequence[Any]] = []
        self._broken: list[BrokenRow] = []

    @property
    def full(self) -> bool:
        return len(self._rows) + len(self._broken) >= self._chunk_rows

    def add(self, cells: Sequence[Any]) -> None:
        self._number += 1
        self._numbers.append(self._number)
        self._rows.append(cells)

    def add_broken(self, reason: str, message: str, sample: str) -> None:
        self._number += 1
        shown = sample.encode("utf-8", "surrogateescape")[: limits.refused_sample_bytes_max]
        self._broken.append(BrokenRow(self._number, reason, message, shown))

    def take(self) -> RowChunk:
        chunk = RowChunk(self._numbers, self._rows, self._broken, self._number)
        self._numbers, self._rows, self._broken = [], [], []
        return chunk


# --- NDJSON that is mapped ---------------------------------------------------------------------------------------


def _read_objects(path: Path, columns: Sequence[str], chunk_rows: int) -> Iterator[RowChunk]:
    decode = msgspec.json.Decoder(dict[str, Any]).decode
    paths = [tuple(column.split(".")) for column in columns]
    builder = _ChunkBuilder(chunk_rows)
    for block in read_lines(path, chunk_bytes=_READ_BYTES):
        for line in block.removeprefix(codecs.BOM_UTF8).split(b"\n"):
            if not line.strip():
                continue
            try:
                row = decode(line)
            except (msgspec.MsgspecError, RecursionError) as error:
                builder.add_broken("not_json", f"row == unreadable, {error}", line.decode("utf-8", "surrogateescape"))
            else:
                builder.add([_dig(row, names) for names in paths])
            if builder.full:
                yield builder.take()
    yield builder.take()


def _dig(value: Any, names: Sequence[str]) -> Any:
    for name in names:
        if not isinstance(value, dict):
            return None
        value = value.get(name)
    return value


# --- Parquet -----------------------------------------------------------------------------------------------------


def _read_parquet(path: Path, mapping: FileMapping, columns: Sequence[str], chunk_rows: int) -> Iterator[RowChunk]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            _places(file.schema_arrow.names, mapping, columns)
            builder = _ChunkBuilder(chunk_rows)
            for batch in file.iter_batches(batch_size=chunk_rows, columns=list(columns) or None):
                cells = [batch.column(column).to_pylist() for column in columns]
                for row in zip(*cells, strict=True) if columns else ((),) * batch.num_rows:
                    builder.add(row)
                yield builder.take()
    except (pa.ArrowInvalid, OSError) as error:
        raise InvalidInput("file", str(path), f"must be a readable Parquet file ({error})") from None
