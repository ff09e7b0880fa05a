"""Compiled loops over fingerprints: the memory table, filters, searches in runs, merging.

Invariants
    a slot or entry holds all 128 bits of a fingerprint and a 32-bit check of its content, whose top bit says "taken"
    a run's entries, its filter's blocks and its directory's buckets are in order of the first word, so each is written
    front to back
    nothing depends on fingerprints being uniform but speed

Loops touch memory at random, so each asks for what it will need ``_AHEAD`` events later.
"""
# ruff: noqa: PLR0917 (compiled kernels take their arguments by position)

from __future__ import annotations

from typing import Any, Final

import numba
import numpy as np
from llvmlite import ir
from numba.core import cgutils
from numba.extending import intrinsic

__all__ = [
    "BLOCK_WORDS",
    "NEW",
    "TAKEN",
    "admit",
    "lookup",
    "merge",
    "move",
    "pack_checks",
    "probe",
]

BLOCK_WORDS: Final = 8  # a filter block is a cache line, with one bit in each word for each entry
TAKEN: Final = np.uint32(0x80000000)
NEW: Final = np.uint8(0)
_DUPLICATE: Final = np.uint8(1)
_CONFLICT: Final = np.uint8(2)
_AHEAD: Final = 16
_MIX: Final = np.uint64(0x9E3779B97F4A7C15)  # 2**64 / golden ratio (Knuth, TAOCP 3, 6.4)
_ONE: Final = np.uint64(1)
_TWO: Final = np.uint64(2)
_SIX_BITS: Final = np.uint64(63)
_HALF: Final = np.uint64(32)

_U64S_IN: Final = numba.types.Array(numba.uint64, 1, "C", readonly=True)
_U32S_IN: Final = numba.types.Array(numba.uint32, 1, "C", readonly=True)
_I64S_IN: Final = numba.types.Array(numba.int64, 1, "C", readonly=True)
_U64S: Final = numba.uint64[::1]
_U32S: Final = numba.uint32[::1]
_I64S: Final = numba.int64[::1]
_U8S: Final = numba.uint8[::1]


def _prefetch_code(_context: Any, array: Any, index: Any) -> Any:  # pragma: no cover - runs in the compiler
    """Ask for the cache line of ``array[index]``; LLVM's own instruction, which numba does not name."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = signature.args[0]
        value = context.make_array(kind)(context, builder, args[0])
        pointer = cgutils.get_item_pointer(context, builder, kind, value, [args[1]], wraparound=False)
        byte, word = ir.IntType(8).as_pointer(), ir.IntType(32)
        function_type = ir.FunctionType(ir.VoidType(), [byte, word, word, word])
        function = cgutils.get_or_insert_function(builder.module, function_type, "llvm.prefetch.p0i8")
        builder.call(function, [builder.bitcast(pointer, byte), word(0), word(3), word(1)])
        return context.get_dummy_value()

    return numba.types.void(array, index), generate


_prefetch: Any = intrinsic(_prefetch_code)


@numba.njit(numba.uint64(numba.uint64, numba.uint64, numba.uint64), cache=True, nogil=True, inline="always")
def _slot(a: Any, b: Any, shift: Any) -> Any:  # pragma: no cover - compiled
    return ((a ^ (b * _MIX)) * _MIX) >> shift


@numba.njit(numba.uint64(numba.int64), cache=True, nogil=True, inline="always")
def _shift(slots: Any) -> Any:  # pragma: no cover - compiled
    """Return how far a 64-bit hash is shifted to name one of ``slots``, a power of two above 1."""
    shift = np.uint64(64)
    while slots > 1:
        slots >>= 1
        shift -= _ONE
    return shift


@numba.njit(numba.int64(_U64S, _U32S, _U64S_IN, _U64S_IN, _U32S_IN, _I64S_IN, _U8S), cache=True, nogil=True)
def admit(
    keys: Any, checks: Any, h1: Any, h2: Any, content: Any, wanted: Any, fates: Any
) -> Any:  # pragma: no cover - compiled
    """Insert the events ``wanted`` (indices) that the table lacks; write every one's fate; return how many were new."""
    mask = np.uint64(checks.size - 1)
    shift = _shift(checks.size)
    new = 0
    for i in range(wanted.size + _AHEAD):
        if i < wanted.size:
            j = wanted[i]
            near = _slot(h1[j], h2[j], shift)
            _prefetch(keys, np.int64(near << _ONE))
            _prefetch(checks, np.int64(near))
        if i >= _AHEAD:
            j = wanted[i - _AHEAD]
            a, b, check = h1[j], h2[j], content[j]
            slot = _slot(a, b, shift)
            while True:
                found = checks[slot]
                if found == 0:
                    keys[slot << _ONE] = a
                    keys[(slot << _ONE) | _ONE] = b
                    checks[slot] = check
                    fates[j] = NEW
                    new += 1
                    break
                if keys[slot << _ONE] == a and keys[(slot << _ONE) | _ONE] == b:
                    fates[j] = _DUPLICATE if found == check else _CONFLICT
                    break
                slot = (slot + _ONE) & mask
    return new


