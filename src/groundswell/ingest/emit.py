"""Rows to events: a mapping compiled for one file's columns. Pure: the same row gives the same JSON, byte for byte.

Invariants
    an event's id is the digest of file and mapping, the row's number and which of the row's events it is
    a cell that does not fit its property is passed on as it is, so the decoder says so and keeps it as a dead letter
"""

from __future__ import annotations

import re
import string
import zoneinfo
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta, tzinfo
from decimal import Decimal
from math import isfinite
from typing import Any, Final

import msgspec

from groundswell import limits
from groundswell.errors import InvalidDefinition
from groundswell.ingest.mapping import ROW, Condition, EventMapping, FileMapping, MappedValue
from groundswell.model.clock import format_us
from groundswell.model.definitions import Definitions, PropertyType
from groundswell.wire.schema import all_events, all_properties

__all__ = ["Emitter"]

Read = Callable[[Sequence[Any], int], Any]
_NUMBER: Final = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_BOOLS: Final = {"1": True, "true": True, "0": False, "false": False}
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_EPOCH_UNITS_US: Final = {"epoch_s": 1_000_000, "epoch_ms": 1_000, "epoch_us": 1}


class Emitter:
    """Turns rows into JSON events."""

    def __init__(self, mapping: FileMapping, definitions: Definitions, id_prefix: str) -> None:
        assert mapping.events is not None
        self.columns: tuple[str, ...] = tuple(dict.fromkeys(column for column, _ in mapping.columns()))
        self._id_prefix = id_prefix
        self._mapping = mapping
        self._places = {column: place for place, column in enumerate(self.columns)}
        self._types: dict[str, PropertyType] = {name: prop.type for name, prop in all_properties(definitions).items()}
        self._known = frozenset(all_events(definitions))
        self._events = [self._event(event) for event in mapping.events]
        self._encode = msgspec.json.Encoder().encode

    def emit(self, number: int, cells: Sequence[Any]) -> list[bytes]:
        """Return the events of row ``number`` as JSON.

        Raises:
            UnicodeEncodeError: a cell is not UTF-8.
        """
        return [self._encode(event) for make in self._events if (event := make(cells, number)) is not None]

    def _event(self, mapping: EventMapping) -> Callable[[Sequence[Any], int], dict[str, Any] | None]:
        if mapping.type.constant is not None and mapping.type.constant not in self._known:
            raise InvalidDefinition(
                "type",
                mapping.type.constant,
                "must be a defined event",
                next_step="apply its definition first",
                file=self._mapping.file,
                line=mapping.type.line,
            )
        index = (self._mapping.events or ()).index(mapping)
        fits = [self._condition(condition) for condition in mapping.when]
        kind = self._read(mapping.type, "string")
        envelope = [
            (name, self._read(value, "timestamp" if name == "ts" else "string"))
            for name, value in mapping.envelope.items()
        ]
        properties = [(name, self._read(value, self._types.get(name))) for name, value in mapping.properties.items()]
        prefix = self._id_prefix

        def make(cells: Sequence[Any], number: int) -> dict[str, Any] | None:
            for fit in fits:
                if not fit(cells, number):
                    return None
            event: dict[str, Any] = {"event_id": f"{prefix}-{number}-{index}", "type": kind(cells, number)}
            for name, read in envelope:
                value = read(cells, number)
                if value is not None:
                    event[name] = value
            filled = {name: value for name, read in properties if (value := read(cells, number)) is not None}
            if filled:
                event["properties"] = filled
            return event

        return make

    def _condition(self, condition: Condition) -> Callable[[Sequence[Any], int], bool]:
        cell = self._cell(condition.column)
        values = frozenset(condition.values)
        negated = condition.negated

        def fits(cells: Sequence[Any], number: int) -> bool:
            return (_text(cell(cells, number)) in values) != negated

        return fits

    def _cell(self, column: str) -> Read:
        if column == ROW and ROW not in self._places:
            return lambda _, number: number
        if column in self._mapping.parameters:
            given = self._mapping.parameters[column]
            return lambda _cells, _number: given
        place = self._places[column]
        return lambda cells, _: cells[place]

    def _read(self, value: MappedValue, kind: PropertyType | None) -> Read:
        if value.constant is not None:
            constant = _constant(value.constant, kind)
            return lambda _cells, _number: constant
        if value.template is not None:
            return self._template(value.template)
        assert value.column is not None
        cell = self._cell(value.column)
        missing = frozenset(self._mapping.missing if value.missing is None else value.missing)
        convert = _converter(value, kind)

        def read(cells: Sequence[Any], number: int) -> Any:
            found = cell(cells, number)
            if found is None or (isinstance(found, str) and found in missing):
                return None
            return convert(found)

        return read

    def _template(self, template: str) -> Read:
        parts: list[str | Read] = []
        for literal, name, _, _ in string.Formatter().parse(template):
            if literal:
                parts.append(literal)
            if name is not None:
                parts.append(self._cell(name))
        return lambda cells, number: "".join(
            part if isinstance(part, str) else _text(part(cells, number)) for part in parts
        )


