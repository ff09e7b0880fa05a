"""A table in, comparisons out: for those who have a data frame and no pipeline.

A frame is anything that gives columns by name: pandas, polars, Arrow, or a mapping of arrays. One row is one unit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from groundswell.errors import InvalidInput
from groundswell.model.moments import Moments
from groundswell.stats.adjustment import Adjustment, cuped, post_stratify
from groundswell.stats.clusters import Clusters, clustered
from groundswell.stats.contrasts import Settings, contrast
from groundswell.stats.results import Comparison
from groundswell.stats.samples import Pair, Sample
from groundswell.stats.units import fill_missing

__all__ = ["analyse"]

Floats = NDArray[np.float64]


def analyse(
    frame: Any,
    metric: str,
    *,
    variant: str = "variant",
    baseline: str = "control",
    denominator: str | None = None,
    covariates: Sequence[str] = (),
    strata: str | None = None,
    cluster: str | None = None,
    adjustment: Adjustment | None = None,
    settings: Settings | None = None,
) -> dict[str, Comparison]:
    """Compare every variant with the baseline, and return comparisons by variant.

    Args:
        frame: one row a unit.
        metric: column of the metric, or of a ratio's numerator.
        variant: column that names each unit's variant.
        baseline: the variant that others are compared with.
        denominator: column of a ratio's denominator.
        covariates: columns measured before exposure; gaps (null, NaN) are filled and marked.
        strata: column to post-stratify by.
        cluster: column of the randomised unit, where rows are finer than it.
        adjustment: how covariates are used.
        settings: how arms are compared.

    Raises:
        InvalidInput: a column is missing, not a number, or has gaps in the metric; or options that exclude each other.

    >>> frame = {"variant": ["control"] * 4 + ["b"] * 4, "spend": [1.0, 2.0, 3.0, 4.0, 3.0, 4.0, 5.0, 6.0]}
    >>> round(analyse(frame, "spend")["b"].p_value, 4)
    0.071
    """
    if cluster is not None and (denominator or covariates or strata):
        raise InvalidInput(
            "cluster", cluster, "goes with a plain mean only", next_step="sum rows by cluster, then a ratio"
        )
    label = np.asarray(_column(frame, variant))
    outcomes = [_numbers(frame, name) for name in (metric, denominator) if name]
    names = [str(name) for name in np.unique(label.astype(str))]
    if baseline not in names:
        raise InvalidInput("baseline", baseline, f"must be one of the variants {names}")
    extra = fill_missing(np.column_stack([_numbers(frame, c, gaps=True) for c in covariates])) if covariates else None
    table = np.column_stack([*outcomes, *([] if extra is None else [extra])])
    stratum = None if strata is None else np.asarray(_column(frame, strata)).astype(str)
    cluster_of = None if cluster is None else np.asarray(_column(frame, cluster)).astype(str)
    text = label.astype(str)
    out: dict[str, Comparison] = {}
    for name in names:
        if name == baseline:
            continue
        arms = text == name, text == baseline
        if cluster_of is not None:
            groups = [Clusters.of_values(table[arm, 0], cluster_of[arm]) for arm in arms]
            pair = clustered(groups[0], groups[1])
        else:
            pair = _pair(table, arms, len(outcomes), stratum, adjustment)
        out[name] = contrast(pair, settings)
    return out


def _pair(
    table: Floats,
    arms: tuple[NDArray[np.bool_], NDArray[np.bool_]],
    outcomes: int,
    stratum: NDArray[np.str_] | None,
    adjustment: Adjustment | None,
) -> Pair:
    q = 1 if outcomes == 1 else 2
    if stratum is not None:
        cells = [
            (Moments.of(table[arms[0] & (stratum == s)]), Moments.of(table[arms[1] & (stratum == s)]))
            for s in np.unique(stratum)
        ]
        return post_stratify(cells, outcomes=q, adjustment=adjustment)
    t, c = (Moments.of(table[arm]) for arm in arms)
    if table.shape[1] > outcomes:
        return cuped(t, c, outcomes=q, adjustment=adjustment)
    read = Sample.of_mean if q == 1 else Sample.of_ratio
    return Pair(read(t), read(c))


def _column(frame: Any, name: str) -> Any:
    try:
        column = frame[name]
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise InvalidInput("column", name, "must be a column of the frame") from error
    except Exception as error:
        # polars raises its own; anything else is not a missing column
        if type(error).__name__ != "ColumnNotFoundError":
            raise
        raise InvalidInput("column", name, "must be a column of the frame") from error
    return column.to_numpy() if hasattr(column, "to_numpy") else column


def _numbers(frame: Any, name: str, *, gaps: bool = False) -> Floats:
    try:
        x = np.asarray(_column(frame, name), dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InvalidInput("column", name, "must hold numbers") from error
    if x.ndim != 1:
        raise InvalidInput("column", name, f"must be one-dimensional, has shape {x.shape}")
    if np.isinf(x).any() or (np.isnan(x).any() and not gaps):
        raise InvalidInput("column", name, "must be finite", next_step="a unit without events has 0, not a gap")
    return x
