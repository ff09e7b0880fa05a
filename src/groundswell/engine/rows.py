"""Rows of the lake as plain arrays: names become a program's numbers, and every row knows its unit.

Invariants
    ``kind`` 0 means that the row has the unit counted here; else it says what the row has instead: 1 to 3 a layout key
    of another kind, 4 nobody at all (each event is then its own unit)
    ``event``, ``experiment`` and ``variant`` are codes of the program, -1 where it does not know the name
    a missing value is NaN
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from groundswell.engine import kernels
from groundswell.engine.program import Program
from groundswell.errors import Corrupt, InvalidInput
from groundswell.model.definitions import EXPOSURE_EXPERIMENT, EXPOSURE_VARIANT, UNIT_KINDS
from groundswell.wire.hashing import hash64

__all__ = ["ARRIVAL_COLUMNS", "CODED_COLUMNS", "NOBODY", "Rows", "by_layout", "by_nobody", "by_own_id", "columns_of"]

NOBODY: Final = 4
ARRIVAL_COLUMNS: Final = ("received_at", "content_hash")  # read only where an identity comes twice
CODED_COLUMNS: Final = ("type", EXPOSURE_EXPERIMENT, EXPOSURE_VARIANT)
_ALWAYS: Final = ("unit_hash", "unit_kind", "type", "ts", "event_hash", EXPOSURE_EXPERIMENT, EXPOSURE_VARIANT)


@dataclass(frozen=True, slots=True)
class Rows:
    """One array a column. ``values`` has shape (values, rows); ``arrival``: received_at, content_hash, where read."""

    unit_hash: NDArray[np.int64]
    kind: NDArray[np.int8]
    event: NDArray[np.int32]
    experiment: NDArray[np.int32]
    variant: NDArray[np.int32]
    ts: NDArray[np.int64]
    event_hash: NDArray[np.int64]
    values: NDArray[np.float64]
    arrival: NDArray[np.int64]  # shape (2, rows), or (2, 0) where not read

    def __len__(self) -> int:
        return len(self.unit_hash)

    @classmethod
    def empty(cls, values: int) -> Rows:
        """Return no rows of ``values`` value columns."""
        longs, ints = np.empty(0, np.int64), np.empty(0, np.int32)
        return cls(
            longs,
            np.empty(0, np.int8),
            ints,
            ints,
            ints,
            longs,
            longs,
            np.empty((values, 0)),
            np.empty((2, 0), np.int64),
        )

    def columns(self) -> tuple[NDArray[Any], ...]:
        """Return the arrays in the order in which the sweep takes them."""
        return (
            *(self.unit_hash, self.kind, self.event, self.experiment, self.variant),
            *(self.ts, self.event_hash, self.values),
        )

    def between(self, low: int, high: int) -> tuple[int, int]:
        """Return [start, stop) of the rows whose unit_hash lies in a range, both ends inclusive."""
        start, stop = np.searchsorted(self.unit_hash, low, "left"), np.searchsorted(self.unit_hash, high, "right")
        return int(start), int(stop)

    def take(self, which: Any) -> Rows:
        """Return the rows that an index, a mask or a slice selects."""
        arrival = self.arrival if self.arrival.shape[1] != len(self) else self.arrival[:, which]
        columns = {field.name: getattr(self, field.name) for field in fields(self)[:-2]}
        return Rows(
            **{name: np.ascontiguousarray(column[which]) for name, column in columns.items()},
            values=np.ascontiguousarray(self.values[:, which]),
            arrival=arrival,
        )

    @staticmethod
    def concat(parts: Sequence[Rows]) -> Rows:
        """Return the rows of ``parts``, one after the other."""
        if len(parts) == 1:
            return parts[0]
        joined = {
            field.name: np.concatenate([getattr(part, field.name) for part in parts], axis=-1) for field in fields(Rows)
        }
        return Rows(**joined)

    def in_order(self) -> Rows:
        """Return the rows in order of ``unit_hash``; merged runs are already nearly so, which the sort makes use of."""
        ascending = bool((self.unit_hash[1:] >= self.unit_hash[:-1]).all())
        return self if ascending else self.take(np.argsort(self.unit_hash, kind="stable"))

    def without_arrival(self) -> Rows:
        """Return the same rows without what only repeats need."""
        return replace(self, arrival=np.empty((2, 0), np.int64))

    def repeats(self) -> NDArray[np.bool_] | None:
        """Return a mask of rows whose identity comes more than once within a unit; None where there is none."""
        repeated = np.zeros(len(self), np.bool_)
        found = kernels.mark_repeats(self.unit_hash, self.event_hash, repeated)
        return repeated if found else None

    def once_each(self, repeated: NDArray[np.bool_]) -> Rows:
        """Return the rows without those of a repeated identity that were not the first received."""
        which = np.flatnonzero(repeated)
        received, content = self.arrival[:, which]
        keys = (self.event_hash[which], self.unit_hash[which])
        order = np.lexsort((content, self.ts[which], received, *keys))
        same = np.ones(len(order) - 1, np.bool_)
        for key in keys:
            same &= key[order[1:]] == key[order[:-1]]
        keep = np.ones(len(self), np.bool_)
        keep[which[order[1:][same]]] = False
        return self.take(keep)


def columns_of(program: Program, *, arrival: bool) -> list[str]:
    """Return the columns of the lake that a program reads."""
    own = () if program.unit == 0 else (UNIT_KINDS[program.unit],)
    names = (*_ALWAYS, *own, *program.value_codes, *(ARRIVAL_COLUMNS if arrival else ()))
    return list(dict.fromkeys(names))


def by_layout(program: Program, table: pa.Table) -> Rows:
    """Return rows whose unit is the layout key. Every row must have one."""
    kind = table.column("unit_kind").to_numpy().astype(np.int8) + np.int8(1)
    kind[kind == program.unit + 1] = 0
    return _rows(program, table, _ints(table, "unit_hash"), kind)


def by_own_id(program: Program, table: pa.Table) -> Rows:
    """Return rows whose unit is the program's id column, hashed here; those that lack it keep their layout key."""
    ids = table.column(UNIT_KINDS[program.unit])
    lengths = _filled(pa.compute.binary_length(ids), 0)  # pyright: ignore[reportAttributeAccessIssue]
    layout = _filled(table.column("unit_kind"), NOBODY - 1) + 1
    layout_hash = np.where(layout == NOBODY, _ints(table, "event_hash"), _filled(table.column("unit_hash"), 0))
    has = lengths > 0
    return _rows(program, table, np.where(has, hash64(ids), layout_hash), np.where(has, 0, layout))


