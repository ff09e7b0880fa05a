"""The fast way through plain events: one pass over the bytes of many bodies, straight into columns.

An event is plain where nothing in it needs a second thought: sound JSON, known types, each key once. Everything else is
left to the reference, which also finds the words for what is wrong; tests hold the two together on all kinds of input.

Invariants
    what the scanner takes, the reference takes with the same values; what it does not understand it does not take
    it never writes past the room it is given: where that is full it returns, and is called again
    a byte past the end of a body is never read: each position is compared with its end first

The kernels share ``work``, an array of int64 whose first words are the state named below, followed by sections whose
places stand in the state. Pointers, not arrays, are handed on: an array is seven words and a reference count each time.
"""
# ruff: noqa: C901, PLR0911, PLR0912, PLR0917, PLR1714, SIM110 (compiled kernels)

from __future__ import annotations

from typing import Any, Final

import numba
import numpy as np

from groundswell import limits
from groundswell.model.clock import parse_us
from groundswell.model.event import CLIENT_STRINGS
from groundswell.wire.grammar import number_end, skip_space, string_end, unescape, value_end
from groundswell.wire.lookup import find
from groundswell.wire.reference import ENVELOPE_EXTRA
from groundswell.wire.times import NO_TIME, rfc3339_us

# columns of the cells: the client's texts, then these, then properties as they turn up
TS: Final = len(CLIENT_STRINGS)
EXTRA: Final = TS + 1
FIRST_PROPERTY: Final = TS + 2

# numbers of envelope keys: the texts and ``ts`` as their columns, then these
ENVELOPE_KEYS: Final = (*CLIENT_STRINGS, "ts", "sent_at", "properties")
SENT_AT: Final = ENVELOPE_KEYS.index("sent_at")
PROPERTIES: Final = ENVELOPE_KEYS.index("properties")
EVENT_ID: Final = CLIENT_STRINGS.index("event_id")
TYPE: Final = CLIENT_STRINGS.index("type")

# kinds of names in the lookup
OF_ENVELOPE: Final = 0
OF_PROPERTIES: Final = 1
OF_TYPES: Final = 2

# kinds of properties
STRING: Final = 0
INT: Final = 1
FLOAT: Final = 2
BOOL: Final = 3
TIMESTAMP: Final = 4

# the state: words of ``work``
SIZE: Final = 0  # bytes of the data; a text that starts past it is in ``side``
ROOM: Final = 1  # rows and events that fit
COLUMNS_MAX: Final = 2
FLOATS_MAX: Final = 3
MASK: Final = 4  # of the lookup
PROPERTY_COUNT: Final = 5
KINDS_AT: Final = 6  # section: kind of each property
COLUMN_AT: Final = 7  # section: column of each property, or -1
SEEN_AT: Final = 8  # section: of envelope keys and properties, the last event that had it
REQUIRED_AT: Final = 9  # section: of each type where its required properties start, one more, then those
ALLOWED_AT: Final = 10  # section: type x property, 1 where it may carry it
EXTRAS_AT: Final = 11  # section: (top, key from, key to, value from, value to) of undeclared keys of one event
GIVEN_AT: Final = 12  # section: (property, key from, key to, value from, value to) of declared keys of one event
FLOATS_AT: Final = 13  # section: (row, column, from, to) of numbers that need exact rounding
EVENTS_AT: Final = 14  # section: (body, row or -1, from, to) of each event
BODY: Final = 15
AT: Final = 16  # position in the body; -1: at its start
PHASE: Final = 17
EVENTS: Final = 18
ROWS: Final = 19
COLUMNS: Final = 20
SIDE: Final = 21
FLOATS: Final = 22
EXTRAS: Final = 23
GIVEN: Final = 24
BROKEN: Final = 25  # a body that is no array, or -1
NOW_US: Final = 26
STATE_WORDS: Final = 32

EXTRAS_MAX: Final = 64  # undeclared keys of one event; one with more is left to the reference
GIVEN_MAX: Final = 256  # declared properties of one event

