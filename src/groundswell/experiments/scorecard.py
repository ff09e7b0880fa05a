"""The scorecard: what one experiment shows at one snapshot, under one version of the definitions.

Invariants
    a scorecard is a pure function of (snapshot, definitions version, experiment, as_of): recomputing gives the same
    bytes but for ``computed_at``
    what cannot be computed is null, and ``reasons`` says why; it never shows as "no effect"
"""

from __future__ import annotations

from typing import Literal

import msgspec

__all__ = ["Completeness", "Effect", "Interval", "MetricResult", "SampleRatio", "Scorecard"]

Status = Literal["not_started", "running", "ended"]


class Interval(msgspec.Struct, frozen=True):
    """Two-sided, at the scorecard's alpha; a side that is unbounded or unknown is null."""

    low: float | None = None
    high: float | None = None


class Effect(msgspec.Struct, frozen=True):
    """Treatment against baseline, with its interval."""

    estimate: float | None = None
    low: float | None = None
    high: float | None = None


class SampleRatio(msgspec.Struct, frozen=True):
    """Does the split look as it was meant to? ``before_exclusion`` counts each unit under the first variant it saw."""

    p_value: float | None
    ok: bool | None
    expected: dict[str, float]
    before_exclusion_p_value: float | None = None
    reason: str | None = None


class Completeness(msgspec.Struct, frozen=True):
    """How far the data reaches: every partition has everything up to ``data_to``."""

    data_to: str
    partitions: int
    partitions_behind: int
    newest: str


class MetricResult(msgspec.Struct, frozen=True, kw_only=True):
    """One metric of one variant against the baseline.

    ``n`` and ``baseline_n`` are units; with a window only those whose window has closed. ``always_valid`` holds however
    often one looks; ``absolute``, ``relative`` and ``p_value`` hold at one planned look.
    """

    metric: str
    type: str
    window: str | None
    better: str
    variant: str
    baseline: str
    n: int
    mean: float | None
    mean_interval: Interval
    baseline_n: int
    baseline_mean: float | None
    baseline_interval: Interval
    absolute: Effect
    relative: Effect
    always_valid: Interval
    always_valid_relative: Interval
    p_value: float | None
    statistic: float | None  # of the fixed-look test, such as Welch's t
    degrees_of_freedom: float | None
    method: str
    warnings: list[str]
    reasons: dict[str, str]


class Scorecard(msgspec.Struct, frozen=True, kw_only=True):
    """One experiment, one snapshot, one version of the definitions."""

    experiment: str
    status: Status
    snapshot_id: int
    definitions_version: int
    as_of: str
    computed_at: str
    alpha: float
    shown: Literal["always_valid", "absolute"]  # which interval to act on now
    units: dict[str, int]
    excluded: dict[str, int]
    srm: SampleRatio
    completeness: Completeness
    results: list[MetricResult]
    counting: list[str]
    recompute: str

    def to_json(self) -> bytes:
        """Return the scorecard's bytes; equal scorecards have equal bytes."""
        return msgspec.json.encode(self)
