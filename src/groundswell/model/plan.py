"""What an engine is asked and what it answers: a portfolio of experiments x metrics, and its moments.

A plan is pure data, so that it can be sent to any engine and stored beside its result.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from groundswell.model.definitions import UnitKind
from groundswell.model.moments import Moments

__all__ = ["Aggregates", "ExperimentPlan", "ExperimentResult", "MetricPlan", "Plan", "Term"]


@dataclass(frozen=True, slots=True)
class Term:
    """A per-unit number: ``sum`` of ``value`` over ``event``s, their ``count``, or whether there is ``any``."""

    event: str
    kind: Literal["sum", "count", "any"]
    value: str | None = None


@dataclass(frozen=True, slots=True)
class MetricPlan:
    """A metric as the engine sees it: one term (k = 1), or numerator and denominator (k = 2)."""

    name: str
    terms: tuple[Term, ...]
    window_us: int | None = None


@dataclass(frozen=True, slots=True)
class ExperimentPlan:
    """Whom to count and what. Exposures from ``start_us`` to before ``end_us`` (None: still running) count."""

    name: str
    unit: UnitKind
    variants: tuple[str, ...]
    start_us: int
    end_us: int | None
    metrics: tuple[MetricPlan, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """A portfolio. ``as_of_us`` None means the snapshot's own watermark."""

    experiments: tuple[ExperimentPlan, ...]
    as_of_us: int | None = None


@dataclass(frozen=True, slots=True)
class ExperimentResult:
    """Moments by metric and variant.

    ``units`` counts exposed units by variant; a windowed metric's moments have only those whose window has closed.
    ``excluded`` counts what was left out, by reason: ``unknown_variant`` (units that saw a variant which the experiment
    has not), ``two_variants`` (other units that saw two), ``no_unit`` (exposures that lack the experiment's unit).
    """

    units: dict[str, int]
    excluded: dict[str, int]
    moments: dict[str, dict[str, Moments]]
    units_before_exclusion: dict[str, int] = field(default_factory=dict)  # by first variant seen


@dataclass(frozen=True, slots=True)
class Aggregates:
    """The engine's answer for a plan on one snapshot."""

    snapshot_id: int
    as_of_us: int
    experiments: dict[str, ExperimentResult]
