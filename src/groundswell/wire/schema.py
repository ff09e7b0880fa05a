"""The columns of an event batch: the envelope in its order, then every declared property by name.

Invariants
    one property name has one type in the whole product; the built-in properties of an exposure always exist
    all columns may be null: a batch holds what was sent, and files hold only the columns present in them
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import pyarrow as pa

from groundswell.errors import InvalidInput
from groundswell.model.definitions import (
    EXPOSURE,
    EXPOSURE_EXPERIMENT,
    EXPOSURE_VARIANT,
    Definitions,
    EventDef,
    PropertyDef,
    PropertyType,
)
from groundswell.model.event import ENVELOPE

__all__ = [
    "DEAD_SCHEMA",
    "ENVELOPE_TYPES",
    "PROPERTY_TYPES",
    "TIMESTAMP",
    "all_events",
    "all_properties",
    "events_schema",
]

TIMESTAMP: Final = pa.timestamp("us", tz="UTC")

PROPERTY_TYPES: Final[Mapping[PropertyType, pa.DataType]] = {
    "string": pa.string(),
    "int": pa.int64(),
    "float": pa.float64(),
    "bool": pa.bool_(),
    "timestamp": TIMESTAMP,
}
_LOGICAL: Final[Mapping[str, pa.DataType]] = {
    "string": pa.string(),
    "timestamp": TIMESTAMP,
    "long": pa.int64(),
    "int": pa.int32(),
}
ENVELOPE_TYPES: Final[Mapping[str, pa.DataType]] = {name: _LOGICAL[logical] for name, logical in ENVELOPE.items()}

# an event that was accepted and cannot be counted: why, and the event as it was sent
DEAD_SCHEMA: Final = pa.schema(
    [
        ("source", pa.string()),
        ("event_id", pa.string()),
        ("received_at", TIMESTAMP),
        ("reason", pa.string()),  # a stable code, such as wrong_type
        ("field", pa.string()),
        ("message", pa.string()),  # name, value, rule, next step
        ("raw", pa.binary()),  # the event's JSON, byte for byte
        ("index", pa.int32()),  # its place in the request
    ]
)

_BUILT_IN: Final = (EXPOSURE_EXPERIMENT, EXPOSURE_VARIANT)


def all_properties(definitions: Definitions) -> dict[str, PropertyDef]:
    """Return declared and built-in properties, sorted by name.

    Raises:
        InvalidInput: a declared property has the name of an envelope column or changes a built-in one.
    """
    properties = dict(definitions.properties)
    for name, declared in properties.items():
        if name in ENVELOPE:
            raise InvalidInput("property", name, "must not be the name of an envelope column", next_step="rename it")
        if name in _BUILT_IN and declared.type != "string":
            raise InvalidInput(f"type of property {name}", declared.type, "must be string: exposures use it")
    for name in _BUILT_IN:
        properties.setdefault(name, PropertyDef(type="string"))
    return dict(sorted(properties.items()))


def all_events(definitions: Definitions) -> dict[str, EventDef]:
    """Return declared event types and the built-in exposure, which always has its two properties and requires them."""
    declared = definitions.events.get(EXPOSURE, EventDef())
    exposure = EventDef(
        properties=tuple(dict.fromkeys((*_BUILT_IN, *declared.properties))),
        required=tuple(dict.fromkeys((*_BUILT_IN, *declared.required))),
        description=declared.description,
    )
    return {**definitions.events, EXPOSURE: exposure}


def events_schema(definitions: Definitions) -> pa.Schema:
    """Return the schema of a full event batch under ``definitions``."""
    fields = [pa.field(name, column) for name, column in ENVELOPE_TYPES.items()]
    fields += [pa.field(name, PROPERTY_TYPES[prop.type]) for name, prop in all_properties(definitions).items()]
    return pa.schema(fields)