@numba.njit(numba.int64(_U64S, _U32S, _U64S_IN, _U64S_IN, _U32S_IN, _I64S_IN, _U8S, _I64S), cache=True, nogil=True)
def lookup(
    keys: Any, checks: Any, h1: Any, h2: Any, content: Any, wanted: Any, fates: Any, missing: Any
) -> Any:  # pragma: no cover - compiled
    """Write the fate of the events ``wanted`` that the table has; collect the rest in ``missing``; return how many."""
    mask = np.uint64(checks.size - 1)
    shift = _shift(checks.size)
    lacking = 0
    for i in range(wanted.size + _AHEAD):
        if i < wanted.size:
            j = wanted[i]
            near = _slot(h1[j], h2[j], shift)
            _prefetch(keys, np.int64(near << _ONE))
            _prefetch(checks, np.int64(near))
        if i >= _AHEAD:
            j = wanted[i - _AHEAD]
            a, b = h1[j], h2[j]
            slot = _slot(a, b, shift)
            while True:
                found = checks[slot]
                if found == 0:
                    missing[lacking] = j
                    lacking += 1
                    break
                if keys[slot << _ONE] == a and keys[(slot << _ONE) | _ONE] == b:
                    fates[j] = _DUPLICATE if found == content[j] else _CONFLICT
                    break
                slot = (slot + _ONE) & mask
    return lacking


@numba.njit(numba.void(_U64S, _U32S, _U64S, _U32S), cache=True, nogil=True)
def move(keys: Any, checks: Any, new_keys: Any, new_checks: Any) -> None:  # pragma: no cover - compiled
    """Copy a table into a larger, empty one."""
    mask = np.uint64(new_checks.size - 1)
    shift = _shift(new_checks.size)
    for i in range(checks.size):
        if checks[i] != 0:
            a, b = keys[2 * i], keys[2 * i + 1]
            slot = _slot(a, b, shift)
            while new_checks[slot] != 0:
                slot = (slot + _ONE) & mask
            new_keys[slot << _ONE] = a
            new_keys[(slot << _ONE) | _ONE] = b
            new_checks[slot] = checks[i]


