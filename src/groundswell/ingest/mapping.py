"""A mapping file: how the rows of someone's file become events. Read, checked, and given a digest.

Invariants
    every mistake is an ``InvalidDefinition`` that names the file and the line
    the digest is of the mapping's meaning and its parameters, not of its comments or the order of its keys
    a mapping is pure data: the same rows under the same mapping are the same events, today and in a year

A value in a mapping is a column's name, or one of
    {column: NAME, map: {TEXT: TEXT}, missing: [TEXT], format: FORMAT, zone: ZONE}
    {constant: VALUE}
    {template: "customer-{row}"}      columns, parameters and the row's number (from 1) in braces
"""

from __future__ import annotations

import hashlib
import re
import string
import zoneinfo
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

import msgspec

from groundswell import limits
from groundswell.errors import InvalidDefinition, InvalidInput
from groundswell.model.event import CLIENT_STRINGS
from groundswell.model.names import check_name
from groundswell.store.document import MappingNode, Node, SequenceNode, read_documents

__all__ = ["Condition", "EventMapping", "FileFormat", "FileMapping", "MappedValue", "load_mapping", "parse_mapping"]

FileFormat = Literal["csv", "tsv", "ndjson", "parquet"]
TIME_FORMATS: Final = ("iso", "epoch_s", "epoch_ms", "epoch_us")  # or one with % signs, as strptime has it
ROW: Final = "row"
_NUMBER: Final = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?")
_ENVELOPE_KEYS: Final = frozenset({*CLIENT_STRINGS, "ts"} - {"event_id", "type"})


class MappedValue(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True, forbid_unknown_fields=True):
    """Where a value comes from; exactly one of ``column``, ``constant``, ``template``."""

    column: str | None = None
    constant: str | int | float | bool | None = None
    template: str | None = None
    map: dict[str, str | int | float | bool] | None = None
    missing: tuple[str, ...] | None = None
    format: str | None = None
    zone: str | None = None
    line: int = 0

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns (or parameters) that it reads."""
        if self.column is not None:
            return (self.column,)
        return tuple(_template_fields(self.template)) if self.template is not None else ()


class Condition(msgspec.Struct, frozen=True, kw_only=True):
    """A row fits where the column's text is (or, ``negated``, is not) one of ``values``."""

    column: str
    values: tuple[str, ...]
    negated: bool = False
    line: int = 0


class EventMapping(msgspec.Struct, frozen=True, kw_only=True):
    """One event that a row may become."""

    type: MappedValue
    envelope: dict[str, MappedValue]
    properties: dict[str, MappedValue]
    when: tuple[Condition, ...] = ()
    line: int = 0


class FileMapping(msgspec.Struct, frozen=True, kw_only=True):
    """A whole mapping file. ``events`` None: each line of an NDJSON file is an event already."""

    source: str
    format: FileFormat | None = None
    events: tuple[EventMapping, ...] | None = None
    parameters: dict[str, str] = {}
    missing: tuple[str, ...] = ()
    file: str | None = None

    @property
    def as_is(self) -> bool:
        """Whether lines are events already and keep their own ids."""
        return self.events is None

    def digest(self) -> str:
        """Return 32 hex digits of what it means."""
        meaning = msgspec.json.encode(_meaning(self), order="sorted")
        return hashlib.blake2b(meaning, digest_size=16, person=b"gw mapping 1").hexdigest()

    def columns(self) -> Iterator[tuple[str, int]]:
        """Yield each column read, with the line that reads it; parameters and the row's number are none."""
        for event in self.events or ():
            for condition in event.when:
                yield condition.column, condition.line
            for value in (event.type, *event.envelope.values(), *event.properties.values()):
                for column in value.columns:
                    if column != ROW and column not in self.parameters:
                        yield column, value.line


def load_mapping(path: Path, parameters: Mapping[str, str] | None = None) -> FileMapping:
    """Read a mapping file; ``parameters`` are the values of those it declares.

    Raises:
        InvalidDefinition: it breaks a rule.
    """
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidDefinition(
            "mapping", str(path), f"must be a readable UTF-8 file ({error})", next_step="check the path", file=str(path)
        ) from None
    return parse_mapping(text, parameters, file=str(path))


def parse_mapping(text: str, parameters: Mapping[str, str] | None = None, *, file: str | None = None) -> FileMapping:
    """Return the mapping that ``text`` says.

    Raises:
        InvalidDefinition: it breaks a rule.
    """
    if len(text) > limits.mapping_chars_max:
        raise InvalidDefinition(
            "mapping characters", len(text), f"must be at most {limits.mapping_chars_max}", file=file
        )
    return _Parser(file).parse(text, dict(parameters or {}))


class _Node(NamedTuple):
    """A YAML node as plain data that remembers its line."""

    value: Any
    line: int


