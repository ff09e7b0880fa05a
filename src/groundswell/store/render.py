"""Definitions as people write them: YAML that can be applied again, and differences they can read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec
import yaml

from groundswell.model.definitions import SECTIONS, Definition, Definitions, Kind, PropertyDef
from groundswell.store.contract import FieldChange, ObjectChange

__all__ = ["change_lines", "changed_fields", "flow", "plain", "to_plain", "to_yaml"]

_WIDTH: Final = 120
_STYLE: Final[dict[str, Any]] = {"sort_keys": False, "allow_unicode": True}


def plain(definition: Definition) -> Any:
    """Return a definition as mappings, lists and scalars, defaults left out, and in its short form where it has one."""
    fields = _fields(definition)
    if isinstance(definition, PropertyDef) and fields.keys() == {"type"}:
        return definition.type
    return fields


def to_plain(definitions: Definitions) -> dict[str, Any]:
    """Return the whole of what people defined as one document."""
    people = definitions.without_builtins()
    sections = {SECTIONS[kind]: {name: plain(one) for name, one in people.of(kind).items()} for kind in SECTIONS}
    return {section: objects for section, objects in sections.items() if objects}


def to_yaml(document: Mapping[str, Any]) -> str:
    """Return YAML with small mappings and lists on one line."""
    return yaml.dump(dict(document), Dumper=_Dumper, default_flow_style=None, width=_WIDTH, **_STYLE)


def flow(value: object) -> str:
    """Return a value on one line.

    >>> flow({"control": 50, "treatment": 50})
    '{control: 50, treatment: 50}'
    """
    text = yaml.dump(value, Dumper=_Dumper, default_flow_style=True, width=float("inf"), **_STYLE)
    return text.removesuffix("\n").removesuffix("\n...")


def changed_fields(before: Definition | None, after: Definition | None) -> tuple[FieldChange, ...]:
    """Return the fields that differ, in their own order."""
    old, new = _fields(before), _fields(after)
    names = [*old, *(name for name in new if name not in old)]
    return tuple(
        FieldChange(name, _shown(old.get(name)), _shown(new.get(name)))
        for name in names
        if old.get(name) != new.get(name) or _order(old.get(name)) != _order(new.get(name))
    )


def change_lines(changes: tuple[ObjectChange, ...]) -> list[str]:
    """Return a difference as lines: ``+`` added, ``~`` changed, ``-`` deleted."""
    lines: list[str] = []
    for change in changes:
        lines.append(
            f"{_SIGNS[change.action]} {change.kind} {change.name}"
            + (" (restored)" if change.action == "restored" else "")
        )
        for field, before, after in change.fields:
            if change.action == "deleted":
                continue
            if before is None:
                lines.append(f"    + {field}: {after}")
            elif after is None:
                lines.append(f"    - {field}: {before}")
            else:
                lines.append(f"    ~ {field}: {before} -> {after}")
    return lines


_SIGNS: Final = {"added": "+", "changed": "~", "restored": "+", "deleted": "-"}


def title(kind: Kind, name: str) -> str:
    """Return an object's full name, such as ``metrics.buyers``."""
    return f"{SECTIONS[kind]}.{name}"


def _fields(definition: Definition | None) -> dict[str, Any]:
    """Return the fields that differ from their defaults. (msgspec leaves out only what *is* the default.)"""
    if definition is None:
        return {}
    values = ((field, getattr(definition, field.name)) for field in msgspec.structs.fields(definition))
    return {field.name: _plain_value(value) for field, value in values if value != field.default}


def _plain_value(value: object) -> Any:
    return _fields(value) if isinstance(value, Definition) else list(value) if isinstance(value, tuple) else value


def _order(value: object) -> list[str] | None:
    return list(value) if isinstance(value, dict) else None


def _shown(value: object) -> str | None:
    return None if value is None else flow(value)


_TIMESTAMP: Final = "tag:yaml.org,2002:timestamp"


class _Dumper(yaml.SafeDumper):
    """Writes dates unquoted, for they are text to us, and never uses anchors."""

    def ignore_aliases(self, data: object) -> bool:
        del data
        return True


_Dumper.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != _TIMESTAMP]
    for first, resolvers in yaml.SafeDumper.yaml_implicit_resolvers.items()
}
