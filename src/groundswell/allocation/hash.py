"""MurmurHash3 x86 32-bit, written once: interpreted for one key, compiled by ``kernel`` for a column of keys.

Invariants
    every value is a 32-bit word held in a wider int: masks make Python's ints and the compiled int64 agree
    a key may be absorbed in parts, as long as every part but the last is whole blocks of four bytes

The algorithm is Austin Appleby's, in the public domain (SMHasher, ``MurmurHash3_x86_32``).
"""

from __future__ import annotations

from typing import Any

__all__ = ["absorb_blocks", "finish", "murmur3_32", "whole_blocks"]


def absorb_blocks(data: Any, stop: int, state: int) -> int:
    """Return ``state`` after the blocks of ``data[:stop]``; ``stop`` is a multiple of 4. ``data`` is bytes or uint8."""
    for i in range(0, stop, 4):
        k = int(data[i]) | int(data[i + 1]) << 8 | int(data[i + 2]) << 16 | int(data[i + 3]) << 24
        k = (k * 0xCC9E2D51) & 0xFFFFFFFF
        k = ((k << 15) | (k >> 17)) & 0xFFFFFFFF
        k = (k * 0x1B873593) & 0xFFFFFFFF
        state ^= k
        state = ((state << 13) | (state >> 19)) & 0xFFFFFFFF
        state = (state * 5 + 0xE6546B64) & 0xFFFFFFFF
    return state


def finish(data: Any, start: int, stop: int, length: int, state: int) -> int:
    """Return the hash of a key of ``length`` bytes whose last, incomplete block is ``data[start:stop]``."""
    k = 0
    for i in range(stop - 1, start - 1, -1):
        k = (k << 8) | int(data[i])
    k = (k * 0xCC9E2D51) & 0xFFFFFFFF
    k = ((k << 15) | (k >> 17)) & 0xFFFFFFFF
    state ^= (k * 0x1B873593) & 0xFFFFFFFF
    state ^= length
    state ^= state >> 16
    state = (state * 0x85EBCA6B) & 0xFFFFFFFF
    state ^= state >> 13
    state = (state * 0xC2B2AE35) & 0xFFFFFFFF
    return state ^ (state >> 16)


def whole_blocks(length: int) -> int:
    """Return how many of ``length`` bytes lie in whole blocks."""
    return length - length % 4


def murmur3_32(key: bytes, seed: int = 0) -> int:
    """Return the unsigned 32-bit hash of ``key``.

    >>> murmur3_32(b"hello")
    613153351
    """
    whole = whole_blocks(len(key))
    return finish(key, whole, len(key), len(key), absorb_blocks(key, whole, seed))
