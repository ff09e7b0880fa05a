"""YAML as nodes that know their lines. Only what configuration needs, and bounded, for a file may be hostile.

Invariants
    a scalar stays the text that stands in the file: ``no``, ``on`` and ``1e3`` never turn into something else here
    a key stands once in a mapping; a second one is a problem that names both lines
    anchors, aliases and merge keys (``<<``) work, but what they unfold to is counted before it is walked
    no tag makes an object
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, NoReturn

import yaml

from groundswell import limits
from groundswell.errors import InvalidDefinition, InvalidDefinitions

__all__ = ["MappingNode", "Node", "ScalarNode", "SequenceNode", "read_documents"]

_NULLS: Final = ("", "~", "null", "Null", "NULL")
_TEXT_TAGS: Final = ("!", "tag:yaml.org,2002:str")
_MERGE: Final = "<<"
_LOADER: Final[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True, slots=True)
class ScalarNode:
    """Text. ``quoted`` text is never null, a number or a truth value."""

    text: str
    quoted: bool
    line: int
    size: int = 1

    @property
    def is_null(self) -> bool:
        return not self.quoted and self.text in _NULLS


@dataclass(frozen=True, slots=True)
class SequenceNode:
    """A list."""

    items: tuple[Node, ...]
    line: int
    size: int


@dataclass(frozen=True, slots=True)
class MappingNode:
    """Values by key, each with the line of its key, in the order of the file."""

    entries: Mapping[str, tuple[int, Node]]
    line: int
    size: int


Node = ScalarNode | SequenceNode | MappingNode


def read_documents(data: bytes, file: str, problems: list[InvalidDefinition]) -> list[Node]:
    """Return the documents of one file; what is wrong with it goes to ``problems``, and ends the file where it must."""
    if len(data) > limits.manifest_bytes_max:
        rule = f"must have at most {limits.manifest_bytes_max} bytes"
        problems.append(InvalidDefinition("file", len(data), rule, next_step="split it", file=file))
        return []
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        problems.append(
            InvalidDefinition("text", data[error.start : error.start + 4], "must be UTF-8", file=file, line=line)
        )
        return []
    composer = _Composer(file, problems)
    try:
        return list(composer.documents(yaml.parse(text, Loader=_LOADER)))
    except _StopFileError as stop:
        problems.append(stop.problem)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = None if mark is None else mark.line + 1
        what = " ".join(part for part in (error.context, error.problem) if part)
        shown = "" if mark is None else _line_of(text, mark.line)
        problems.append(InvalidDefinition("YAML", shown, f"cannot be read: {what}", file=file, line=line))
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        rule = f"must not hold the character {error.character!r}"
        next_step = "write it as an escape in double quotes"
        problems.append(InvalidDefinition("YAML", None, rule, next_step=next_step, file=file, line=line))
    return []


def _is_unicode(text: str) -> bool:
    return not any("\ud800" <= char <= "\udfff" for char in text)


def _line_of(text: str, index: int) -> str:
    lines = text.split("\n", index + 1)
    return lines[index].strip() if index < len(lines) else ""


class _StopFileError(Exception):
    """The rest of the file cannot be understood."""

    def __init__(self, problem: InvalidDefinition) -> None:
        super().__init__(str(problem))
        self.problem = problem


class _Composer:
    """Builds nodes from the parser's events, one document at a time."""

    def __init__(self, file: str, problems: list[InvalidDefinition]) -> None:
        self._file = file
        self._problems = problems
        self._anchors: dict[str, Node] = {}
        self._unfolded = 0  # nodes of finished documents and of merges, aliases followed

    def documents(self, events: Iterator[Any]) -> Iterator[Node]:
        for event in events:
            if isinstance(event, yaml.DocumentStartEvent):
                self._anchors.clear()
                document = self._node(next(events), events, depth=0)
                self._count(document.size, document.line)
                yield document

    def _node(self, event: Any, events: Iterator[Any], depth: int) -> Node:
        line = event.start_mark.line + 1
        if depth > limits.manifest_depth_max:
            self._stop("depth", depth, f"must be at most {limits.manifest_depth_max}", line)
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in self._anchors:
                self._stop("alias", f"*{event.anchor}", "must name an anchor that ends above it", line)
            return self._anchors[event.anchor]
        self._check_tag(event, line)
        if isinstance(event, yaml.ScalarEvent):
            if not _is_unicode(event.value):
                self._stop("text", event.value, "must hold whole Unicode characters", line, "write no half surrogates")
            node: Node = ScalarNode(event.value, bool(event.style) or event.tag in _TEXT_TAGS, line)
        elif isinstance(event, yaml.SequenceStartEvent):
            node = self._sequence(events, depth, line)
        else:
            node = self._mapping(events, depth, line)
        self._bound(self._unfolded + node.size, line)
        if event.anchor is not None:
            self._anchors[event.anchor] = node
        return node

    def _sequence(self, events: Iterator[Any], depth: int, line: int) -> SequenceNode:
        items: list[Node] = []
        while not isinstance(event := next(events), yaml.SequenceEndEvent):
            items.append(self._node(event, events, depth + 1))
        return SequenceNode(tuple(items), line, 1 + sum(item.size for item in items))

    def _mapping(self, events: Iterator[Any], depth: int, line: int) -> MappingNode:
        entries: dict[str, tuple[int, Node]] = {}
        merged: list[MappingNode] = []
        while not isinstance(event := next(events), yaml.MappingEndEvent):
            key = self._node(event, events, depth + 1)
            value = self._node(next(events), events, depth + 1)
            key_line = event.start_mark.line + 1
            if not isinstance(key, ScalarNode):
                self._report("key", "a list or mapping", "must be text", key_line)
            elif key.text == _MERGE and not key.quoted:
                merged += self._merged(value, key_line)
            elif key.text in entries:
                rule = f"must stand once in a mapping, and stands at line {entries[key.text][0]} too"
                self._report("key", key.text, rule, key_line, "keep one of the two")
            else:
                entries[key.text] = (key_line, value)
        for other in merged:
            self._count(len(other.entries), line)
            for name, entry in other.entries.items():
                entries.setdefault(name, entry)
        return MappingNode(entries, line, 1 + sum(1 + value.size for _, value in entries.values()))

    def _merged(self, value: Node, line: int) -> list[MappingNode]:
        parts = value.items if isinstance(value, SequenceNode) else (value,)
        found = [part for part in parts if isinstance(part, MappingNode)]
        if len(found) != len(parts):
            self._report("key", _MERGE, "must merge a mapping or a list of mappings", line, "write <<: *anchor")
        return found

    def _count(self, nodes: int, line: int) -> None:
        self._unfolded += nodes
        self._bound(self._unfolded, line)

    def _bound(self, nodes: int, line: int) -> None:
        if nodes > limits.manifest_nodes_max:
            rule = f"must unfold to at most {limits.manifest_nodes_max} in one file"
            self._stop("values", nodes, rule, line, "use fewer aliases, or split the file")

    def _check_tag(self, event: Any, line: int) -> None:
        if event.tag is not None and event.tag not in _TEXT_TAGS:
            self._stop("tag", event.tag, "must not be used", line, "leave it out")

    def _report(self, name: str, value: object, rule: str, line: int, next_step: str | None = None) -> None:
        self._problems.append(InvalidDefinition(name, value, rule, next_step=next_step, file=self._file, line=line))
        if len(self._problems) >= limits.manifest_problems_max:
            raise InvalidDefinitions(self._problems)

    def _stop(self, name: str, value: object, rule: str, line: int, next_step: str | None = None) -> NoReturn:
        raise _StopFileError(InvalidDefinition(name, value, rule, next_step=next_step, file=self._file, line=line))
