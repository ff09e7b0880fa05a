"""Structs as the JSON API shows them: moments as RFC 3339 text, because a caller should not count microseconds."""

from __future__ import annotations

from typing import Any

import msgspec

from groundswell.model.clock import format_us

__all__ = ["public", "public_schema"]

_SUFFIX = "_us"


def public(value: object) -> Any:
    """Return ``value`` as plain dicts and lists; a key such as ``data_to_us`` becomes ``data_to``, an RFC 3339 text."""
    return _shown(msgspec.to_builtins(value))


def _shown(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_shown(one) for one in value]
    if not isinstance(value, dict):
        return value
    shown: dict[str, Any] = {}
    for key, one in value.items():
        if key.endswith(_SUFFIX):
            shown[key.removesuffix(_SUFFIX)] = None if one is None else format_us(one)
        else:
            shown[key] = _shown(one)
    return shown


def public_schema(schema: Any) -> Any:
    """Return a JSON Schema changed as ``public`` changes its values."""
    if isinstance(schema, list):
        return [public_schema(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    shown: dict[str, Any] = {}
    for key, one in schema.items():
        if key == "properties":
            shown[key] = dict(_property(name, found) for name, found in one.items())
        elif key == "required":
            shown[key] = [name.removesuffix(_SUFFIX) for name in one]
        else:
            shown[key] = public_schema(one)
    return shown


def _property(name: str, schema: dict[str, Any]) -> tuple[str, Any]:
    if not name.endswith(_SUFFIX):
        return name, public_schema(schema)
    moment: dict[str, Any] = {"type": "string", "format": "date-time"}
    if "anyOf" in schema:
        moment = {"anyOf": [moment, {"type": "null"}], "default": None}
    return name.removesuffix(_SUFFIX), moment
