"""Names to numbers, as one table that a kernel searches by bytes. The same text may be a name of several kinds."""
# ruff: noqa: PLR0917 (compiled kernels)

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numba
import numpy as np
import numpy.typing as npt

__all__ = ["Lookup", "find", "lookup_of"]

_FIELDS: Final = 5  # of a slot: its number + 1, or 0 where it is free; kind; where its text starts; its size; a check


class Lookup(NamedTuple):
    """An open-addressing table of ``len(slots) // 5`` slots, a power of two."""

    slots: npt.NDArray[np.int32]
    text: npt.NDArray[np.uint8]

    @property
    def mask(self) -> int:
        """The number of slots less one."""
        return len(self.slots) // _FIELDS - 1


def lookup_of(kinds: Sequence[Sequence[str]]) -> Lookup:
    """Return a table of the names of each kind; a name's number is its place among those of its kind."""
    count = sum(len(names) for names in kinds)
    size = 16
    while size < 2 * count:
        size *= 2
    slots = np.zeros((size, _FIELDS), np.int32)
    text = bytearray()
    for kind, names in enumerate(kinds):
        for number, name in enumerate(names):
            encoded = name.encode()
            hashed = int(hash_name(np.frombuffer(encoded, np.uint8), 0, len(encoded), kind))
            slot = hashed & (size - 1)
            while slots[slot, 0]:
                slot = (slot + 1) & (size - 1)
            slots[slot] = (number + 1, kind, len(text), len(encoded), hashed >> 40)
            text += encoded
    return Lookup(slots.reshape(-1), np.frombuffer(bytes(text) + bytes(8), np.uint8))


@numba.njit(cache=True, nogil=True)
def _word(data: Any, at: Any) -> Any:  # pragma: no cover - compiled
    """Return 8 bytes as a number."""
    return (
        np.uint64(data[at])
        | (np.uint64(data[at + 1]) << np.uint64(8))
        | (np.uint64(data[at + 2]) << np.uint64(16))
        | (np.uint64(data[at + 3]) << np.uint64(24))
        | (np.uint64(data[at + 4]) << np.uint64(32))
        | (np.uint64(data[at + 5]) << np.uint64(40))
        | (np.uint64(data[at + 6]) << np.uint64(48))
        | (np.uint64(data[at + 7]) << np.uint64(56))
    )


@numba.njit(cache=True, nogil=True)
def hash_name(data: Any, start: Any, end: Any, kind: Any) -> Any:  # pragma: no cover - compiled
    """Return a hash of data[start:end]: of its first and last eight bytes and its length, for names are short."""
    size = end - start
    if size >= 8:
        first, last = _word(data, start), _word(data, end - 8)
    else:
        first = last = np.uint64(0)
        for at in range(start, end):
            first = (first << np.uint64(8)) | np.uint64(data[at])
    mixed = first ^ (last * np.uint64(0x9E3779B97F4A7C15)) ^ np.uint64(size * 8 + kind)
    mixed *= np.uint64(0xBF58476D1CE4E5B9)
    return mixed ^ (mixed >> np.uint64(29))


@numba.njit(cache=True, nogil=True)
def find(
    slots: Any, text: Any, mask: Any, kind: Any, data: Any, start: Any, end: Any
) -> Any:  # pragma: no cover - compiled
    """Return the number of the name data[start:end] among those of ``kind``, or -1."""
    hashed = hash_name(data, start, end, kind)
    check = np.int32(hashed >> np.uint64(40))
    slot = np.int64(hashed) & mask
    while True:
        place = slot * _FIELDS
        number = np.int64(slots[place])
        if number == 0:
            return np.int64(-1)
        if slots[place + 4] == check and slots[place + 1] == kind and slots[place + 3] == end - start:
            at = np.int64(slots[place + 2])
            same = True
            for offset in range(end - start):
                if text[at + offset] != data[start + offset]:
                    same = False
                    break
            if same:
                return number - 1
        slot = (slot + 1) & mask