@numba.njit(numba.void(_U64S_IN, _U64S_IN, _U64S_IN, _I64S, numba.int64, _U8S), cache=True, nogil=True)
def _sift(
    filter_words: Any, h1: Any, h2: Any, missing: Any, count: Any, held: Any
) -> None:  # pragma: no cover - compiled
    """Say for the first ``count`` events of ``missing`` whether the filter may hold them. No branch depends on data."""
    blocks = np.uint64(filter_words.size // BLOCK_WORDS)
    for i in range(count + _AHEAD):
        if i < count:
            near = ((h1[missing[i]] >> _HALF) * blocks) >> _HALF
            _prefetch(filter_words, np.int64(near * np.uint64(BLOCK_WORDS)))
        if i >= _AHEAD:
            j = missing[i - _AHEAD]
            base = (((h1[j] >> _HALF) * blocks) >> _HALF) * np.uint64(BLOCK_WORDS)
            bits = h2[j] * _MIX
            all_set = _ONE
            for word in range(BLOCK_WORDS):
                all_set &= filter_words[base + np.uint64(word)] >> ((bits >> np.uint64(6 * word)) & _SIX_BITS)
            held[i - _AHEAD] = np.uint8(all_set & _ONE)


@numba.njit(
    numba.int64(
        _U64S_IN, _U32S_IN, _U64S_IN, _U64S_IN, _U32S_IN,  # the run: filter, directory, entries
        _U64S_IN, _U64S_IN, _U32S_IN,  # events
        _I64S, numba.int64, _U8S, _U8S,
    ),
    cache=True,
    nogil=True,
)  # fmt: skip
def probe(
    filter_words: Any, directory: Any, run1: Any, run2: Any, run_checks: Any,
    h1: Any, h2: Any, content: Any, missing: Any, count: Any, fates: Any, held: Any,
) -> Any:  # fmt: skip # pragma: no cover - compiled
    """Look for the first ``count`` events of ``missing`` in a run.

    Writes the fate of those it has and takes them out of ``missing``, keeping order. ``held`` is room for ``count``
    answers of the filter. Returns how many are left.
    """
    _sift(filter_words, h1, h2, missing, count, held)
    buckets = np.uint64(directory.size - 1)
    left = 0
    for i in range(count):
        j = missing[i]
        fate = NEW
        if held[i]:
            a, b = h1[j], h2[j]
            bucket = ((a >> _HALF) * buckets) >> _HALF
            low, high = np.int64(directory[bucket]), np.int64(directory[bucket + _ONE])
            end = high
            while low < high:  # the first entry that is not below (a, b)
                middle = (low + high) >> 1
                if run1[middle] < a or (run1[middle] == a and run2[middle] < b):
                    low = middle + 1
                else:
                    high = middle
            if low < end and run1[low] == a and run2[low] == b:
                fate = _DUPLICATE if run_checks[low] == content[j] else _CONFLICT
        if fate == NEW:
            missing[left] = j
            left += 1
        else:
            fates[j] = fate
    return left


@numba.njit(
    numba.int64(_U64S_IN, _U64S_IN, _U32S_IN, _I64S, _I64S_IN, _U64S, _U64S, _U32S, _U64S, _I64S),
    cache=True,
    nogil=True,
)
def merge(
    h1: Any, h2: Any, checks: Any, starts: Any, stops: Any,
    out1: Any, out2: Any, out_checks: Any, filter_words: Any, counts: Any,
) -> Any:  # fmt: skip # pragma: no cover - compiled
    """Merge sorted slices ``starts[k]:stops[k]``, oldest first, into ``out``; of equal fingerprints the oldest stays.

    Sets the bits of ``filter_words`` and counts entries by bucket in ``counts``. ``starts`` is used up.
    Returns the number of entries written.
    """
    blocks = np.uint64(filter_words.size // BLOCK_WORDS)
    buckets = np.uint64(counts.size)
    written = 0
    a = b = np.uint64(0)
    while True:
        best = -1
        for k in range(starts.size):
            if starts[k] < stops[k]:
                at = starts[k]
                if best < 0 or h1[at] < a or (h1[at] == a and h2[at] < b):
                    best, a, b = k, h1[at], h2[at]
        if best < 0:
            return written
        check = checks[starts[best]]
        starts[best] += 1
        if written > 0 and out1[written - 1] == a and out2[written - 1] == b:
            continue
        out1[written] = a
        out2[written] = b
        out_checks[written] = check
        written += 1
        counts[((a >> _HALF) * buckets) >> _HALF] += 1
        base = (((a >> _HALF) * blocks) >> _HALF) * np.uint64(BLOCK_WORDS)
        bits = b * _MIX
        for word in range(BLOCK_WORDS):
            filter_words[base + np.uint64(word)] |= _ONE << (bits & _SIX_BITS)
            bits >>= np.uint64(6)


@numba.njit(numba.void(_I64S_IN, _U32S), cache=True, nogil=True)
def pack_checks(content: Any, checks: Any) -> None:  # pragma: no cover - compiled
    """Fold 64-bit content hashes to 31 bits and mark them taken: one conflict in 2**31 looks like a retry."""
    for i in range(content.size):
        checks[i] = np.uint32((np.uint64(content[i]) * _MIX) >> np.uint64(33)) | TAKEN
