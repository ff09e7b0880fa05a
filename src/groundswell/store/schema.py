"""The JSON Schema of definition files, for editors: completion, descriptions and red lines while typing.

Types, choices and defaults come from the definitions themselves, so the schema cannot drift from them; what a field
means is said here. The schema knows the shape of a file; rules between definitions are the program's (``model.check``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec
from msgspec import inspect

from groundswell import limits
from groundswell.model.check import MOMENT_PATTERN
from groundswell.model.definitions import KINDS, SECTIONS, Operand, PropertyDef
from groundswell.model.names import NAME_PATTERN

__all__ = ["definitions_schema", "field_descriptions", "schema_text"]

_DURATION: Final = "^[0-9]*[1-9][0-9]*[smhdw]$"

_SECTIONS: Final[Mapping[str, str]] = {
    "properties": "Typed values that events carry. One name has one type in the whole product, for ever.",
    "events": "Event types: what may happen. `exposure` is built in.",
    "metrics": "What is measured, each defined once.",
    "experiments": "Who sees what, since when, and by which metrics it is judged.",
    "sources": "Where events come from. Write keys belong to a source.",
}
_ABOUT: Final[Mapping[str, Mapping[str, Mapping[str, Any]]]] = {
    "property": {
        "type": {"description": "Type of the value; it can never change."},
        "unit": {"description": "Unit of the value, such as USD or ms, shown beside numbers.", "minLength": 1},
        "description": {"description": "What the value means."},
    },
    "event": {
        "properties": {"description": "Properties that this event may carry.", "uniqueItems": True},
        "required": {"description": "Those of its properties that every such event must carry.", "uniqueItems": True},
        "description": {"description": "What happened, in words."},
    },
    "operand": {
        "event": {"description": "The event that counts."},
        "value": {"description": "A property of type int or float to add up; without it, events are counted."},
    },
    "metric": {
        "type": {
            "description": "mean: a total for each unit, averaged over units. conversion: share of units with at least "
            "one event. ratio: all of the numerator over all of the denominator."
        },
        "event": {"description": "The event that counts (mean and conversion)."},
        "value": {"description": "A property of type int or float to add up (mean); without it, events are counted."},
        "numerator": {"description": "What stands above the line of a ratio."},
        "denominator": {"description": "What stands below the line of a ratio."},
        "window": {
            "description": "Count only within this time of the exposure, such as 7d, 24h or 30m, and only units whose "
            "window has closed.",
            "pattern": _DURATION,
        },
        "better": {"description": "Which direction is good."},
        "description": {"description": "What the metric tells."},
    },
    "experiment": {
        "variants": {
            "description": "Weights by variant. `control`, else the first, is the baseline. Fixed once started.",
            "minProperties": 2,
            "maxProperties": limits.variants_max,
            "propertyNames": {"minLength": 1, "maxLength": limits.name_chars_max},
        },
        "unit": {"description": "Who is assigned and counted. Fixed once started."},
        "start": {
            "description": "When it starts: a date (midnight UTC) or an RFC 3339 time. A draft has none.",
            "pattern": MOMENT_PATTERN,
        },
        "end": {"description": "When it ends: a date (midnight UTC) or an RFC 3339 time.", "pattern": MOMENT_PATTERN},
        "metrics": {"description": "Metrics that judge it.", "uniqueItems": True},
        "salt": {
            "description": "What assignment is salted with; the experiment's own name if left out.",
            "minLength": 1,
        },
        "alpha": {
            "description": f"Share of false alarms that is accepted, two-sided; {limits.alpha_default} if left out.",
            "exclusiveMinimum": 0,
            "exclusiveMaximum": 0.5,
        },
        "description": {"description": "What is tried, and why."},
    },
    "source": {"description": {"description": "Which program sends these events."}},
}
_NAME: Final[Mapping[str, Any]] = {"pattern": NAME_PATTERN, "maxLength": limits.name_chars_max}
_NAMES: Final = {("operand", "event"), ("operand", "value"), ("metric", "event"), ("metric", "value")}
_NAME_LISTS: Final = {("event", "properties"), ("event", "required"), ("experiment", "metrics")}


def definitions_schema() -> dict[str, Any]:
    """Return the schema (JSON Schema, draft 7: the one that YAML editors know best)."""
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Groundswell definitions",
        "description": "Properties, events, metrics, experiments and sources; see docs/reference/definitions.md.",
        "type": "object",
        "properties": {section: _section(kind, section) for kind, section in SECTIONS.items()},
        "patternProperties": {"^x-": {"description": "Ignored: a place for YAML anchors."}},
        "additionalProperties": False,
        "definitions": {
            **{kind: _struct(kind, cls) for kind, cls in KINDS.items()},
            "operand": _struct("operand", Operand),
        },
    }


def schema_text() -> str:
    """Return the schema as a file has it."""
    return msgspec.json.format(msgspec.json.encode(definitions_schema()), indent=2).decode() + "\n"


def field_descriptions() -> dict[str, dict[str, str]]:
    """Return what each field means, by kind."""
    return {kind: {name: about["description"] for name, about in fields.items()} for kind, fields in _ABOUT.items()}


def _section(kind: str, section: str) -> dict[str, Any]:
    return {
        "description": _SECTIONS[section],
        "type": ["object", "null"],
        "propertyNames": dict(_NAME),
        "maxProperties": limits.definitions_max,
        "additionalProperties": {"$ref": f"#/definitions/{kind}"},
    }


def _struct(kind: str, cls: type[msgspec.Struct]) -> dict[str, Any]:
    info = inspect.type_info(cls)
    assert isinstance(info, inspect.StructType)
    required = [field.name for field in info.fields if field.required]
    schema: dict[str, Any] = {
        "type": "object" if required else ["object", "null"],
        "properties": {field.name: _field(kind, field) for field in info.fields},
        "additionalProperties": False,
    }
    if required:
        schema["required"] = required
    if kind == "metric":
        schema["allOf"] = [_shape(*shape) for shape in _SHAPES]
    if cls is PropertyDef:  # its short form is the type alone
        choices = schema["properties"]["type"]
        return {"oneOf": [schema, {key: choices[key] for key in ("type", "enum", "description")}]}
    return schema


_SHAPES: Final = (  # type of metric, fields it needs, fields it has not
    ("mean", ["event"], ["numerator", "denominator"]),
    ("conversion", ["event"], ["value", "numerator", "denominator"]),
    ("ratio", ["numerator", "denominator"], ["event", "value"]),
)


def _shape(kind: str, needed: list[str], absent: list[str]) -> dict[str, Any]:
    return {
        "if": {"properties": {"type": {"const": kind}}, "required": ["type"]},
        "then": {"required": needed, "properties": {field: {"type": "null"} for field in absent}},
    }


def _field(kind: str, field: inspect.Field) -> dict[str, Any]:
    schema = {**_type(field.type), **_ABOUT[kind][field.name]}
    if (kind, field.name) in _NAMES:
        schema.update(_NAME)
    elif (kind, field.name) in _NAME_LISTS:
        schema["items"] = {"type": "string", **_NAME}
    elif "string" in schema.get("type", ()) and "enum" not in schema:
        schema["maxLength"] = limits.description_chars_max if field.name == "description" else limits.name_chars_max
    if not field.required and isinstance(field.default, str):
        schema["default"] = field.default
    return schema


_SIMPLE: Final[Mapping[type[inspect.Type], Mapping[str, Any]]] = {
    inspect.StrType: {"type": "string"},
    inspect.IntType: {"type": "integer", "minimum": 0},
    inspect.FloatType: {"type": "number"},
    inspect.StructType: {"$ref": "#/definitions/operand"},
}


def _type(one: inspect.Type) -> dict[str, Any]:
    if isinstance(one, inspect.UnionType):
        inner = _type(next(part for part in one.types if not isinstance(part, inspect.NoneType)))
        null = {"type": "null"}
        return {"anyOf": [inner, null]} if "$ref" in inner else {**inner, "type": [inner["type"], "null"]}
    if isinstance(one, inspect.LiteralType):
        return {"type": "string", "enum": [str(value) for value in one.values]}
    if isinstance(one, inspect.VarTupleType):
        return {"type": "array", "items": _type(one.item_type)}
    if isinstance(one, inspect.DictType):
        return {"type": "object", "additionalProperties": _type(one.value_type)}
    return dict(_SIMPLE[type(one)])
