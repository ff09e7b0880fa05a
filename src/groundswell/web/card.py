"""A scorecard's JSON as the pages read it: every key optional, so that an older or barer one can still be shown."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from groundswell import limits
from groundswell.errors import InvalidInput

__all__ = ["Card", "Interval", "Result", "Split", "read_card"]


class Interval(msgspec.Struct, frozen=True):
    """Bounds and, for a difference, its estimate."""

    low: float | None = None
    high: float | None = None
    estimate: float | None = None


class Split(msgspec.Struct, frozen=True):
    """The sample ratio; ``expected`` holds shares or counts."""

    p_value: float | None = None
    ok: bool | None = None
    expected: dict[str, float] = {}
    before_exclusion_p_value: float | None = None
    reason: str | None = None


class Completeness(msgspec.Struct, frozen=True):
    """How far the data reaches."""

    data_to: str | None = None
    newest: str | None = None
    partitions: int | None = None
    partitions_behind: int | None = None


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """One metric of one variant."""

    metric: str
    variant: str
    baseline: str = "control"
    type: str = "mean"
    window: str | None = None
    better: str = "higher"
    n: int | None = None
    mean: float | None = None
    mean_interval: Interval | None = None
    baseline_n: int | None = None
    baseline_mean: float | None = None
    baseline_interval: Interval | None = None
    absolute: Interval | None = None
    relative: Interval | None = None
    always_valid: Interval | None = None
    always_valid_relative: Interval | None = None
    statistic: float | None = None
    p_value: float | None = None
    degrees_of_freedom: float | None = None
    method: str | None = None
    warnings: list[str] = []
    reasons: dict[str, str] = {}


class Card(msgspec.Struct, frozen=True, kw_only=True):
    """One experiment at one snapshot."""

    experiment: str
    status: str = "running"
    snapshot_id: int | None = None
    definitions_version: int | None = None
    as_of: str | None = None
    computed_at: str | None = None
    alpha: float = limits.alpha_default
    shown: str = "always_valid"
    units: dict[str, int] = {}
    excluded: dict[str, int] = {}
    srm: Split = Split()
    completeness: Completeness = Completeness()
    results: list[Result] = []
    counting: list[str] = []
    recompute: str | None = None


def read_card(scorecard: Mapping[str, object]) -> Card:
    """Return ``scorecard`` as a struct.

    Raises:
        InvalidInput: it is not the JSON of a scorecard.
    """
    try:
        return msgspec.convert(scorecard, Card)
    except msgspec.ValidationError as error:
        raise InvalidInput("scorecard", scorecard, f"must be the JSON of a scorecard: {error}") from None
