"""The scanner over whole bodies: arrays, lines and single values, event after event.

Invariants
    every event is noted, in order, with its place; a plain one has a row, the others are left to the reference
    a body that is no array of values is named, and nothing after it is scanned until the caller goes on
"""
# ruff: noqa: C901, PLR0917, PLR1714 (compiled kernels)

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Final

import numba
import numpy as np
from numba.core import types
from numba.extending import intrinsic

from groundswell import limits
from groundswell.model.event import CLIENT_STRINGS
from groundswell.wire import grammar, lookup, scan_event, times
from groundswell.wire.grammar import skip_space
from groundswell.wire.reference import ENVELOPE_EXTRA
from groundswell.wire.scan_event import AT, BODY, BROKEN, EVENTS, EVENTS_AT, FLOATS, NOW_US, PHASE, ROOM, ROWS, take

__all__ = ["ARRAY", "LINES", "ONE", "copy_texts", "element_end", "scan_bodies", "text_ends"]

ARRAY: Final = 0  # modes of a body
LINES: Final = 1
ONE: Final = 2

_BEFORE: Final = 0  # phases of an array
_VALUE: Final = 1
_AFTER: Final = 2


def _to_pointer(typing_context: Any, array: Any) -> Any:
    """Return where an array's items are. The array must outlive it."""
    del typing_context

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return context.make_array(signature.args[0])(context, builder, arguments[0]).data

    return types.CPointer(array.dtype)(array), generate


_pointer: Final[Any] = intrinsic(_to_pointer)


@numba.njit(nogil=True)
def element_end(data: Any, at: Any, stop: Any) -> Any:
    """Return where the value at ``at`` ends, by its brackets and quotes alone, or -1. It may be no JSON."""
    opened = 0
    inside = False
    first = at
    while at < stop:
        byte = data[at]
        if inside:
            if byte == 92:
                at += 1
            elif byte == 34:
                inside = False
                if opened == 0:
                    return at + 1
        elif byte == 34:
            inside = True
        elif byte == 123 or byte == 91:
            opened += 1
        elif byte == 125 or byte == 93:
            if opened == 0:
                return at if at > first else np.int64(-1)
            opened -= 1
            if opened == 0:
                return at + 1
        elif opened == 0 and (byte == 44 or byte <= 32):
            return at if at > first else np.int64(-1)
        at += 1
    return np.int64(-1)


@numba.njit(nogil=True)
def _note(start: Any, end: Any, plain: Any, work: Any) -> None:
    """Note an event, and keep its row where it is plain."""
    note = work[EVENTS_AT] + 4 * work[EVENTS]
    work[note] = work[BODY]
    work[note + 1] = work[ROWS] if plain else -1
    work[note + 2], work[note + 3] = start, end
    work[ROWS] += plain
    work[EVENTS] += 1


@numba.njit(nogil=True)
def _scan_array(
    data: Any, at: Any, stop: Any, slots: Any, text: Any, values: Any, sizes: Any, side: Any, work: Any
) -> Any:
    """Take events of an array until it ends (True), or there is no more room (False)."""
    while True:
        at = skip_space(data, at, stop, False)
        if at >= stop:
            break
        byte = data[at]
        if work[PHASE] == _BEFORE or (work[PHASE] == _AFTER and byte == 44):
            first = work[PHASE] == _BEFORE
            at = skip_space(data, at + 1, stop, False)
            if first and at < stop and data[at] == 93:
                work[PHASE] = _AFTER
            else:
                work[PHASE] = _VALUE
        elif work[PHASE] == _AFTER:
            if byte != 93 or skip_space(data, at + 1, stop, False) < stop:
                break
            return True
        else:
            if work[EVENTS] == work[ROOM]:
                work[AT] = at
                return False
            end = np.int64(-1)
            if byte == 123:
                end = take(data, at, stop, False, slots, text, values, sizes, side, work)
            plain = end >= 0
            if not plain:
                end = element_end(data, at, stop)
                if end < 0:
                    break
            _note(at, end, plain, work)
            at = end
            work[PHASE] = _AFTER
    work[BROKEN] = work[BODY]
    return True


