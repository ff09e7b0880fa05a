"""RFC 8259 as kernels over bytes: strings, numbers and whole values, checked to the letter and stepped over.

Each takes a position and returns the one after, or -1 where the bytes are no JSON, no UTF-8, half a surrogate pair, or
nested too deeply. Nothing recurses.
"""
# ruff: noqa: C901, PLR0911, PLR0912, PLR1714 (compiled kernels)

from __future__ import annotations

from typing import Any, Final

import numba
import numpy as np

from groundswell import limits

__all__ = ["nesting", "number_end", "skip_space", "string_end", "unescape", "value_end"]

DEPTH_MAX: Final = limits.json_depth_max
assert DEPTH_MAX < 64, "the kinds of open brackets are the bits of one word"

BYTES_IN: Final = numba.types.Array(numba.uint8, 1, "C", readonly=True)
BYTES_OUT: Final = numba.types.Array(numba.uint8, 1, "C")
_I64: Final = numba.int64

# bytes of a string that need a look: quote, backslash, controls, and what begins a character of several bytes
_SPECIAL: Final = np.array([byte < 32 or byte in {34, 92} or byte >= 128 for byte in range(256)], np.bool_)


@numba.njit(cache=True, nogil=True)
def skip_space(data: Any, at: Any, stop: Any, line: Any) -> Any:  # pragma: no cover - compiled
    """Return the position of the next byte that is no white space; in a ``line`` a line feed is none."""
    while at < stop:
        byte = data[at]
        if byte > 32 or not (byte == 32 or byte == 9 or byte == 13 or (byte == 10 and not line)):
            break
        at += 1
    return at


@numba.njit(cache=True, nogil=True)
def _hex4(data: Any, at: Any, stop: Any) -> Any:  # pragma: no cover - compiled
    """Return the number in four hexadecimal digits, or -1."""
    if at + 4 > stop:
        return -1
    value = 0
    for place in range(at, at + 4):
        byte = np.int64(data[place])
        if 48 <= byte <= 57:
            digit = byte - 48
        elif 97 <= byte <= 102:
            digit = byte - 87
        elif 65 <= byte <= 70:
            digit = byte - 55
        else:
            return -1
        value = value * 16 + digit
    return value


@numba.njit(cache=True, nogil=True)
def _escape_end(data: Any, at: Any, stop: Any) -> Any:  # pragma: no cover - compiled
    """Return the position after the escape whose backslash is at ``at``, a whole surrogate pair included."""
    if at + 1 >= stop:
        return -1
    kind = data[at + 1]
    if kind == 117:  # u
        code = _hex4(data, at + 2, stop)
        if code < 0 or 0xDC00 <= code <= 0xDFFF:
            return -1
        if not 0xD800 <= code <= 0xDBFF:
            return at + 6
        if at + 8 > stop or data[at + 6] != 92 or data[at + 7] != 117:
            return -1
        low = _hex4(data, at + 8, stop)
        return at + 12 if 0xDC00 <= low <= 0xDFFF else -1
    # " \ / b f n r t
    plain = kind == 34 or kind == 92 or kind == 47 or kind == 98 or kind == 102 or kind == 110 or kind == 114
    return at + 2 if plain or kind == 116 else -1


@numba.njit(cache=True, nogil=True)
def _character_end(data: Any, at: Any, stop: Any) -> Any:  # pragma: no cover - compiled
    """Return the position after a character of two to four bytes in UTF-8 (RFC 3629: shortest form, no surrogates)."""
    first = data[at]
    low, high = 0x80, 0xBF
    if 0xC2 <= first <= 0xDF:
        size = 2
    elif 0xE0 <= first <= 0xEF:
        size = 3
        if first == 0xE0:
            low = 0xA0
        elif first == 0xED:
            high = 0x9F
    elif 0xF0 <= first <= 0xF4:
        size = 4
        if first == 0xF0:
            low = 0x90
        elif first == 0xF4:
            high = 0x8F
    else:
        return -1
    if at + size > stop or not low <= data[at + 1] <= high:
        return -1
    for place in range(at + 2, at + size):
        if data[place] & 0xC0 != 0x80:
            return -1
    return at + size


@numba.njit(cache=True, nogil=True)
def string_end(data: Any, at: Any, stop: Any) -> Any:  # pragma: no cover - compiled
    """Return the position of the quote that ends the string that begins at ``at``, and whether it has escapes."""
    escaped = False
    while at < stop:
        byte = data[at]
        if not _SPECIAL[byte]:
            at += 1
            continue
        if byte == 34:
            return at, escaped
        if byte == 92:
            escaped = True
            at = _escape_end(data, at, stop)
        elif byte >= 128:
            at = _character_end(data, at, stop)
        else:
            return -1, escaped
        if at < 0:
            return -1, escaped
    return -1, escaped


