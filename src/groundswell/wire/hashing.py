"""Keyed hashes of identities: SipHash-2-4 (Aumasson and Bernstein 2012), its 64-bit and 128-bit forms.

Invariants
    the scalar and the vectorised form of a hash are one kernel, so they cannot differ
    a hash never depends on machine, process or version of Python: it is stored in tables and compared years later
    an event's fingerprint is the 128-bit hash of its id under a key that is the 128-bit hash of its source,
    so that no pair (source, event_id) can be read as another

The key separates these hashes from other uses; it is no secret, so a sender who wants two of its own ids to collide and
can break SipHash under a known key may do so, and harms only its own events.
"""
# ruff: noqa: PLR0917, FBT001 (compiled kernels take their arguments by position)

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

import numba
import numpy as np
import numpy.typing as npt
import pyarrow as pa

__all__ = ["KEY", "content_hashes", "fingerprint", "fingerprints", "hash64", "hash128", "unit_columns"]

Int64s = npt.NDArray[np.int64]
UInt64s = npt.NDArray[np.uint64]

_KEY_BYTES: Final = b"groundswell hash"
KEY: Final[tuple[int, int]] = (
    int.from_bytes(_KEY_BYTES[:8], "little"),
    int.from_bytes(_KEY_BYTES[8:], "little"),
)

_BYTES_IN: Final = numba.types.Array(numba.uint8, 1, "C", readonly=True)
_OFFSETS_IN: Final = numba.types.Array(numba.int32, 1, "C", readonly=True)


@numba.njit(numba.types.UniTuple(numba.uint64, 4)(*[numba.uint64] * 4), cache=True, nogil=True)
def _round(v0: Any, v1: Any, v2: Any, v3: Any) -> Any:  # pragma: no cover - compiled
    v0 += v1
    v1 = ((v1 << np.uint64(13)) | (v1 >> np.uint64(51))) ^ v0
    v0 = (v0 << np.uint64(32)) | (v0 >> np.uint64(32))
    v2 += v3
    v3 = ((v3 << np.uint64(16)) | (v3 >> np.uint64(48))) ^ v2
    v0 += v3
    v3 = ((v3 << np.uint64(21)) | (v3 >> np.uint64(43))) ^ v0
    v2 += v1
    v1 = ((v1 << np.uint64(17)) | (v1 >> np.uint64(47))) ^ v2
    v2 = (v2 << np.uint64(32)) | (v2 >> np.uint64(32))
    return v0, v1, v2, v3


@numba.njit(
    numba.types.UniTuple(numba.uint64, 2)(
        _BYTES_IN, numba.int64, numba.int64, numba.uint64, numba.uint64, numba.boolean
    ),
    cache=True,
    nogil=True,
)
def _siphash(data: Any, start: Any, stop: Any, k0: Any, k1: Any, wide: bool) -> Any:  # pragma: no cover - compiled
    """Return both words of SipHash-2-4-128 of data[start:stop], or (SipHash-2-4-64, 0) where not ``wide``."""
    v0 = k0 ^ np.uint64(0x736F6D6570736575)
    v1 = k1 ^ np.uint64(0x646F72616E646F6D)
    v2 = k0 ^ np.uint64(0x6C7967656E657261)
    v3 = k1 ^ np.uint64(0x7465646279746573)
    if wide:
        v1 ^= np.uint64(0xEE)
    length = stop - start
    words = length >> 3
    for word in range(words):
        at = start + (word << 3)
        m = (
            np.uint64(data[at])
            | (np.uint64(data[at + 1]) << np.uint64(8))
            | (np.uint64(data[at + 2]) << np.uint64(16))
            | (np.uint64(data[at + 3]) << np.uint64(24))
            | (np.uint64(data[at + 4]) << np.uint64(32))
            | (np.uint64(data[at + 5]) << np.uint64(40))
            | (np.uint64(data[at + 6]) << np.uint64(48))
            | (np.uint64(data[at + 7]) << np.uint64(56))
        )
        v3 ^= m
        v0, v1, v2, v3 = _round(v0, v1, v2, v3)
        v0, v1, v2, v3 = _round(v0, v1, v2, v3)
        v0 ^= m
    last = np.uint64(length) << np.uint64(56)
    at = start + (words << 3)
    for rest in range(length & 7):
        last |= np.uint64(data[at + rest]) << np.uint64(8 * rest)
    v3 ^= last
    v0, v1, v2, v3 = _round(v0, v1, v2, v3)
    v0, v1, v2, v3 = _round(v0, v1, v2, v3)
    v0 ^= last
    v2 ^= np.uint64(0xEE) if wide else np.uint64(0xFF)
    for _ in range(4):
        v0, v1, v2, v3 = _round(v0, v1, v2, v3)
    first = v0 ^ v1 ^ v2 ^ v3
    second = np.uint64(0)
    if wide:
        v1 ^= np.uint64(0xDD)
        for _ in range(4):
            v0, v1, v2, v3 = _round(v0, v1, v2, v3)
        second = v0 ^ v1 ^ v2 ^ v3
    return first, second