_EARLIEST_US: Final = parse_us("ts_earliest", limits.ts_earliest)
_AHEAD_US: Final = limits.ts_ahead_s_max * 1_000_000
_EVENT_BYTES_MAX: Final = limits.event_bytes_max
_ID_BYTES_MAX: Final = limits.event_id_chars_max
_TEXT_BYTES_MAX: Final = limits.envelope_chars_max
_RESERVED: Final = np.frombuffer(ENVELOPE_EXTRA.encode(), np.uint8)
_RESERVED_SIZE: Final = len(ENVELOPE_EXTRA)
_TENS: Final = np.array([10.0**power for power in range(23)])  # exact as floats


@numba.njit(nogil=True)
def _text(data: Any, at: Any, stop: Any, values: Any, sizes: Any, side: Any, work: Any, cell: Any) -> Any:
    """Put the string at ``at`` into a cell; return the position after it."""
    end, escaped = string_end(data, at + 1, stop)
    if end < 0:
        return end
    start, size = at + 1, end - at - 1
    if escaped:
        start = work[SIZE] + work[SIDE]
        after = unescape(data, at + 1, end, side, work[SIDE])
        size = after - work[SIDE]
        work[SIDE] = after
    values[cell] = start
    sizes[cell] = size
    return end + 1


@numba.njit(nogil=True)
def _integer(data: Any, at: Any, stop: Any, values: Any, sizes: Any, cell: Any) -> Any:
    """Put a whole number of at most 18 digits into a cell; 5.0 is whole."""
    end, whole = number_end(data, at, stop)
    if end < 0:
        return end
    negative = data[at] == 45
    place = at + negative
    value = np.int64(0)
    first = place
    while place < end and data[place] != 46:
        byte = data[place]
        if byte == 101 or byte == 69 or place - first >= 18:
            return np.int64(-1)
        value = value * 10 + (np.int64(byte) - 48)
        place += 1
    if not whole:
        place += 1
        while place < end:
            if data[place] != 48:
                return np.int64(-1)
            place += 1
    values[cell] = -value if negative else value
    sizes[cell] = 0
    return end


@numba.njit(nogil=True)
def _exponent(data: Any, place: Any, end: Any) -> Any:
    """Return the number after an ``e``; what is beyond any float stops counting."""
    falling = data[place] == 45
    if falling or data[place] == 43:
        place += 1
    exponent = np.int64(0)
    while place < end and exponent < 100_000:
        exponent = exponent * 10 + (np.int64(data[place]) - 48)
        place += 1
    return -exponent if falling else exponent


@numba.njit(nogil=True)
def _float(data: Any, at: Any, stop: Any, values: Any, sizes: Any, work: Any, cell: Any) -> Any:
    """Put a number into a cell: where one rounding makes it exact (Clinger 1990), else note it for exact rounding."""
    end, _ = number_end(data, at, stop)
    if end < 0:
        return end
    digits, scale, point = np.int64(0), np.int64(0), np.int64(0)
    mantissa = np.uint64(0)
    place = at + (data[at] == 45)
    while place < end:
        byte = data[place]
        if byte == 46:
            point = np.int64(1)
        elif byte == 101 or byte == 69:
            scale += _exponent(data, place + 1, end)
            break
        else:
            if digits > 0 or byte != 48:
                digits += 1
                mantissa = mantissa * np.uint64(10) + np.uint64(byte - 48)
            scale -= point
        place += 1
    if digits + scale > 300:
        return np.int64(-1)
    sizes[cell] = 0
    if digits <= 19 and mantissa <= np.uint64(1 << 53) and -22 <= scale <= 22:
        value = np.float64(mantissa)
        value = value / _TENS[-scale] if scale < 0 else value * _TENS[scale]
        values[cell] = np.float64(-value if data[at] == 45 else value).view(np.int64)
        return end
    if work[FLOATS] == work[FLOATS_MAX]:
        return np.int64(-1)
    note = work[FLOATS_AT] + 3 * work[FLOATS]
    work[note], work[note + 1], work[note + 2] = cell, at, end
    work[FLOATS] += 1
    return end