class _Parser:
    """Turns one mapping file into nouns; every complaint names a line."""

    def __init__(self, file: str | None) -> None:
        self._file = file

    def parse(self, text: str, parameters: dict[str, str]) -> FileMapping:
        root = self._compose(text)
        top = self._mapping(root, "mapping", {"source", "format", "parameters", "missing", "envelope", "events"})
        source = self._source(self._need(top, "source", root))
        declared = self._texts(top["parameters"], "parameters") if "parameters" in top else ()
        for name in declared:
            if name == ROW or name not in parameters:
                rule = "is the row's number" if name == ROW else "is declared and was not given"
                raise self._bad("parameter", name, rule, root.line, f"give it with --set {name}=VALUE")
        for name in parameters:
            if name not in declared:
                raise self._bad("parameter", name, "is not declared by the mapping", root.line, "list it in parameters")
        missing = self._texts(top["missing"], "missing") if "missing" in top else ("",)
        shared = self._values(top["envelope"], "envelope", _ENVELOPE_KEYS) if "envelope" in top else {}
        return FileMapping(
            source=source,
            format=self._format(top.get("format")),
            events=self._events(self._need(top, "events", root), shared),
            parameters=parameters,
            missing=missing,
            file=self._file,
        )

    def _source(self, node: _Node) -> str:
        try:
            return check_name("source", self._text(node, "source"))
        except InvalidInput as error:
            raise self._bad(error.name, error.value, error.rule, node.line, error.next_step) from None

    def _events(self, node: _Node, shared: dict[str, MappedValue]) -> tuple[EventMapping, ...] | None:
        if node.value == "as_is":
            if shared:
                raise self._bad("envelope", sorted(shared), "must be absent where events are as_is", node.line)
            return None
        if not isinstance(node.value, list) or not node.value:
            raise self._bad("events", node.value, "must be a list of events, or as_is", node.line)
        return tuple(self._event(item, shared) for item in node.value)

    def _event(self, node: _Node, shared: dict[str, MappedValue]) -> EventMapping:
        entry = self._mapping(node, "event", {"type", "when", "envelope", "properties"})
        kind = self._need(entry, "type", node)
        own = self._values(entry["envelope"], "envelope", _ENVELOPE_KEYS) if "envelope" in entry else {}
        literal = isinstance(kind.value, str)
        return EventMapping(
            type=MappedValue(constant=kind.value, line=kind.line) if literal else self._value(kind, "type"),
            envelope={**shared, **own},
            properties=self._values(entry["properties"], "properties", None) if "properties" in entry else {},
            when=self._conditions(entry["when"]) if "when" in entry else (),
            line=node.line,
        )

    def _conditions(self, node: _Node) -> tuple[Condition, ...]:
        conditions: list[Condition] = []
        for column, wanted in self._mapping(node, "when", None).items():
            negated = isinstance(wanted.value, dict)
            inner = self._need(self._mapping(wanted, "when", {"not"}), "not", wanted) if negated else wanted
            items = inner.value if isinstance(inner.value, list) else [inner]
            values = tuple(self._scalar_text(item, f"when.{column}") for item in items)
            conditions.append(Condition(column=column, values=values, negated=negated, line=wanted.line))
        return tuple(conditions)

    def _values(self, node: _Node, name: str, allowed: frozenset[str] | None) -> dict[str, MappedValue]:
        entries = self._mapping(node, name, allowed)
        return {key: self._value(value, f"{name}.{key}") for key, value in entries.items()}

    def _value(self, node: _Node, name: str) -> MappedValue:
        if isinstance(node.value, str):
            return MappedValue(column=node.value, line=node.line)
        fields = self._mapping(node, name, {"column", "constant", "template", "map", "missing", "format", "zone"})
        given = [key for key in ("column", "constant", "template") if key in fields]
        if len(given) != 1:
            raise self._bad(name, given, "must have exactly one of column, constant and template", node.line)
        if given[0] != "column" and (extra := sorted(fields.keys() - set(given))):
            raise self._bad(name, extra, f"do not go with {given[0]}", node.line, "use them with column")
        value = MappedValue(
            column=self._text(fields["column"], name) if "column" in fields else None,
            constant=self._scalar(fields["constant"], name) if "constant" in fields else None,
            template=self._text(fields["template"], name) if "template" in fields else None,
            map=self._map(fields["map"], name) if "map" in fields else None,
            missing=self._texts(fields["missing"], name) if "missing" in fields else None,
            format=self._text(fields["format"], name) if "format" in fields else None,
            zone=self._text(fields["zone"], name) if "zone" in fields else None,
            line=node.line,
        )
        self._check_value(value, name)
        return value

    def _check_value(self, value: MappedValue, name: str) -> None:
        if value.template is not None:
            try:
                list(_template_fields(value.template))
            except ValueError as error:
                raise self._bad(name, value.template, f"must be a template ({error})", value.line) from None
        if value.format is not None and value.format not in TIME_FORMATS and "%" not in value.format:
            rule = f"must be one of {', '.join(TIME_FORMATS)}, or a strptime format with % signs"
            raise self._bad(f"{name}.format", value.format, rule, value.line)
        if value.zone is not None:
            try:
                zoneinfo.ZoneInfo(value.zone)
            except (zoneinfo.ZoneInfoNotFoundError, ValueError):
                raise self._bad(
                    f"{name}.zone", value.zone, "must be a time zone", value.line, "write Europe/Berlin"
                ) from None

    # --- plain nodes -------------------------------------------------------------------------------------------

    def _compose(self, text: str) -> _Node:
        problems: list[InvalidDefinition] = []
        documents = read_documents(text.encode("utf-8", "surrogatepass"), self._file or "mapping", problems)
        if problems:
            raise problems[0]
        if len(documents) != 1:
            raise self._bad("documents", len(documents), "must be one", 1, "write one mapping a file")
        return _plain(documents[0])

    def _mapping(self, node: _Node, name: str, allowed: set[str] | frozenset[str] | None) -> dict[str, _Node]:
        if not isinstance(node.value, dict):
            raise self._bad(name, node.value, "must be a mapping of names to values", node.line)
        if allowed is not None:
            for key, value in node.value.items():
                if key not in allowed:
                    raise self._bad(f"{name} key", key, f"must be one of {', '.join(sorted(allowed))}", value.line)
        return node.value

    def _need(self, entries: dict[str, _Node], key: str, node: _Node) -> _Node:
        if key not in entries:
            raise self._bad(key, None, "must be given", node.line)
        return entries[key]

    def _text(self, node: _Node, name: str) -> str:
        if not isinstance(node.value, str) or not node.value:
            raise self._bad(name, node.value, "must be text", node.line, "put it in quotes")
        return node.value

    def _texts(self, node: _Node, name: str) -> tuple[str, ...]:
        if not isinstance(node.value, list):
            raise self._bad(name, node.value, "must be a list of texts", node.line)
        return tuple(self._scalar_text(item, name) for item in node.value)

    def _scalar(self, node: _Node, name: str) -> str | int | float | bool:
        if not isinstance(node.value, str | int | float | bool):
            raise self._bad(name, node.value, "must be text, a number, true or false", node.line)
        return node.value

    def _scalar_text(self, node: _Node, name: str) -> str:
        value = self._scalar(node, name)
        return str(value).lower() if isinstance(value, bool) else str(value)

    def _map(self, node: _Node, name: str) -> dict[str, str | int | float | bool]:
        return {key: self._scalar(value, name) for key, value in self._mapping(node, f"{name}.map", None).items()}

    def _format(self, node: _Node | None) -> FileFormat | None:
        if node is None:
            return None
        for known in ("csv", "tsv", "ndjson", "parquet"):
            if node.value == known:
                return known
        raise self._bad("format", node.value, "must be csv, tsv, ndjson or parquet", node.line)

    def _bad(self, name: str, value: object, rule: str, line: int, next_step: str | None = None) -> InvalidDefinition:
        shown = _shown(value)
        return InvalidDefinition(name, shown, rule, next_step=next_step, file=self._file, line=line)