_UINT64S_OUT: Final = numba.types.Array(numba.uint64, 1, "C")
_UINT64S_IN: Final = numba.types.Array(numba.uint64, 1, "C", readonly=True)
_INT32S_IN: Final = _OFFSETS_IN
_MASK_IN: Final = numba.types.Array(numba.uint8, 1, "C", readonly=True)


@numba.njit(
    numba.void(_BYTES_IN, _OFFSETS_IN, _INT32S_IN, _UINT64S_IN, _UINT64S_IN, _UINT64S_OUT, _UINT64S_OUT, numba.boolean),
    cache=True,
    nogil=True,
)
def _hash_column(
    data: Any, offsets: Any, which: Any, k0s: Any, k1s: Any, h1: Any, h2: Any, wide: bool
) -> None:  # pragma: no cover - compiled
    """Hash each string under the key numbered by ``which``."""
    for row in range(len(which)):
        key = which[row]
        first, second = _siphash(data, np.int64(offsets[row]), np.int64(offsets[row + 1]), k0s[key], k1s[key], wide)
        h1[row] = first
        if wide:
            h2[row] = second


@numba.njit(
    numba.void(_BYTES_IN, _OFFSETS_IN, _MASK_IN, numba.uint64, numba.uint64, _UINT64S_OUT), cache=True, nogil=True
)
def _add_string_hashes(
    data: Any, offsets: Any, valid: Any, k0: Any, k1: Any, out: Any
) -> None:  # pragma: no cover - compiled
    for row in range(len(out)):
        if valid[row]:
            first, _ = _siphash(data, np.int64(offsets[row]), np.int64(offsets[row + 1]), k0, k1, False)
            out[row] += first


@numba.njit(numba.void(_UINT64S_IN, _MASK_IN, numba.uint64, numba.uint64, _UINT64S_OUT), cache=True, nogil=True)
def _add_number_hashes(bits: Any, valid: Any, k0: Any, k1: Any, out: Any) -> None:  # pragma: no cover - compiled
    """Add the finaliser of SplitMix64 of each keyed number."""
    for row in range(len(out)):
        if valid[row]:
            x = bits[row] ^ k0
            x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            out[row] += (x ^ (x >> np.uint64(31))) ^ k1


def hash128(data: bytes, key: tuple[int, int] = KEY) -> tuple[int, int]:
    """Return both 64-bit words, unsigned, of SipHash-2-4-128."""
    first, second = _siphash(_as_uint8(data), 0, len(data), np.uint64(key[0]), np.uint64(key[1]), True)
    return int(first), int(second)


def hash64(value: str | pa.Array | pa.ChunkedArray) -> Any:
    """Return SipHash-2-4 of one string as a signed int, or of a string array as an int64 array (a null hashes as "").

    >>> hash64("user-1") == int(hash64(pa.array(["user-1"]))[0])
    True
    """
    if isinstance(value, str):
        data = _encoded(value)
        first, _ = _siphash(_as_uint8(data), 0, len(data), np.uint64(KEY[0]), np.uint64(KEY[1]), False)
        return _signed(int(first))
    return _hash_strings(*_string_buffers(value))


def fingerprint(source: str, event_id: str) -> tuple[int, int]:
    """Return an event's 128-bit fingerprint as two signed ints; the first is its ``event_hash``."""
    first, second = hash128(_encoded(event_id), hash128(_encoded(source)))
    return _signed(first), _signed(second)


def fingerprints(
    source: str | pa.Array | pa.ChunkedArray, event_id: pa.Array | pa.ChunkedArray
) -> tuple[Int64s, Int64s]:
    """Return the fingerprints of events as two int64 arrays; ``source`` is one for all, or one a row."""
    data, offsets = _string_buffers(event_id)
    rows = len(offsets) - 1
    if isinstance(source, str):
        names, which = [source], np.zeros(rows, np.int32)
    else:
        coded = _one_chunk(source).dictionary_encode()
        names = coded.dictionary.to_pylist()
        which = np.ascontiguousarray(coded.indices.to_numpy(zero_copy_only=False), np.int32)
    keys = np.array([hash128(name.encode()) for name in names], np.uint64).reshape(-1, 2)
    h1, h2 = np.empty(rows, np.uint64), np.empty(rows, np.uint64)
    _hash_column(data, offsets, which, keys[:, 0].copy(), keys[:, 1].copy(), h1, h2, True)
    return h1.view(np.int64), h2.view(np.int64)


