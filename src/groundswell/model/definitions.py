"""What people define: properties, events, metrics, experiments, sources. Nouns only; ``check`` has the rules.

A definition is a frozen struct with the same field names as its YAML. ``Definitions`` is one version of all of them,
what is built in included: the store adds it, so that nobody downstream treats an exposure as a special case.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

import msgspec

__all__ = [
    "BUILTIN_EVENTS",
    "BUILTIN_PROPERTIES",
    "KINDS",
    "SECTIONS",
    "Definition",
    "Definitions",
    "EventDef",
    "ExperimentDef",
    "Kind",
    "MetricDef",
    "Operand",
    "PropertyDef",
    "PropertyType",
    "SourceDef",
    "UnitKind",
]

Kind = Literal["property", "event", "metric", "experiment", "source"]
PropertyType = Literal["string", "int", "float", "bool", "timestamp"]
UnitKind = Literal["user_id", "anonymous_id", "device_id"]
UNIT_KINDS: Final[tuple[UnitKind, ...]] = ("user_id", "anonymous_id", "device_id")  # order of the layout key

EXPOSURE: Final = "exposure"  # the built-in event type by which a unit enters an experiment
EXPOSURE_EXPERIMENT: Final = "experiment"  # its two built-in properties, both strings
EXPOSURE_VARIANT: Final = "variant"


class Definition(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """Shared settings of every definition."""


class PropertyDef(Definition, frozen=True):
    """A typed column of the one wide table; one name and one type in the whole product."""

    type: PropertyType
    unit: str | None = None
    description: str | None = None


class EventDef(Definition, frozen=True):
    """An event type: which properties it may carry and which it must."""

    properties: tuple[str, ...] = ()
    required: tuple[str, ...] = ()
    description: str | None = None


class Operand(Definition, frozen=True):
    """A per-unit total: the sum of ``value`` over events of type ``event``, or their count where ``value`` is None."""

    event: str
    value: str | None = None


class MetricDef(Definition, frozen=True):
    """A metric, defined once.

    ``mean``        per-unit total of ``event``/``value``, averaged over units (a count where ``value`` is None)
    ``conversion``  share of units with at least one ``event``
    ``ratio``       sum of the numerator's totals over sum of the denominator's, over units (delta method)
    """

    type: Literal["mean", "conversion", "ratio"]
    event: str | None = None
    value: str | None = None
    numerator: Operand | None = None
    denominator: Operand | None = None
    window: str | None = None  # such as "7d"; counts within it of the exposure
    better: Literal["higher", "lower"] = "higher"
    description: str | None = None


class ExperimentDef(Definition, frozen=True):
    """An experiment: unit, weighted variants, run, metrics. Order of ``variants`` matters and is kept."""

    variants: dict[str, int]
    unit: UnitKind = "user_id"
    start: str | None = None  # RFC 3339 or a date; None is a draft
    end: str | None = None
    metrics: tuple[str, ...] = ()
    salt: str | None = None  # None: the experiment's own name
    alpha: float | None = None
    description: str | None = None

    @property
    def baseline(self) -> str:
        """The variant named ``control``, else the first."""
        return "control" if "control" in self.variants else next(iter(self.variants))


class SourceDef(Definition, frozen=True):
    """Where events come from; write keys belong to a source."""

    description: str | None = None


class Definitions(msgspec.Struct, frozen=True, kw_only=True):
    """One version of everything that is defined. ``version`` 0 is empty."""

    version: int = 0
    properties: Mapping[str, PropertyDef] = {}
    events: Mapping[str, EventDef] = {}
    metrics: Mapping[str, MetricDef] = {}
    experiments: Mapping[str, ExperimentDef] = {}
    sources: Mapping[str, SourceDef] = {}

    def of(self, kind: Kind) -> Mapping[str, Definition]:
        """Return the definitions of one kind by name."""
        return getattr(self, SECTIONS[kind])

    def with_builtins(self) -> Definitions:
        """Return the same definitions and what is built in."""
        return msgspec.structs.replace(
            self,
            properties={**self.properties, **BUILTIN_PROPERTIES},
            events={**self.events, **BUILTIN_EVENTS},
        )

    def without_builtins(self) -> Definitions:
        """Return only what people defined."""
        return msgspec.structs.replace(
            self,
            properties={name: one for name, one in self.properties.items() if name not in BUILTIN_PROPERTIES},
            events={name: one for name, one in self.events.items() if name not in BUILTIN_EVENTS},
        )


KINDS: Final[Mapping[Kind, type[Definition]]] = {
    "property": PropertyDef,
    "event": EventDef,
    "metric": MetricDef,
    "experiment": ExperimentDef,
    "source": SourceDef,
}
SECTIONS: Final[Mapping[Kind, str]] = {  # where each kind stands in a file
    "property": "properties",
    "event": "events",
    "metric": "metrics",
    "experiment": "experiments",
    "source": "sources",
}

BUILTIN_PROPERTIES: Final[Mapping[str, PropertyDef]] = {
    EXPOSURE_EXPERIMENT: PropertyDef(type="string", description="which experiment a unit was exposed to"),
    EXPOSURE_VARIANT: PropertyDef(type="string", description="which variant it was shown"),
}
BUILTIN_EVENTS: Final[Mapping[str, EventDef]] = {
    EXPOSURE: EventDef(
        properties=(EXPOSURE_EXPERIMENT, EXPOSURE_VARIANT),
        required=(EXPOSURE_EXPERIMENT, EXPOSURE_VARIANT),
        description="a unit was shown a variant",
    ),
}
