"""Nodes of a YAML file into typed structs, with every problem and its line, not only the first.

The struct's own annotations say what a field holds. Text stays as it stands in the file: ``no`` is the word no, and
``2026-01-05`` the text of a date. A number must be written as one.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

import msgspec
from msgspec import inspect

from groundswell import limits
from groundswell.errors import InvalidDefinition, InvalidDefinitions
from groundswell.model.check import Path, did_you_mean
from groundswell.store.document import MappingNode, Node, ScalarNode, SequenceNode

__all__ = ["FieldReader", "Place"]

Place = tuple[str, int]  # file and line, from 1
StructT = TypeVar("StructT", bound=msgspec.Struct)

_INT: Final = re.compile(r"[+-]?(0|[1-9][0-9]*)")
_FLOAT: Final = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")
_DIGITS_MAX: Final = 20  # of a 64-bit number with its sign


class _Bad:
    """The value could not be read; the problem is noted."""


_BAD: Final = _Bad()


class FieldReader:
    """Reads the nodes of one file; notes problems and the place of every value.

    Args:
        file: what errors call the file.
        problems: where problems are noted.
        places: where the place of each path is noted.
        short_forms: struct type -> the field that a lone scalar stands for.
    """

    def __init__(
        self,
        file: str,
        problems: list[InvalidDefinition],
        places: dict[Path, Place],
        short_forms: Mapping[type[msgspec.Struct], str],
    ) -> None:
        self._file = file
        self._problems = problems
        self._places = places
        self._short_forms = short_forms
        self._readers: dict[type[inspect.Type], Callable[[Any, Node, Path], Any]] = {
            inspect.StrType: self._text,
            inspect.IntType: self._int,
            inspect.FloatType: self._float,
            inspect.LiteralType: self._literal,
            inspect.VarTupleType: self._items,
            inspect.DictType: self._dict,
            inspect.StructType: self._struct,
            inspect.UnionType: self._union,
        }

    def read(self, node: Node, wanted: type[StructT], path: Path) -> StructT | None:
        """Return the struct that ``node`` holds, or None where problems were noted."""
        value = self._value(inspect.type_info(wanted), node, path)
        return None if isinstance(value, _Bad) else value

    def note(self, path: Path, value: object, rule: str, line: int, next_step: str | None = None) -> _Bad:
        """Note a problem. Raises ``InvalidDefinitions`` where there are so many that reading on helps nobody."""
        name = ".".join(path) or "file"
        self._problems.append(InvalidDefinition(name, value, rule, next_step=next_step, file=self._file, line=line))
        if len(self._problems) >= limits.manifest_problems_max:
            raise InvalidDefinitions(self._problems)
        return _BAD

    def place(self, path: Path, line: int) -> None:
        """Note where a value stands."""
        self._places[path] = (self._file, line)

    # --- by type -----------------------------------------------------------------------------------------------

    def _value(self, wanted: inspect.Type, node: Node, path: Path) -> Any:
        return self._readers[type(wanted)](wanted, node, path)

    def _scalar(self, node: Node, path: Path, rule: str, next_step: str | None = None) -> ScalarNode | None:
        if isinstance(node, ScalarNode) and not node.is_null:
            return node
        self.note(path, _shown(node), rule, node.line, next_step)
        return None

    def _text(self, wanted: inspect.StrType, node: Node, path: Path) -> Any:
        del wanted
        scalar = self._scalar(node, path, "must be text")
        return _BAD if scalar is None else scalar.text

    def _int(self, wanted: inspect.IntType, node: Node, path: Path) -> Any:
        del wanted
        scalar = self._scalar(node, path, "must be a whole number")
        if scalar is None:
            return _BAD
        if scalar.quoted or not _INT.fullmatch(scalar.text):
            next_step = "leave the quotes out" if scalar.quoted and _INT.fullmatch(scalar.text) else None
            return self.note(path, scalar.text, "must be a whole number", scalar.line, next_step)
        if len(scalar.text) > _DIGITS_MAX or not limits.integer_min <= int(scalar.text) <= limits.integer_max:
            return self.note(path, scalar.text, "must fit 64 bits", scalar.line)
        return int(scalar.text)

    def _float(self, wanted: inspect.FloatType, node: Node, path: Path) -> Any:
        del wanted
        scalar = self._scalar(node, path, "must be a number")
        if scalar is None:
            return _BAD
        if scalar.quoted or not _FLOAT.fullmatch(scalar.text) or not math.isfinite(float(scalar.text)):
            next_step = "leave the quotes out" if scalar.quoted and _FLOAT.fullmatch(scalar.text) else None
            return self.note(path, scalar.text, "must be a finite number", scalar.line, next_step)
        return float(scalar.text)

    def _literal(self, wanted: inspect.LiteralType, node: Node, path: Path) -> Any:
        values = [str(value) for value in wanted.values]
        rule = f"must be one of {', '.join(values)}"
        scalar = self._scalar(node, path, rule)
        if scalar is None:
            return _BAD
        if scalar.text not in values:
            return self.note(path, scalar.text, rule, scalar.line, did_you_mean(scalar.text, values))
        return scalar.text

    def _union(self, wanted: inspect.UnionType, node: Node, path: Path) -> Any:
        if isinstance(node, ScalarNode) and node.is_null:
            return None
        (inner,) = [one for one in wanted.types if not isinstance(one, inspect.NoneType)]
        return self._value(inner, node, path)

    def _items(self, wanted: inspect.VarTupleType, node: Node, path: Path) -> Any:
        if not isinstance(node, SequenceNode):
            next_step = f"write [{node.text}]" if isinstance(node, ScalarNode) and not node.is_null else None
            return self.note(path, _shown(node), "must be a list", node.line, next_step)
        items: list[Any] = []
        for item in node.items:
            items.append(self._value(wanted.item_type, item, path))
            if isinstance(item, ScalarNode):
                self.place((*path, item.text), item.line)
        return _BAD if any(isinstance(item, _Bad) for item in items) else tuple(items)

    def _dict(self, wanted: inspect.DictType, node: Node, path: Path) -> Any:
        if not isinstance(node, MappingNode):
            return self.note(path, _shown(node), "must be a mapping of names to values", node.line)
        values: dict[str, Any] = {}
        for name, (line, value) in node.entries.items():
            self.place((*path, name), line)
            values[name] = self._value(wanted.value_type, value, (*path, name))
        return _BAD if any(isinstance(value, _Bad) for value in values.values()) else values

    def _struct(self, wanted: inspect.StructType, node: Node, path: Path) -> Any:
        fields = {field.encode_name: field for field in wanted.fields}
        entries = self._entries(wanted, node, path)
        if entries is None:
            return _BAD
        values: dict[str, Any] = {}
        for name, (line, value) in entries.items():
            if name not in fields:
                known = ", ".join(fields)
                next_step = did_you_mean(name, fields, f"known fields: {known}")
                values[name] = self.note((*path, name), _shown(value), "is not a known field", line, next_step)
                continue
            self.place((*path, name), line)
            values[fields[name].name] = self._value(fields[name].type, value, (*path, name))
        for name, field in fields.items():
            if field.required and name not in entries:
                values[name] = self.note((*path, name), None, "must be given", node.line)
        return _BAD if any(isinstance(value, _Bad) for value in values.values()) else wanted.cls(**values)

    def _entries(self, wanted: inspect.StructType, node: Node, path: Path) -> Mapping[str, tuple[int, Node]] | None:
        if isinstance(node, MappingNode):
            return node.entries
        if isinstance(node, ScalarNode):
            if node.is_null:
                return {}
            if wanted.cls in self._short_forms:
                return {self._short_forms[wanted.cls]: (node.line, node)}
        known = ", ".join(field.encode_name for field in wanted.fields)
        self.note(path, _shown(node), "must be a mapping of fields", node.line, f"known fields: {known}")
        return None


def _shown(node: Node) -> object:
    """Return a value small enough for a message."""
    if isinstance(node, ScalarNode):
        return None if node.is_null else node.text
    if isinstance(node, SequenceNode):
        return f"a list of {len(node.items)}"
    return f"a mapping of {', '.join(node.entries)}" if node.entries else "an empty mapping"
