"""One event of JSON, read with care: each rule of what is taken stands here and says how an event broke it.

This is the reference. The scanner reads plain events faster and hands all others to this; tests hold the two together.

Invariants
    a text goes in and comes out unchanged, and what is not declared keeps its bytes (in ``extra``)
    nothing is repaired or guessed: "5" is no number, 12.7 is no int, NaN is no JSON
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Mapping, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any, Final, NoReturn

import msgspec
import numpy as np

from groundswell import limits
from groundswell.model.definitions import Definitions, EventDef, PropertyType
from groundswell.model.event import CLIENT_STRINGS
from groundswell.model.spelling import Verbatim
from groundswell.wire.faults import Fault, dead, refused
from groundswell.wire.grammar import nesting
from groundswell.wire.schema import all_events, all_properties
from groundswell.wire.times import NO_TIME, rfc3339_us

__all__ = ["ENVELOPE_EXTRA", "Reference"]

ENVELOPE_EXTRA: Final = "_envelope"  # where ``extra`` keeps unknown keys that stood beside the envelope's

Row = dict[str, Any]

_OPTIONAL_STRINGS: Final = tuple(name for name in CLIENT_STRINGS if name not in {"event_id", "type"})
_KNOWN: Final = frozenset((*CLIENT_STRINGS, "ts", "sent_at", "properties"))
_AN_ID: Final = "give each event an id of its own, such as a UUID"
_BLANK_CATEGORIES: Final = frozenset(("Cc", "Cf", "Zs", "Zl", "Zp"))  # controls, formats such as zero width, spaces
# letters, marks and a symbol that fonts show as nothing
_BLANKS: Final = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u2800\u3164\uffa0").union(
    map(chr, (*range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0)))
)
_RAW: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])


class _Number(Verbatim):
    """A number as it was written."""

    __slots__ = ()


class _Pairs(list[tuple[str, Any]]):
    """An object as it was written: its keys in order, duplicates included."""

    __slots__ = ()


class _Stop(Exception):
    """Carries a fault out of nested readers; never leaves this module."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.message)
        self.fault = fault


class Reference:
    """Reads one event under one version of the definitions."""

    def __init__(self, definitions: Definitions) -> None:
        self._events: Mapping[str, EventDef] = all_events(definitions)
        self._types: Mapping[str, PropertyType] = {
            name: declared.type for name, declared in all_properties(definitions).items()
        }

    def read(self, raw: bytes) -> Row | Fault:
        """Return the event as column -> value (times in microseconds, absent columns left out), or its fault."""
        try:
            pairs = parse(raw)
            given = _unique(pairs, "event")
            event_id, event_type = _identity(given)
        except _Stop as stop:
            return stop.fault
        try:
            return self._row(given, event_id, event_type, raw)
        except _Stop as stop:
            return stop.fault._replace(event_id=event_id)

    def _row(self, given: Mapping[str, Any], event_id: str, event_type: str, raw: bytes) -> Row:
        declared = self._events.get(event_type)
        if declared is None:
            raise _Stop(
                dead("unknown_type", "type", event_type, "must be a defined event type", "define it, then replay this")
            )
        named = _properties(given.get("properties"))
        row: Row = {"event_id": event_id, "type": event_type}
        for name in _OPTIONAL_STRINGS:
            text = _envelope_text(name, given.get(name))
            if text:  # a client's "" names nobody: an empty unit would merge all people who have none
                row[name] = text
        if given.get("ts") is not None:
            row["ts"] = _time("ts", given["ts"])
        for name in declared.properties:
            if named.get(name) is not None:
                row[name] = _typed(name, named[name], self._types[name])
        for name in declared.required:
            if name not in row:
                raise _Stop(
                    dead(
                        "missing_property",
                        name,
                        None,
                        f"is required by event type {event_type}",
                        "send it, or do not require it",
                    )
                )
        extra = _extra(given, named, declared.properties, raw)
        if extra is not None:
            row["extra"] = extra
        return row


def parse(raw: bytes) -> Any:
    """Return JSON as written: objects as pairs, numbers as text; ``raw`` must not be nested deeper than is allowed."""
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        raise _Stop(
            refused(
                "invalid_utf8",
                f"byte {error.start}",
                Verbatim("0x" + raw[error.start : error.end].hex()),
                "must be UTF-8",
                "send text as UTF-8",
            )
        ) from None
    if nesting(np.frombuffer(raw, np.uint8)) > limits.json_depth_max:
        rule = f"must be nested at most {limits.json_depth_max} deep"
        raise _Stop(refused("too_deep", "event", raw, rule, "send a flatter event"))
    try:
        value = _JSON.decode(text)
    except _Stop:
        raise
    except ValueError as error:
        at = len(text[: error.pos].encode()) if isinstance(error, json.JSONDecodeError) else 0
        raise _Stop(
            refused("not_json", f"byte {at}", raw[at : at + 16], "must continue a JSON value", "send RFC 8259 JSON")
        ) from None
    if not isinstance(value, _Pairs):
        raise _Stop(refused("not_an_object", "event", raw, "must be a JSON object", "send each event as an object"))
    if "\\u" in text:
        _no_lone_surrogate(value)
    return value


def _no_constant(name: str) -> NoReturn:
    raise _Stop(refused("not_json", "number", Verbatim(name), "is no JSON number", "send null, or leave the key out"))


_JSON: Final = json.JSONDecoder(
    object_pairs_hook=_Pairs, parse_int=_Number, parse_float=_Number, parse_constant=_no_constant, strict=True
)


