"""The form of a record in the log: what one group commit brought to one partition.

    offset 0   4 bytes   magic ``GWR`` and the format, 1
           4   u32       version of the definitions that decoded it
           8   i64       heartbeat: the writer's clock in microseconds, or -2**63
          16   u64       length of the rows' Arrow IPC stream; 0 where there are none
          24   u64       length of the dead letters' Arrow IPC stream; 0 where there are none
          32   32 bytes  zero, so that the streams stay aligned
          64   the streams, the first padded to 8 bytes

Numbers are little-endian. There is no checksum: the log keeps one.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

import pyarrow as pa
from pyarrow import ipc

from groundswell.errors import Corrupt, InvalidInput
from groundswell.wire.schema import DEAD_SCHEMA

__all__ = ["FORMAT", "NO_DEAD", "NO_ROWS", "RecordContent", "decode_record", "encode_record"]

FORMAT: Final = 1
_MAGIC: Final = b"GWR" + bytes([FORMAT])
_HEADER: Final = struct.Struct("<4sIqQQ32x")
_NO_HEARTBEAT: Final = -(2**63)
_COMPRESSED: Final = ipc.IpcWriteOptions(compression="lz4", use_threads=False)
_READ: Final = ipc.IpcReadOptions(use_threads=False)
_PLAIN: Final = ipc.IpcWriteOptions(use_threads=False)
_COMPRESS_FROM_BYTES: Final = 64 * 1024  # below it, setting up a compressor for each column costs more than it saves
NO_ROWS: Final = pa.RecordBatch.from_arrays([], [])
NO_DEAD: Final = pa.RecordBatch.from_pylist([], schema=DEAD_SCHEMA)

assert _HEADER.size == 64


class RecordContent(NamedTuple):
    """What one record holds. A record with neither rows nor dead letters is a heartbeat: time passed, nothing came."""

    batch: pa.RecordBatch
    dead: pa.RecordBatch
    definitions_version: int
    heartbeat_us: int | None = None


def encode_record(content: RecordContent) -> bytes:
    """Return the record as bytes."""
    rows = _stream(content.batch)
    rows += bytes(-len(rows) % 8)
    dead = _stream(content.dead)
    heartbeat = _NO_HEARTBEAT if content.heartbeat_us is None else content.heartbeat_us
    return _HEADER.pack(_MAGIC, content.definitions_version, heartbeat, len(rows), len(dead)) + rows + dead


def decode_record(payload: bytes) -> RecordContent:
    """Return the content of a record; its columns may share ``payload``'s memory.

    Raises:
        InvalidInput: the record has a format of a later version of Groundswell.
        Corrupt: the bytes are no record.
    """
    if len(payload) < _HEADER.size or payload[:3] != _MAGIC[:3]:
        raise Corrupt(f"record == {payload[:8]!r}, must begin with {_MAGIC!r}; run groundswell audit")
    if payload[3] != FORMAT:
        raise InvalidInput("record format", payload[3], f"must be {FORMAT}", next_step="upgrade Groundswell")
    _, version, heartbeat, rows, dead = _HEADER.unpack_from(payload)
    if len(payload) != _HEADER.size + rows + dead:
        raise Corrupt(f"record length == {len(payload)}, must be {_HEADER.size + rows + dead}; run groundswell audit")
    buffer = pa.py_buffer(payload)
    try:
        return RecordContent(
            _read(buffer.slice(_HEADER.size, rows)) if rows else NO_ROWS,
            _read(buffer.slice(_HEADER.size + rows, dead)) if dead else NO_DEAD,
            version,
            None if heartbeat == _NO_HEARTBEAT else heartbeat,
        )
    except (pa.ArrowException, OSError) as error:
        raise Corrupt(
            f"record == {payload[:8]!r}…, must hold Arrow IPC streams ({error}); run groundswell audit"
        ) from error


def _stream(batch: pa.RecordBatch) -> bytes:
    if not batch.num_rows:
        return b""
    sink = pa.BufferOutputStream()
    options = _COMPRESSED if batch.nbytes >= _COMPRESS_FROM_BYTES else _PLAIN
    with ipc.new_stream(sink, batch.schema, options=options) as writer:
        writer.write_batch(batch)
    return sink.getvalue().to_pybytes()


def _read(buffer: pa.Buffer) -> pa.RecordBatch:
    with ipc.open_stream(buffer, options=_READ) as reader:
        return reader.read_next_batch()
