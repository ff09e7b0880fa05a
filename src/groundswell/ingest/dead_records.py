"""Dead letters in the log: how a record of the dead-letter topic is written and read. Pure functions.

Format 1
    an Arrow IPC stream whose schema metadata carries ``groundswell.format`` = 1 and ``groundswell.kind``
    kind ``letters``   the columns of ``wire.schema.DEAD_SCHEMA``, the event's ``type`` where it has one, and
                       ``partition``, ``offset``, ``row``: its place in the events topic. The three together are the
                       letter's id, so a worker that appends a letter again after a crash gives it the same id
    kind ``marks``     ``partition``, ``offset``, ``row`` of a letter that was tried again; ``outcome`` is ``replayed``,
                       or ``failed`` with today's ``reason``, ``field`` and ``message``
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, Literal

import msgspec
import pyarrow as pa

from groundswell.errors import Corrupt
from groundswell.wire.schema import DEAD_SCHEMA

__all__ = ["LETTERS_SCHEMA", "MARKS_SCHEMA", "Kind", "decode_dead", "encode_dead", "letters_table"]

Kind = Literal["letters", "marks"]

_PLACE: Final = [("partition", pa.int32()), ("offset", pa.int64()), ("row", pa.int32())]
LETTERS_SCHEMA: Final = pa.schema([*DEAD_SCHEMA, pa.field("type", pa.string()), *pa.schema(_PLACE)])
MARKS_SCHEMA: Final = pa.schema(
    [
        *pa.schema(_PLACE),
        ("outcome", pa.string()),
        ("reason", pa.string()),
        ("field", pa.string()),
        ("message", pa.string()),
    ]
)
_FORMAT: Final = b"1"
_SCHEMAS: Final[dict[Kind, pa.Schema]] = {"letters": LETTERS_SCHEMA, "marks": MARKS_SCHEMA}


def letters_table(partition: int, dead: Iterable[tuple[int, pa.RecordBatch]]) -> pa.Table:
    """Return the dead letters of a partition's records, given as (offset, rows of ``DEAD_SCHEMA``)."""
    parts = [LETTERS_SCHEMA.empty_table()]
    for offset, rows in dead:
        count = rows.num_rows
        place = [
            pa.array([partition] * count, pa.int32()),
            pa.array([offset] * count, pa.int64()),
            pa.array(range(count), pa.int32()),
        ]
        types = pa.array([_type_of(raw) for raw in rows.column("raw").to_pylist()], pa.string())
        columns = [*(rows.column(field.name) for field in DEAD_SCHEMA), types]
        parts.append(pa.Table.from_arrays([*columns, *place], schema=LETTERS_SCHEMA))
    return pa.concat_tables(parts)


class _Typed(msgspec.Struct):
    type: object = None


def _type_of(raw: bytes) -> str | None:
    try:
        found = _TYPED.decode(raw).type
    except (msgspec.MsgspecError, RecursionError):
        return None
    return found if isinstance(found, str) else None


_TYPED: Final = msgspec.json.Decoder(_Typed)


def encode_dead(kind: Kind, table: pa.Table, *, rows_max: int) -> Sequence[bytes]:
    """Return payloads of at most ``rows_max`` rows each."""
    schema = _SCHEMAS[kind].with_metadata({b"groundswell.format": _FORMAT, b"groundswell.kind": kind.encode()})
    payloads: list[bytes] = []
    for start in range(0, table.num_rows, rows_max):
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, schema) as writer:
            writer.write_table(table.slice(start, rows_max).cast(schema))
        payloads.append(sink.getvalue().to_pybytes())
    return payloads


def decode_dead(payload: bytes) -> tuple[Kind, pa.Table]:
    """Return the kind and the rows of a payload.

    Raises:
        Corrupt: it is not one, or of a format that this version does not know.
    """
    try:
        with pa.ipc.open_stream(payload) as reader:
            table = reader.read_all()
    except pa.ArrowInvalid as error:
        raise Corrupt(f"a record of the dead-letter topic does not decode: {error}") from error
    metadata = table.schema.metadata or {}
    kind = metadata.get(b"groundswell.kind", b"").decode()
    if metadata.get(b"groundswell.format") != _FORMAT or kind not in _SCHEMAS:
        raise Corrupt(f"a record of the dead-letter topic has format {metadata!r}; this version reads format 1")
    return ("letters" if kind == "letters" else "marks"), table.replace_schema_metadata(None)
