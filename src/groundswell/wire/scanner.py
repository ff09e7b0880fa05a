"""The scanner under one version of the definitions: bodies in, typed Arrow columns and the places of the rest out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from groundswell.model.definitions import Definitions, PropertyType
from groundswell.model.event import CLIENT_STRINGS
from groundswell.wire import scan_event as words
from groundswell.wire.lookup import lookup_of
from groundswell.wire.scan import copy_texts, scan_bodies, text_ends
from groundswell.wire.schema import TIMESTAMP, all_events, all_properties

__all__ = ["Chunk", "Place", "Scanner"]

ROOM_MAX: Final = 8_192  # rows of a chunk: their cells stay in the cache of a core
_CELLS_MAX: Final = 4_000_000  # 12 bytes each: with very many properties chunks are shorter
_FLOATS_A_ROW: Final = 4  # numbers that need exact rounding; an event that finds no room is left to the reference
_ALWAYS: Final = ("event_id", "type", "ts")

_KINDS: Final[dict[PropertyType, int]] = {
    "string": words.STRING,
    "int": words.INT,
    "float": words.FLOAT,
    "bool": words.BOOL,
    "timestamp": words.TIMESTAMP,
}


class Place(NamedTuple):
    """Where a body lies in the data, how it holds its events, and when it arrived."""

    start: int
    stop: int
    mode: int
    received_at_us: int


class Chunk(NamedTuple):
    """Some events, in order. ``events`` has a row of (body, row of ``columns`` or -1, from, to) for each."""

    columns: dict[str, Any]  # what clients gave: event_id, type, ts and what else any row has
    rows: int
    events: npt.NDArray[np.int64]
    broken: int  # the body that follows the last event is no array; -1 where none is


class Scanner:
    """Safe to use from several threads."""

    def __init__(self, definitions: Definitions) -> None:
        properties = all_properties(definitions)
        events = all_events(definitions)
        self._names = list(properties)
        self._types: list[PropertyType] = [declared.type for declared in properties.values()]
        self._lookup = lookup_of([words.ENVELOPE_KEYS, self._names, list(events)])
        self._columns = words.FIRST_PROPERTY + len(self._names)
        self._room_max = max(256, min(ROOM_MAX, _CELLS_MAX // self._columns))

        number = {name: place for place, name in enumerate(self._names)}
        allowed = np.zeros((len(events), len(self._names)), np.int64)
        required: list[int] = []
        required_from: list[int] = []
        for place, event in enumerate(events.values()):
            allowed[place, [number[name] for name in event.properties]] = 1
            required_from.append(len(events) + 1 + len(required))
            required += [number[name] for name in event.required]
        required_from.append(len(events) + 1 + len(required))
        self._work = _laid_out(
            {
                words.KINDS_AT: [_KINDS[kind] for kind in self._types],
                words.COLUMN_AT: [-1] * len(self._names),
                words.SEEN_AT: [-1] * (len(words.ENVELOPE_KEYS) + len(self._names)),
                words.REQUIRED_AT: required_from + required,
                words.ALLOWED_AT: allowed.reshape(-1),
                words.EXTRAS_AT: [0] * (5 * words.EXTRAS_MAX),
                words.GIVEN_AT: [0] * (5 * words.GIVEN_MAX),
            }
        )
        self._work[words.COLUMNS_MAX] = self._columns
        self._work[words.MASK] = self._lookup.mask
        self._work[words.PROPERTY_COUNT] = len(self._names)
        self._work[words.COLUMNS] = words.FIRST_PROPERTY

    def scan(self, data: bytes, places: Sequence[Place], *, events_max: int) -> Iterator[Chunk]:
        """Yield the events of the bodies at ``places`` in ``data``, chunk by chunk.

        Of a body with more than ``events_max`` events some more than those are yielded, and not all.
        """
        run = _Run(data, places)
        while not run.done:
            chunk = self._chunk(run)
            run.counts += np.bincount(chunk.events[:, 0], minlength=len(places))
            body = int(run.state[0])
            if not run.done and run.counts[body] > events_max:
                run.state = np.array([body + 1, -1, 0], np.int64)
                run.done = body + 1 == len(places)
            yield chunk

    def _chunk(self, run: _Run) -> Chunk:
        room = min(self._room_max, len(run.data) // 24 + len(run.places))
        values = np.empty(self._columns * room, np.int64)
        sizes = np.empty(self._columns * room, np.int32)
        side = np.empty(
            2 * len(run.data) + 32 * room + 64, np.uint8
        )  # a text may be there twice: unescaped, and in extra
        fixed = len(self._work)
        work = np.empty(fixed + (4 + 3 * _FLOATS_A_ROW) * room, np.int64)
        work[:fixed] = self._work
        work[words.SIZE], work[words.ROOM], work[words.FLOATS_MAX] = len(run.data), room, _FLOATS_A_ROW * room
        work[words.EVENTS_AT], work[words.FLOATS_AT] = fixed, fixed + 4 * room
        work[[words.BODY, words.AT, words.PHASE]] = run.state
        lookup = self._lookup
        scan_bodies(run.bytes, run.places, lookup.slots, lookup.text, values, sizes, side, work)
        assert work[words.SIDE] <= len(side)
        run.state = work[[words.BODY, words.AT, words.PHASE]]
        run.done = 4 * int(run.state[0]) == len(run.places)
        first = int(work[words.FLOATS_AT])
        exact = values.view(np.float64)
        for cell, start, end in work[first : first + 3 * work[words.FLOATS]].reshape(-1, 3).tolist():
            exact[cell] = float(run.data[start:end])
        count, rows = int(work[words.EVENTS]), int(work[words.ROWS])
        return Chunk(
            self._arrow(_Cells(run.bytes, side, values, sizes, room, rows), work),
            rows,
            work[fixed : fixed + 4 * count].reshape(-1, 4),
            int(work[words.BROKEN]),
        )

    def _arrow(self, cells: _Cells, work: npt.NDArray[np.int64]) -> dict[str, Any]:
        columns: dict[str, Any] = {}
        for column, name in enumerate((*CLIENT_STRINGS, "ts", "extra")):
            made = cells.arrow(column, "timestamp" if name == "ts" else "string", always=name in _ALWAYS)
            if made is not None:
                columns[name] = made
        first = int(work[words.COLUMN_AT])
        for number in np.flatnonzero(work[first : first + len(self._names)] >= 0).tolist():
            made = cells.arrow(int(work[first + number]), self._types[number])
            if made is not None:
                columns[self._names[number]] = made
        return columns


class _Run:
    """How far a scan has come."""

    def __init__(self, data: bytes, places: Sequence[Place]) -> None:
        self.data = data
        self.bytes = np.frombuffer(data, np.uint8)
        self.places = np.array(places, np.int64).reshape(-1)
        self.state = np.array([0, -1, 0], np.int64)
        self.counts = np.zeros(len(places), np.int64)
        self.done = not places


class _Cells(NamedTuple):
    """What the scanner wrote, column by column."""

    data: npt.NDArray[np.uint8]
    side: npt.NDArray[np.uint8]
    values: npt.NDArray[np.int64]
    sizes: npt.NDArray[np.int32]
    room: int
    rows: int

    def arrow(self, column: int, kind: PropertyType, *, always: bool = False) -> Any:
        """Return a column as an Arrow array, or None where no row has a value and it is not needed ``always``."""
        start = column * self.room
        sizes = self.sizes[start : start + self.rows]
        values = self.values[start : start + self.rows]
        valid = sizes >= 0
        count = int(np.count_nonzero(valid))
        if not count and not always:
            return None
        bitmap = None if count == self.rows else _bits(valid)
        nulls = self.rows - count
        if kind == "string":
            offsets = np.empty(self.rows + 1, np.int32)
            text_ends(sizes, offsets)
            text = np.empty(int(offsets[-1]), np.uint8)
            copy_texts(self.data, self.side, values, sizes, text)
            return pa.StringArray.from_buffers(self.rows, pa.py_buffer(offsets), pa.py_buffer(text), bitmap, nulls)
        if kind == "bool":
            return pa.Array.from_buffers(pa.bool_(), self.rows, [bitmap, _bits(values == 1)], nulls)
        # a cell without a value was never written: whatever the memory held must not travel
        values = values.copy() if bitmap is None else np.where(valid, values, 0)
        return pa.Array.from_buffers(_NUMBERS[kind], self.rows, [bitmap, pa.py_buffer(values)], nulls)


_NUMBERS: Final = {"int": pa.int64(), "float": pa.float64(), "timestamp": TIMESTAMP}


def _bits(flags: npt.NDArray[np.bool_]) -> pa.Buffer:
    return pa.py_buffer(np.packbits(flags, bitorder="little"))


def _laid_out(sections: dict[int, Any]) -> npt.NDArray[np.int64]:
    """Return the state with sections behind it, and their places in it."""
    work = np.zeros(words.STATE_WORDS, np.int64)
    work[words.BROKEN] = work[words.AT] = -1
    parts = [work]
    at = len(work)
    for place, content in sections.items():
        work[place] = at
        parts.append(np.array(content, np.int64))
        at += len(parts[-1])
    return np.concatenate(parts)