def unit_columns(
    user_id: pa.Array | None, anonymous_id: pa.Array | None, device_id: pa.Array | None, rows: int | None = None
) -> tuple[pa.Array, pa.Array]:
    """Return (unit_hash int64, unit_kind int32) of the layout key: the first of the three that is not empty.

    Both are null where an event names nobody. Equal texts of different kinds share a hash: the kind is its own column.
    ``rows`` is needed where none of the three is given.
    """
    given = [None if column is None else _one_chunk(column) for column in (user_id, anonymous_id, device_id)]
    if rows is None:
        rows = next(len(column) for column in given if column is not None)
    unit_hash, kind = np.zeros(rows, np.int64), np.full(rows, -1, np.int32)
    for number, column in enumerate(given):
        if column is None or column.null_count == rows:
            continue
        data, offsets = _string_buffers(column)
        take = (offsets[1:] > offsets[:-1]) & (kind < 0)
        if take.any():
            np.copyto(unit_hash, _hash_strings(data, offsets), where=take)
            kind[take] = number
    nobody = kind < 0
    return pa.array(unit_hash, mask=nobody), pa.array(kind, mask=nobody)


def content_hashes(columns: Mapping[str, pa.Array], rows: int) -> Int64s:
    """Return a hash a row of all non-null values under their columns' names, whatever the order of the columns."""
    out = np.zeros(rows, np.uint64)
    every = np.ones(rows, np.uint8)
    for name, column in columns.items():
        nulls = column.null_count
        if nulls == rows:
            continue
        k0, k1 = _column_key(name)
        valid = np.asarray(column.is_valid()).view(np.uint8) if nulls else every
        if pa.types.is_string(column.type):
            _add_string_hashes(*_string_buffers(column), valid, k0, k1, out)
        else:
            _add_number_hashes(_number_bits(column), valid, k0, k1, out)
    return out.view(np.int64)


@lru_cache(maxsize=4096)
def _column_key(name: str) -> tuple[Any, Any]:
    k0, k1 = hash128(name.encode())
    return np.uint64(k0), np.uint64(k1)


def _hash_strings(data: npt.NDArray[np.uint8], offsets: npt.NDArray[np.int32]) -> Int64s:
    rows = len(offsets) - 1
    out = np.empty(rows, np.uint64)
    _hash_column(data, offsets, np.zeros(rows, np.int32), _ONE_KEY[0], _ONE_KEY[1], out, out, False)
    return out.view(np.int64)


def _number_bits(column: pa.Array) -> UInt64s:
    """Return the bits of each value of 8 bytes, and bools as 0 and 1; what stands for a null is not defined."""
    if pa.types.is_boolean(column.type):
        return np.asarray(column.fill_null(False)).astype(np.uint64)
    bits = np.frombuffer(column.buffers()[1], np.uint64)
    return bits[column.offset : column.offset + len(column)]


def _string_buffers(column: pa.Array | pa.ChunkedArray) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int32]]:
    """Return a string column's bytes and its rows + 1 offsets; nulls are empty."""
    array = _one_chunk(column)
    if not pa.types.is_string(array.type):
        array = array.cast(pa.string())
    if array.null_count:
        array = array.fill_null("")
    _, offsets, data = array.buffers()
    rows = len(array)
    if rows == 0 or offsets is None:
        return _NO_BYTES, np.zeros(rows + 1, np.int32)
    all_offsets = np.frombuffer(offsets, np.int32)
    return (
        _NO_BYTES if data is None or data.size == 0 else np.frombuffer(data, np.uint8),
        all_offsets[array.offset : array.offset + rows + 1],
    )


def _one_chunk(column: pa.Array | pa.ChunkedArray) -> Any:
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def _as_uint8(data: bytes) -> npt.NDArray[np.uint8]:
    return np.frombuffer(data, np.uint8) if data else _NO_BYTES


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")  # what someone typed may be no text; asking for its hash must not fail


def _signed(word: int) -> int:
    return word - (1 << 64) if word >> 63 else word


_NO_BYTES: Final = np.frombuffer(bytes(1), np.uint8)[:0]
_ONE_KEY: Final = (np.array([KEY[0]], np.uint64), np.array([KEY[1]], np.uint64))