@numba.njit(nogil=True)
def _moment(data: Any, at: Any, stop: Any, values: Any, sizes: Any, cell: Any) -> Any:
    """Put an RFC 3339 time into a cell."""
    end, escaped = string_end(data, at + 1, stop)
    if end < 0 or escaped:
        return np.int64(-1)
    moment = rfc3339_us(data, at + 1, end)
    if moment == NO_TIME:
        return np.int64(-1)
    values[cell] = moment
    sizes[cell] = 0
    return end + 1


@numba.njit(nogil=True)
def _is_null(data: Any, at: Any, stop: Any) -> Any:
    return at + 4 <= stop and data[at] == 110 and data[at + 1] == 117 and data[at + 2] == 108 and data[at + 3] == 108


@numba.njit(nogil=True)
def _property(data: Any, at: Any, stop: Any, values: Any, sizes: Any, side: Any, work: Any, number: Any) -> Any:
    """Put a declared property's value into its column; return the position after it."""
    none = np.int64(-1)
    if _is_null(data, at, stop):
        return at + 4
    column = work[work[COLUMN_AT] + number]
    if column < 0:
        column = work[COLUMNS]
        if column == work[COLUMNS_MAX]:
            return none
        work[COLUMNS] += 1
        work[work[COLUMN_AT] + number] = column
        for row in range(work[ROWS] + 1):
            sizes[column * work[ROOM] + row] = -1
    cell = column * work[ROOM] + work[ROWS]
    kind = work[work[KINDS_AT] + number]
    byte = data[at]
    if kind == STRING:
        return _text(data, at, stop, values, sizes, side, work, cell) if byte == 34 else none
    if kind == INT:
        return _integer(data, at, stop, values, sizes, cell)
    if kind == FLOAT:
        return _float(data, at, stop, values, sizes, work, cell)
    if kind == TIMESTAMP:
        return _moment(data, at, stop, values, sizes, cell) if byte == 34 else none
    if byte != 116 and byte != 102:
        return none
    end = value_end(data, at, stop, np.int64(0), True)
    values[cell] = byte == 116
    sizes[cell] = 0
    return end


@numba.njit(nogil=True)
def _noted(
    work: Any, count: Any, section: Any, most: Any, what: Any, key_from: Any, key_to: Any, start: Any, end: Any
) -> Any:
    """Note a key and its value in a section; return False where that is full."""
    if work[count] == most:
        return False
    note = work[section] + 5 * work[count]
    work[note], work[note + 1], work[note + 2], work[note + 3], work[note + 4] = what, key_from, key_to, start, end
    work[count] += 1
    return True


@numba.njit(nogil=True)
def _undeclared(data: Any, at: Any, stop: Any, line: Any, work: Any, top: Any, key_from: Any, key_to: Any) -> Any:
    """Note a key that no definition has, and its value."""
    end = value_end(data, at, stop, np.int64(2) - top, line)
    return end if _noted(work, EXTRAS, EXTRAS_AT, EXTRAS_MAX, top, key_from, key_to, at, end) else np.int64(-1)


@numba.njit(nogil=True)
def _seen(work: Any, mark: Any) -> Any:
    """Return whether this event had this key before, and mark that it has."""
    place = work[SEEN_AT] + mark
    before = work[place] == work[EVENTS]
    work[place] = work[EVENTS]
    return before


@numba.njit(nogil=True)
def _known(data: Any, at: Any, stop: Any, values: Any, sizes: Any, side: Any, work: Any, key: Any) -> Any:
    """Take the value of a known text or time of the envelope; return the position after it, or -1."""
    none = np.int64(-1)
    if _is_null(data, at, stop):
        return at + 4
    if data[at] != 34:
        return none
    cell = key * work[ROOM] + work[ROWS]
    if key == TS:
        return _moment(data, at, stop, values, sizes, cell)
    end = _text(data, at, stop, values, sizes, side, work, cell)
    if sizes[cell] == 0:
        sizes[cell] = -1  # "" names nobody; without an id or a type the event is not plain
    return none if sizes[cell] > _TEXT_BYTES_MAX else end