@numba.njit(nogil=True)
def _scan_lines(
    data: Any, at: Any, stop: Any, one: Any, slots: Any, text: Any, values: Any, sizes: Any, side: Any, work: Any
) -> Any:
    """Take an event a line, or the ``one`` value that is the body, until it ends (True) or there is no more room."""
    while True:
        at = skip_space(data, at, stop, False)
        if at >= stop:
            return True
        if work[EVENTS] == work[ROOM]:
            work[AT] = at
            return False
        end = np.int64(-1)
        floats = work[FLOATS]
        if data[at] == 123:
            end = take(data, at, stop, not one, slots, text, values, sizes, side, work)
        plain = end >= 0
        if plain:
            after = skip_space(data, end, stop, not one)
            plain = after >= stop or (data[after] == 10 and not one)  # else there is more than an event
        if plain:
            _note(at, end, plain, work)
            at = end
        else:
            work[FLOATS] = floats  # what was noted of an event that is none must not reach the next in its row
            end = stop
            if not one:
                end = at
                while end < stop and data[end] != 10:
                    end += 1
            _note(at, end, plain, work)
            at = end


_BYTES_IN: Final = types.Array(types.uint8, 1, "C", readonly=True)
_I64_IN: Final = types.Array(types.int64, 1, "C", readonly=True)
_I32_IN: Final = types.Array(types.int32, 1, "C", readonly=True)
_I64_OUT: Final = types.Array(types.int64, 1, "C")
_I32_OUT: Final = types.Array(types.int32, 1, "C")
_BYTES_OUT: Final = types.Array(types.uint8, 1, "C")


def _sources_digest() -> int:
    """Return a number that changes with all that the kernel is compiled from: numba itself looks at this file alone."""
    constants = (
        CLIENT_STRINGS,
        ENVELOPE_EXTRA,
        limits.json_depth_max,
        limits.event_bytes_max,
        limits.event_id_chars_max,
        limits.envelope_chars_max,
        limits.ts_ahead_s_max,
        limits.ts_earliest,
    )
    digest = hashlib.sha256(repr(constants).encode())
    for part in (scan_event, grammar, lookup, times):
        digest.update(Path(str(part.__file__)).read_bytes())
    return int.from_bytes(digest.digest()[:7], "little")


def _compiled(digest: int) -> Any:
    @numba.njit(
        types.boolean(_BYTES_IN, _I64_IN, _I32_IN, _BYTES_IN, _I64_OUT, _I32_OUT, _BYTES_OUT, _I64_OUT),
        cache=True,
        nogil=True,
    )
    def scan_bodies(
        data: Any, bodies: Any, slots: Any, text: Any, values: Any, sizes: Any, side: Any, work: Any
    ) -> bool:
        """Take the events of all bodies (from, to, mode, now_us) from where ``work`` stands.

        Return True at the end of the last body, False where there is no more room or ``work[BROKEN]`` is no array.
        """
        if digest < 0:  # read here, so that the cache of compiled code is keyed by it
            return False
        d, sl, te = _pointer(data), _pointer(slots), _pointer(text)
        va, si, sd, wo = _pointer(values), _pointer(sizes), _pointer(side), _pointer(work)
        while 4 * wo[BODY] < len(bodies):
            body = 4 * wo[BODY]
            stop, mode = bodies[body + 1], bodies[body + 2]
            wo[NOW_US] = bodies[body + 3]
            if wo[AT] < 0:
                wo[AT] = bodies[body]
                wo[PHASE] = _BEFORE
            if mode == ARRAY:
                done = _scan_array(d, wo[AT], stop, sl, te, va, si, sd, wo)
            else:
                done = _scan_lines(d, wo[AT], stop, mode == ONE, sl, te, va, si, sd, wo)
            if not done:
                return False
            wo[BODY] += 1
            wo[AT] = -1
            if wo[BROKEN] >= 0:
                return False
        return True

    return scan_bodies


scan_bodies: Final = _compiled(_sources_digest())


@numba.njit(types.void(_I32_IN, _I32_OUT), cache=True, nogil=True)
def text_ends(sizes: Any, offsets: Any) -> None:
    """Fill the offsets of a column of texts."""
    total = np.int32(0)
    offsets[0] = 0
    for row in range(len(sizes)):
        total += max(sizes[row], np.int32(0))
        offsets[row + 1] = total


@numba.njit(types.void(_BYTES_IN, _BYTES_IN, _I64_IN, _I32_IN, _BYTES_OUT), cache=True, nogil=True)
def copy_texts(data: Any, side: Any, starts: Any, sizes: Any, out: Any) -> None:
    """Copy the texts of a column one after another."""
    to = 0
    for row in range(len(sizes)):
        size = sizes[row]
        if size > 0:
            start = starts[row]
            if start >= len(data):
                start -= len(data)
                for at in range(size):
                    out[to + at] = side[start + at]
            else:
                for at in range(size):
                    out[to + at] = data[start + at]
            to += size