def _plain(node: Node) -> _Node:
    if isinstance(node, MappingNode):
        return _Node({key: _plain(value) for key, (_, value) in node.entries.items()}, node.line)
    if isinstance(node, SequenceNode):
        return _Node([_plain(item) for item in node.items], node.line)
    return _Node(node.text if node.quoted else _scalar(node.text), node.line)


def _scalar(text: str) -> str | int | float | bool | None:
    """Return what unquoted text means: null, true, false, a JSON number, else text."""
    if text in {"", "~", "null"}:
        return None
    if text in {"true", "false"}:
        return text == "true"
    if _NUMBER.fullmatch(text):
        try:
            return int(text)
        except ValueError:
            return float(text)
    return text


def _shown(value: object) -> object:
    if isinstance(value, _Node):
        return _shown(value.value)
    if isinstance(value, dict):
        return {key: _shown(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_shown(item) for item in value]
    return value


def _template_fields(template: str) -> Iterator[str]:
    for _, name, spec, conversion in string.Formatter().parse(template):
        if name is None:
            continue
        if not name or spec or conversion or re.search(r"[.\[\]]", name):
            raise ValueError("write {column}, a name alone in braces")
        yield name


def _meaning(value: Any) -> Any:
    """Return what was set, as plain data, but for lines: a field that is added later changes no digest."""
    if isinstance(value, msgspec.Struct):
        fields = {name: getattr(value, name) for name in value.__struct_fields__ if name not in {"line", "file"}}
        return {name: _meaning(item) for name, item in fields.items() if item not in (None, (), {})}
    if isinstance(value, dict):
        return {key: _meaning(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return [_meaning(item) for item in value]
    return value
