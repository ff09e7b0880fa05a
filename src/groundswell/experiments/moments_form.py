"""Moments as they are kept and exported: JSON beside a published scorecard, one row a cell for Parquet."""

from __future__ import annotations

from typing import Any

import msgspec

from groundswell.model.plan import Aggregates

__all__ = ["moments_json", "moments_rows"]


def moments_rows(aggregates: Aggregates) -> list[dict[str, Any]]:
    """Return one row an experiment x metric x variant; matrices are lists of rows."""
    return [
        {
            "experiment": experiment,
            "metric": metric,
            "variant": variant,
            "count": moments.count,
            "mean": moments.mean.tolist(),
            "m2": moments.m2.tolist(),
            "m3": moments.m3.tolist(),
            "m4": moments.m4.tolist(),
        }
        for experiment, result in aggregates.experiments.items()
        for metric, by_variant in result.moments.items()
        for variant, moments in by_variant.items()
    ]


def moments_json(aggregates: Aggregates) -> bytes:
    """Return the moments of a sweep with the snapshot and ``as_of`` they belong to."""
    return msgspec.json.encode(
        {"snapshot_id": aggregates.snapshot_id, "as_of_us": aggregates.as_of_us, "moments": moments_rows(aggregates)}
    )