def _no_lone_surrogate(value: Any) -> None:
    if isinstance(value, _Pairs):
        for key, inner in value:
            _no_lone_surrogate(key)
            _no_lone_surrogate(inner)
    elif isinstance(value, list):
        for inner in value:
            _no_lone_surrogate(inner)
    elif isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            raise _Stop(
                refused("lone_surrogate", "text", value, "must not hold half a surrogate pair", "send whole characters")
            ) from None


def _unique(pairs: _Pairs, where: str) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                next_step = "send each key once, with the value that was meant"
                raise _Stop(refused("duplicate_key", f"key of {where}", key, "must stand once", next_step))
            seen.add(key)
    return found


def _identity(given: Mapping[str, Any]) -> tuple[str, str]:
    event_id = given.get("event_id")
    if event_id is None:
        raise _Stop(refused("missing_event_id", "event_id", None, "must be text", "give each event an id of its own"))
    if not _is_text(event_id) or not event_id:
        raise _Stop(refused("bad_event_id", "event_id", _plain(event_id), "must be text and not empty", _AN_ID))
    if len(event_id) > limits.event_id_chars_max:
        rule = f"must have at most {limits.event_id_chars_max} characters"
        raise _Stop(refused("bad_event_id", "event_id", event_id, rule, _AN_ID))
    if all(_is_blank(char) for char in event_id):
        rule = "must have a character that can be seen, or events that differ would be taken for one"
        raise _Stop(refused("bad_event_id", "event_id", event_id, rule, _AN_ID))
    event_type = given.get("type")
    if not _is_text(event_type) or not event_type:
        raise _Stop(refused("missing_type", "type", _plain(event_type), "must be text and not empty", "name its type"))
    return event_id, event_type


def _is_blank(char: str) -> bool:
    return char in _BLANKS or unicodedata.category(char) in _BLANK_CATEGORIES


def _properties(value: Any) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, _Pairs):
        raise _Stop(dead("wrong_type", "properties", _plain(value), "must be an object", "send {}, or leave it out"))
    return _unique(value, "properties")


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and not isinstance(value, _Number)


def _envelope_text(name: str, value: Any) -> str | None:
    if value is None:
        return None
    if not _is_text(value):
        raise _Stop(dead("wrong_type", name, _plain(value), "must be text", "send it as a JSON string"))
    if len(value) > limits.envelope_chars_max:
        rule = f"must have at most {limits.envelope_chars_max} characters"
        raise _Stop(dead("too_long", name, value, rule, "send an id or a code, and long text as a property"))
    return value


def _time(name: str, value: Any) -> int:
    moment = NO_TIME
    if _is_text(value):
        data = value.encode()
        moment = int(rfc3339_us(np.frombuffer(data, np.uint8), 0, len(data))) if data else NO_TIME
    if moment == NO_TIME:
        raise _Stop(
            dead("bad_time", name, _plain(value), "must be RFC 3339 text with an offset", "send 2026-01-05T09:30:00Z")
        )
    return moment


def _typed(name: str, value: Any, kind: PropertyType) -> Any:
    if kind == "timestamp":
        return _time(name, value)
    if kind == "string" and _is_text(value):
        return value
    if kind == "bool" and isinstance(value, bool):
        return value
    if isinstance(value, _Number):
        if kind == "int":
            return _integer(name, value)
        if kind == "float":
            return _float(name, value)
    raise _Stop(
        dead("wrong_type", name, _plain(value), f"must be of type {kind}", "send that type, or define another property")
    )


def _integer(name: str, text: str) -> int:
    try:
        number = Decimal(text)
    except InvalidOperation:  # an exponent of more than 18 digits
        number = None
    if number is None or (number and number.adjusted() > 18):
        raise _Stop(
            dead("out_of_range", name, text, "must fit 64 bits, signed", "define it as float or string, then send that")
        )
    if number and (number.adjusted() < 0 or number != number.to_integral_value()):
        raise _Stop(dead("wrong_type", name, text, "must be of type int", "send a whole number, or define it as float"))
    whole = int(number)
    if not limits.integer_min <= whole <= limits.integer_max:
        raise _Stop(
            dead("out_of_range", name, text, "must fit 64 bits, signed", "define it as float or string, then send that")
        )
    return whole


def _float(name: str, text: str) -> float:
    number = float(text)
    if number in {float("inf"), float("-inf")}:
        raise _Stop(dead("out_of_range", name, text, "must fit a 64-bit float", "send null where there is no number"))
    return number


def _extra(given: Mapping[str, Any], named: Mapping[str, Any], declared: Sequence[str], raw: bytes) -> str | None:
    """Return what is not declared as a JSON object, keys sorted and values as they were sent."""
    beside = sorted(given.keys() - _KNOWN)
    undeclared = sorted(named.keys() - set(declared))
    if not beside and not undeclared:
        return None
    if ENVELOPE_EXTRA in named:
        raise _Stop(
            dead("reserved_name", "property name", ENVELOPE_EXTRA, "must not name a property", "rename it")._replace(
                field=ENVELOPE_EXTRA
            )
        )
    top = _RAW.decode(raw)
    parts: list[str] = []
    if undeclared:
        inner = _RAW.decode(top["properties"])
        parts = [f"{json.dumps(name, ensure_ascii=False)}:{bytes(inner[name]).decode()}" for name in undeclared]
    if beside:
        shown = ",".join(f"{json.dumps(name, ensure_ascii=False)}:{bytes(top[name]).decode()}" for name in beside)
        parts.append(f'"{ENVELOPE_EXTRA}":{{{shown}}}')
    return "{" + ",".join(parts) + "}"


def _plain(value: Any) -> Any:
    """Return a value as a message shows it: what is large is only named."""
    if isinstance(value, list):
        return _Number("an object" if isinstance(value, _Pairs) else "an array")
    return value