@numba.njit(cache=True, nogil=True)
def unescape(data: Any, start: Any, end: Any, out: Any, to: Any) -> Any:  # pragma: no cover - compiled
    """Write the text of the sound string data[start:end] to ``out`` from ``to`` on; return the position after it."""
    at = start
    while at < end:
        byte = data[at]
        if byte != 92:
            out[to] = byte
            to += 1
            at += 1
            continue
        kind = data[at + 1]
        if kind != 117:
            plain = kind
            if kind == 98:
                plain = np.uint8(8)
            elif kind == 102:
                plain = np.uint8(12)
            elif kind == 110:
                plain = np.uint8(10)
            elif kind == 114:
                plain = np.uint8(13)
            elif kind == 116:
                plain = np.uint8(9)
            out[to] = plain
            to += 1
            at += 2
            continue
        code = _hex4(data, at + 2, end)
        at += 6
        if 0xD800 <= code <= 0xDBFF:
            code = 0x10000 + ((code - 0xD800) << 10) + (_hex4(data, at + 2, end) - 0xDC00)
            at += 6
        if code < 0x80:
            out[to] = code
            to += 1
        elif code < 0x800:
            out[to] = 0xC0 | (code >> 6)
            out[to + 1] = 0x80 | (code & 0x3F)
            to += 2
        elif code < 0x10000:
            out[to] = 0xE0 | (code >> 12)
            out[to + 1] = 0x80 | ((code >> 6) & 0x3F)
            out[to + 2] = 0x80 | (code & 0x3F)
            to += 3
        else:
            out[to] = 0xF0 | (code >> 18)
            out[to + 1] = 0x80 | ((code >> 12) & 0x3F)
            out[to + 2] = 0x80 | ((code >> 6) & 0x3F)
            out[to + 3] = 0x80 | (code & 0x3F)
            to += 4
    return to


@numba.njit(cache=True, nogil=True)
def number_end(data: Any, at: Any, stop: Any) -> Any:  # pragma: no cover - compiled
    """Return the position after the number at ``at``, and whether it is written as a whole number."""
    whole = True
    if at < stop and data[at] == 45:
        at += 1
    if at >= stop or not 48 <= data[at] <= 57:
        return -1, whole
    if data[at] == 48:
        at += 1
    else:
        while at < stop and 48 <= data[at] <= 57:
            at += 1
    if at < stop and data[at] == 46:
        whole = False
        at += 1
        first = at
        while at < stop and 48 <= data[at] <= 57:
            at += 1
        if at == first:
            return -1, whole
    if at < stop and (data[at] == 101 or data[at] == 69):
        whole = False
        at += 1
        if at < stop and (data[at] == 43 or data[at] == 45):
            at += 1
        first = at
        while at < stop and 48 <= data[at] <= 57:
            at += 1
        if at == first:
            return -1, whole
    return at, whole


@numba.njit(cache=True, nogil=True)
def _literal_end(data: Any, at: Any, stop: Any) -> Any:  # pragma: no cover - compiled
    """Return the position after ``true``, ``false`` or ``null``."""
    if at + 4 <= stop:
        a, b, c, d = data[at], data[at + 1], data[at + 2], data[at + 3]
        if a == 116 and b == 114 and c == 117 and d == 101:
            return at + 4
        if a == 110 and b == 117 and c == 108 and d == 108:
            return at + 4
        if a == 102 and b == 97 and c == 108 and d == 115 and at + 5 <= stop and data[at + 4] == 101:
            return at + 5
    return -1


@numba.njit(cache=True, nogil=True)
def _key_end(data: Any, at: Any, stop: Any, line: Any) -> Any:  # pragma: no cover - compiled
    """Return the position after the colon that follows the key at ``at``."""
    at = skip_space(data, at, stop, line)
    if at >= stop or data[at] != 34:
        return -1
    at, _ = string_end(data, at + 1, stop)
    if at < 0:
        return -1
    at = skip_space(data, at + 1, stop, line)
    return at + 1 if at < stop and data[at] == 58 else -1


@numba.njit(cache=True, nogil=True)
def value_end(data: Any, at: Any, stop: Any, depth: Any, line: Any) -> Any:  # pragma: no cover - compiled
    """Return the position after the value at ``at``, any value, inside ``depth`` open brackets."""
    objects = np.uint64(0)  # bit n: the bracket n levels up is of an object
    opened = 0
    while True:
        if at >= stop:
            return -1
        byte = data[at]
        inside = False
        if byte == 34:
            at, _ = string_end(data, at + 1, stop)
            at = at + 1 if at >= 0 else -1
        elif byte == 123 or byte == 91:
            opened += 1
            if opened + depth > DEPTH_MAX:
                return -1
            objects = (objects << np.uint64(1)) | np.uint64(byte == 123)
            at = skip_space(data, at + 1, stop, line)
            if at >= stop:
                return -1
            if data[at] == byte + 2:  # the bracket that closes
                opened -= 1
                objects >>= np.uint64(1)
                at += 1
            else:
                inside = True
                if byte == 123:
                    at = _key_end(data, at, stop, line)
        elif byte == 45 or 48 <= byte <= 57:
            at, _ = number_end(data, at, stop)
        else:
            at = _literal_end(data, at, stop)
        if at < 0:
            return -1
        while not inside:
            if opened == 0:
                return at
            at = skip_space(data, at, stop, line)
            if at >= stop:
                return -1
            is_object = objects & np.uint64(1)
            if data[at] == 44:
                inside = True
                at += 1
                if is_object:
                    at = _key_end(data, at, stop, line)
                    if at < 0:
                        return -1
            elif data[at] == (125 if is_object else 93):
                opened -= 1
                objects >>= np.uint64(1)
                at += 1
            else:
                return -1
        at = skip_space(data, at, stop, line)


@numba.njit(_I64(BYTES_IN), cache=True, nogil=True)
def nesting(data: Any) -> Any:  # pragma: no cover - compiled
    """Return how deeply arrays and objects are nested, whether or not ``data`` is sound JSON otherwise."""
    now = deepest = np.int64(0)
    inside = False
    at = 0
    while at < len(data):
        byte = data[at]
        if inside:
            if byte == 92:
                at += 1
            elif byte == 34:
                inside = False
        elif byte == 34:
            inside = True
        elif byte == 91 or byte == 123:
            now += 1
            deepest = max(now, deepest)
        elif byte == 93 or byte == 125:
            now -= 1
        at += 1
    return deepest