def _converter(value: MappedValue, kind: PropertyType | None) -> Callable[[Any], Any]:
    if value.map is not None:
        known = value.map
        return lambda found: known.get(_text(found), found)
    if kind == "timestamp" or value.format is not None:
        return _times(value.format or "iso", value.zone)
    if kind in {"int", "float"}:
        return _number
    if kind == "bool":
        return lambda found: _BOOLS.get(found.lower(), found) if isinstance(found, str) else found
    if kind == "string":
        return lambda found: found if isinstance(found, str) else _text(found)
    return _plain


def _constant(constant: str | float | bool, kind: PropertyType | None) -> str | float | bool:  # noqa: FBT001
    if kind == "timestamp" and isinstance(constant, str):
        return _times("iso", None)(constant)
    return constant


def _number(found: Any) -> Any:
    """Return a number where the text is one, digit for digit; else what was found."""
    if not isinstance(found, str):
        return found
    text = found.strip()
    if not _NUMBER.fullmatch(text):
        return found
    try:
        whole = int(text)
    except ValueError:
        decimal = float(text)
        return decimal if isfinite(decimal) else found
    if limits.integer_min <= whole <= limits.integer_max:
        return whole
    return msgspec.Raw(str(whole).encode())  # the decoder says that it is out of range


def _times(form: str, zone: str | None) -> Callable[[Any], Any]:
    """Return a function from a cell to RFC 3339 text in UTC; what is no such time is passed on as it is."""
    local = zoneinfo.ZoneInfo(zone) if zone else UTC

    def convert(found: Any) -> Any:
        try:
            if form in _EPOCH_UNITS_US:
                return format_us(round(Decimal(str(found)) * _EPOCH_UNITS_US[form]))
            return _rfc3339(_moment(found, form), local)
        except (ValueError, ArithmeticError):
            return found

    return convert


def _moment(found: Any, form: str) -> datetime:
    if isinstance(found, datetime):
        return found
    if isinstance(found, date):
        return datetime(found.year, found.month, found.day)  # noqa: DTZ001 - its zone is set by the caller
    text = str(found).strip()
    return datetime.fromisoformat(text) if form == "iso" else datetime.strptime(text, form)  # noqa: DTZ007


def _rfc3339(moment: datetime, local: tzinfo) -> str:
    known = moment if moment.tzinfo else moment.replace(tzinfo=local)
    return format_us((known - _EPOCH) // timedelta(microseconds=1))


def _plain(found: Any) -> Any:
    return found.isoformat() if isinstance(found, date) else found


def _text(found: Any) -> str:
    if found is None:
        return ""
    if isinstance(found, bool):
        return "true" if found else "false"
    return str(found)
