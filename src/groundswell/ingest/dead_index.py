"""An index of the dead-letter topic in columns: where each letter stands, what it is filtered by, what became of it.

Invariants
    a letter that crashes repeated is there once, where it was appended first
    about 80 bytes a letter, whatever it holds: contents stay in the log
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

__all__ = ["DeadIndex", "Letters"]

Int64s = npt.NDArray[np.int64]
_WHO_BITS: Final = 32
_NONE: Final = -1
_COLUMNS: Final = ("offset", "who", "mark", "at_offset", "at_row", "source", "reason", "type", "replayed")


class Letters(NamedTuple):
    """Letters in columns, each once, in the order in which they were appended."""

    partition: Int64s
    offset: Int64s
    row: Int64s
    at_offset: Int64s  # where the letter stands in the dead-letter topic
    at_row: Int64s
    source: Int64s  # codes; see ``DeadIndex.name``
    reason: Int64s
    type: Int64s
    replayed: Int64s  # 1 where it was sent through again
    attempts: Int64s  # replays that failed
    mark_offset: Int64s  # where the last mark stands, -1 where there is none
    mark_row: Int64s

    def take(self, rows: Int64s | npt.NDArray[np.bool_]) -> Letters:
        """Return some of them."""
        return Letters(*(column[rows] for column in self))


class DeadIndex:
    """Grows with the topic."""

    def __init__(self) -> None:
        self._parts: list[Mapping[str, Int64s]] = []
        self._codes: dict[str, int] = {}
        self._names: list[str] = []
        self._resolved: Letters | None = None

    def name(self, code: int) -> str | None:
        """Return the text of a code."""
        return None if code == _NONE else self._names[code]

    def code(self, name: str) -> int | None:
        """Return the code of a text; None where no letter has it."""
        return self._codes.get(name)

    def add_letters(self, at_offset: int, table: pa.Table) -> None:
        """Add one record's letters."""
        self._add(at_offset, table, mark=False, replayed=np.zeros(table.num_rows, np.int64))

    def add_marks(self, at_offset: int, table: pa.Table) -> None:
        """Add one record's marks."""
        outcomes = table.column("outcome").to_pylist()
        replayed = np.array([outcome == "replayed" for outcome in outcomes], np.int64)
        self._add(at_offset, table, mark=True, replayed=replayed)

    def drop_before(self, at_offset: int) -> None:
        """Forget what the log has dropped."""
        kept = [part for part in self._parts if part["at_offset"][0] >= at_offset]
        if len(kept) < len(self._parts):
            self._parts, self._resolved = kept, None

    def letters(self) -> Letters:
        """Return every letter, with the last word on it."""
        if self._resolved is None:
            self._resolved = self._resolve()
        return self._resolved

    def _add(self, at_offset: int, table: pa.Table, *, mark: bool, replayed: Int64s) -> None:
        rows = table.num_rows
        if rows == 0:
            return
        partition, row = _ints(table, "partition"), _ints(table, "row")
        nothing = np.full(rows, _NONE, np.int64)
        self._parts.append(
            {
                "offset": _ints(table, "offset"),
                "who": (partition << _WHO_BITS) | row,
                "mark": np.full(rows, int(mark), np.int64),
                "at_offset": np.full(rows, at_offset, np.int64),
                "at_row": np.arange(rows, dtype=np.int64),
                "source": nothing if mark else self._coded(table.column("source")),
                "reason": self._coded(table.column("reason")),
                "type": nothing if mark else self._coded(table.column("type")),
                "replayed": replayed,
            }
        )
        self._resolved = None

    def _coded(self, column: pa.ChunkedArray) -> Int64s:
        coded = column.combine_chunks().dictionary_encode()
        codes = np.array([self._code_of(name) for name in coded.dictionary.to_pylist()] or [_NONE], np.int64)
        places = coded.indices.fill_null(_NONE).to_numpy(zero_copy_only=False).astype(np.int64)
        return np.where(places == _NONE, _NONE, codes[np.maximum(places, 0)])

    def _code_of(self, name: str) -> int:
        code = self._codes.setdefault(name, len(self._names))
        if code == len(self._names):
            self._names.append(name)
        return code

    def _resolve(self) -> Letters:
        column = {name: _joined([part[name] for part in self._parts]) for name in _COLUMNS}
        order = np.lexsort((column["mark"], column["who"], column["offset"]))  # stable: then as they were appended
        column = {name: values[order] for name, values in column.items()}
        count = len(order)
        if count == 0:
            return Letters(*(np.zeros(0, np.int64) for _ in Letters._fields))
        new = np.ones(count, bool)
        new[1:] = (np.diff(column["offset"]) != 0) | (np.diff(column["who"]) != 0)
        first = np.flatnonzero(new)
        is_mark = column["mark"] == 1
        replayed = np.maximum.reduceat(column["replayed"], first)
        attempts = np.add.reduceat((is_mark & (column["replayed"] == 0)).astype(np.int64), first)
        last = np.append(first[1:], count) - 1
        told = is_mark[last]
        reason = np.where(told & (column["reason"][last] != _NONE), column["reason"][last], column["reason"][first])
        letters = Letters(
            partition=column["who"][first] >> _WHO_BITS,
            offset=column["offset"][first],
            row=column["who"][first] & ((1 << _WHO_BITS) - 1),
            at_offset=column["at_offset"][first],
            at_row=column["at_row"][first],
            source=column["source"][first],
            reason=reason,
            type=column["type"][first],
            replayed=replayed,
            attempts=attempts,
            mark_offset=np.where(told, column["at_offset"][last], _NONE),
            mark_row=np.where(told, column["at_row"][last], _NONE),
        ).take(~is_mark[first])  # a mark whose letter the log has dropped stands alone
        return letters.take(np.lexsort((letters.at_row, letters.at_offset)))


def _ints(table: pa.Table, name: str) -> Int64s:
    return table.column(name).cast(pa.int64()).to_numpy().astype(np.int64)


def _joined(parts: Sequence[Any]) -> Int64s:
    return np.concatenate(parts) if parts else np.zeros(0, np.int64)