def by_nobody(program: Program, table: pa.Table) -> Rows:
    """Return only the rows that name nobody."""
    alone = table.filter(table.column("unit_hash").is_null())
    return _rows(program, alone, _ints(alone, "event_hash"), np.full(alone.num_rows, NOBODY))


def _rows(program: Program, table: pa.Table, unit_hash: NDArray[np.int64], kind: NDArray[Any]) -> Rows:
    arrival = np.empty((2, 0), np.int64)
    if ARRIVAL_COLUMNS[0] in table.column_names:
        content = _filled(table.column("content_hash"), 0)
        arrival = np.stack([_ints(table, "received_at"), content]).astype(np.int64, copy=False)
    return Rows(
        unit_hash=unit_hash,
        kind=kind.astype(np.int8, copy=False),
        event=_codes(table, "type", program.event_codes),
        experiment=_codes(table, EXPOSURE_EXPERIMENT, program.experiment_codes),
        variant=_codes(table, EXPOSURE_VARIANT, program.variant_codes),
        ts=_ints(table, "ts"),
        event_hash=_ints(table, "event_hash"),
        values=_values(table, program),
        arrival=arrival,
    )


def _ints(table: pa.Table, name: str) -> NDArray[np.int64]:
    column = table.column(name)
    if column.null_count:
        raise Corrupt(f"column {name} of the lake has {column.null_count} rows without a value; every event has one")
    return column.cast(pa.int64()).to_numpy()


def _filled(column: pa.ChunkedArray, value: int) -> NDArray[np.int64]:
    return column.cast(pa.int64()).fill_null(value).to_numpy()


def _codes(table: pa.Table, name: str, codes: Mapping[str, int]) -> NDArray[np.int32]:
    """Return the code of each row's text, -1 for one that ``codes`` does not know."""
    found = np.empty(table.num_rows, np.int32)
    start = 0
    for chunk in table.column(name).chunks:
        coded = chunk if pa.types.is_dictionary(chunk.type) else chunk.dictionary_encode()
        known = [codes.get(text, -1) for text in coded.dictionary.to_pylist()]
        indices = coded.indices.fill_null(len(known)) if coded.indices.null_count else coded.indices
        np.take(np.array([*known, -1], np.int32), indices.to_numpy(), out=found[start : start + len(chunk)])
        start += len(chunk)
    return found


def _values(table: pa.Table, program: Program) -> NDArray[np.float64]:
    """Return the value columns as floats; of a text only whether it is there can be asked."""
    values = np.empty((len(program.value_codes), table.num_rows))
    for name, code in program.value_codes.items():
        column = table.column(name)
        if pa.types.is_boolean(column.type):
            column = column.cast(pa.int64())
        elif not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)):
            if name in program.summed:
                raise InvalidInput(f"type of value {name}", str(column.type), "must be a number to be summed")
            values[code] = np.where(column.is_valid().to_numpy(), 1.0, np.nan)
            continue
        _spread(column, values[code])
    return values


def _spread(column: pa.ChunkedArray, out: NDArray[np.float64]) -> None:
    """Write numbers to ``out``, NaN where there is none."""
    dtype = np.float64 if pa.types.is_float64(column.type) else np.int64
    column = column.cast(pa.from_numpy_dtype(dtype))
    start = 0
    for chunk in column.chunks:
        here = out[start : start + len(chunk)]
        start += len(chunk)
        if chunk.null_count == 0:
            here[:] = chunk.to_numpy()
        elif chunk.null_count == len(chunk):
            here[:] = np.nan
        else:
            bits, data = chunk.buffers()
            kernels.spread_values(np.frombuffer(data, dtype), np.frombuffer(bits, np.uint8), chunk.offset, here)