@numba.njit(nogil=True)
def _object(
    data: Any, at: Any, stop: Any, line: Any, slots: Any, text: Any, values: Any, sizes: Any, side: Any, work: Any
) -> Any:
    """Take the event whose brace is at ``at``, and its properties; return the position after it, or -1."""
    none = np.int64(-1)
    top = np.int64(1)  # 1 among the keys of the envelope, 0 among properties
    at = skip_space(data, at + 1, stop, line)
    while True:
        if at >= stop or data[at] != 34:
            return none
        key = at + 1
        end, escaped = string_end(data, key, stop)
        if end < 0 or escaped:
            return none
        at = skip_space(data, end + 1, stop, line)
        if at >= stop or data[at] != 58:
            return none
        at = skip_space(data, at + 1, stop, line)
        if at >= stop:
            return none
        number = find(slots, text, work[MASK], 1 - top, data, key, end)
        if number < 0:
            at = _undeclared(data, at, stop, line, work, top, key, end)
        elif _seen(work, number + (1 - top) * len(ENVELOPE_KEYS)):
            return none
        elif top == 0:
            value = at
            at = _property(data, at, stop, values, sizes, side, work, number)
            if not _noted(work, GIVEN, GIVEN_AT, GIVEN_MAX, number, key, end, value, at):
                return none
        elif number == PROPERTIES and data[at] == 123:
            at = skip_space(data, at + 1, stop, line)
            if at < stop and data[at] != 125:
                top = np.int64(0)
                continue
            at += 1
        elif number == SENT_AT:
            at = value_end(data, at, stop, np.int64(1), line)
        else:
            at = _known(data, at, stop, values, sizes, side, work, number) if number != PROPERTIES else none
        while True:  # past the value: a comma, or a brace that closes properties or the event
            if at < 0:
                return none
            at = skip_space(data, at, stop, line)
            if at >= stop:
                return none
            if data[at] != 125:
                break
            at += 1
            if top == 1:
                return at
            top = np.int64(1)
        if data[at] != 44:
            return none
        at = skip_space(data, at + 1, stop, line)


@numba.njit(nogil=True)
def _is_visible(data: Any, start: Any, size: Any) -> Any:
    """Return whether a text has an ASCII character that can be seen; one without may be blank to the reference."""
    for at in range(start, start + size):
        if 32 < data[at] < 127:
            return True
    return False


@numba.njit(nogil=True)
def _holds(data: Any, slots: Any, text: Any, values: Any, sizes: Any, side: Any, work: Any) -> Any:
    """Return whether the event in the next row keeps the rules that span its keys."""
    room, row = work[ROOM], work[ROWS]
    event_id, kind = EVENT_ID * room + row, TYPE * room + row
    if sizes[event_id] <= 0 or sizes[event_id] > _ID_BYTES_MAX or sizes[kind] <= 0:
        return False
    start = values[event_id]
    if start >= work[SIZE]:
        visible = _is_visible(side, start - work[SIZE], sizes[event_id])
    else:
        visible = _is_visible(data, start, sizes[event_id])
    if not visible:
        return False
    start = values[kind]
    if start >= work[SIZE]:
        return False
    number = find(slots, text, work[MASK], OF_TYPES, data, start, start + sizes[kind])
    if number < 0:
        return False
    allowed = work[ALLOWED_AT] + number * work[PROPERTY_COUNT]
    for place in range(work[GIVEN]):
        note = work[GIVEN_AT] + 5 * place
        if work[allowed + work[note]] == 0:  # declared, but not for this type of event
            column = work[work[COLUMN_AT] + work[note]]
            if column >= 0:
                sizes[column * room + row] = -1
            if not _noted(
                work, EXTRAS, EXTRAS_AT, EXTRAS_MAX, 0, work[note + 1], work[note + 2], work[note + 3], work[note + 4]
            ):
                return False
    required = work[REQUIRED_AT]
    for place in range(work[required + number], work[required + number + 1]):
        column = work[work[COLUMN_AT] + work[required + place]]
        if column < 0 or sizes[column * room + row] < 0:
            return False
    ts = TS * room + row
    return sizes[ts] < 0 or _EARLIEST_US <= values[ts] <= work[NOW_US] + _AHEAD_US


@numba.njit(nogil=True)
def _compare(data: Any, work: Any, a: Any, b: Any) -> Any:
    """Return below 0, 0 or above as undeclared key ``a`` stands before, equals or stands after ``b``."""
    if work[a] != work[b]:
        return work[a] - work[b]
    a_size, b_size = work[a + 2] - work[a + 1], work[b + 2] - work[b + 1]
    for place in range(min(a_size, b_size)):
        order = np.int64(data[work[a + 1] + place]) - np.int64(data[work[b + 1] + place])
        if order != 0:
            return order
    return a_size - b_size


@numba.njit(nogil=True)
def _sort_extras(data: Any, work: Any) -> Any:
    """Sort undeclared keys, properties first, then by bytes. Return False where one stands twice or is reserved."""
    for place in range(work[EXTRAS]):
        note = work[EXTRAS_AT] + 5 * place
        if work[note] == 0 and work[note + 2] - work[note + 1] == _RESERVED_SIZE:
            same = True
            for at in range(_RESERVED_SIZE):
                same &= data[work[note + 1] + at] == _RESERVED[at]
            if same:
                return False
        while note > work[EXTRAS_AT]:
            order = _compare(data, work, note - 5, note)
            if order == 0:
                return False
            if order < 0:
                break
            for field in range(5):
                work[note - 5 + field], work[note + field] = work[note + field], work[note - 5 + field]
            note -= 5
    return True


@numba.njit(nogil=True)
def _write_pair(data: Any, side: Any, to: Any, work: Any, note: Any) -> Any:
    """Write one undeclared key and its value, as they were sent; return the position after them."""
    side[to] = 34
    to += 1
    for at in range(work[note + 1], work[note + 2]):
        side[to] = data[at]
        to += 1
    side[to], side[to + 1] = 34, 58
    to += 2
    for at in range(work[note + 3], work[note + 4]):
        side[to] = data[at]
        to += 1
    return to


@numba.njit(nogil=True)
def _write_extras(data: Any, values: Any, sizes: Any, side: Any, work: Any) -> None:
    """Write the sorted undeclared keys as the text of ``extra``."""
    cell = EXTRA * work[ROOM] + work[ROWS]
    to = work[SIDE]
    values[cell] = work[SIZE] + to
    side[to] = 123
    to += 1
    inside = False
    for place in range(work[EXTRAS]):
        note = work[EXTRAS_AT] + 5 * place
        if place > 0:
            side[to] = 44
            to += 1
        if work[note] == 1 and not inside:
            inside = True
            side[to] = 34
            for at in range(_RESERVED_SIZE):
                side[to + 1 + at] = _RESERVED[at]
            to += 1 + _RESERVED_SIZE
            side[to], side[to + 1], side[to + 2] = 34, 58, 123
            to += 3
        to = _write_pair(data, side, to, work, note)
    if inside:
        side[to] = 125
        to += 1
    side[to] = 125
    sizes[cell] = to + 1 - work[SIDE]
    work[SIDE] = to + 1


@numba.njit(nogil=True)
def take(
    data: Any, at: Any, stop: Any, line: Any, slots: Any, text: Any, values: Any, sizes: Any, side: Any, work: Any
) -> Any:
    """Take a plain event into the next row; return the position after it, or -1 with nothing taken."""
    side_before, floats_before = work[SIDE], work[FLOATS]
    work[EXTRAS] = work[GIVEN] = 0
    for column in range(work[COLUMNS]):
        sizes[column * work[ROOM] + work[ROWS]] = -1
    end = _object(data, at, stop, line, slots, text, values, sizes, side, work)
    plain = end >= 0 and end - at <= _EVENT_BYTES_MAX and _holds(data, slots, text, values, sizes, side, work)
    if plain and work[EXTRAS] > 0:
        plain = _sort_extras(data, work)
        if plain:
            _write_extras(data, values, sizes, side, work)
    if not plain:
        work[SIDE], work[FLOATS] = side_before, floats_before
        return np.int64(-1)
    return end
