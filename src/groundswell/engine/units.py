"""The per-unit table: what a sweep knows of each unit before it becomes moments, for methods that need more."""

from __future__ import annotations

from typing import Final

import numpy as np
import pyarrow as pa

from groundswell.engine import kernels
from groundswell.engine.cells import CellIndex
from groundswell.engine.program import Program
from groundswell.engine.rows import Rows
from groundswell.engine.tally import Workspace
from groundswell.model.plan import MetricPlan

__all__ = ["term_columns", "unit_rows"]

_MOMENT: Final = pa.timestamp("us", tz="UTC")


def term_columns(metric: MetricPlan) -> list[str]:
    """Return the names of a metric's columns in a unit table."""
    if len(metric.terms) == 1:
        return [metric.name]
    return [f"{metric.name}.numerator", f"{metric.name}.denominator"]


def unit_rows(program: Program, index: CellIndex, rows: Rows, as_of_us: int) -> pa.Table:
    """Return the counted units among ``rows`` of the one experiment of ``program``, in order of unit_hash."""
    (experiment,), (recipe,) = program.experiments, program.recipes
    entries = (rows.event == kernels.EXPOSURE_CODE) & (rows.experiment == 0)
    room = np.count_nonzero(entries)
    emitted, numbers = np.empty(room, np.int64), np.full((room, recipe.out_starts[-1]), np.nan)
    count = 0
    if room:
        count = Workspace(program, index).sweep(rows, (0, len(rows)), as_of_us, (emitted, numbers))
    first, numbers = emitted[:count], numbers[:count]
    arms = program.arm_of[0, rows.variant[first]]
    columns = {
        "unit_hash": pa.array(rows.unit_hash[first], pa.int64()),
        "variant": pa.array(experiment.variants, pa.string()).take(pa.array(arms, pa.int64())),
        "exposed_at": pa.array(rows.ts[first], pa.int64()).cast(_MOMENT),
    }
    for metric in experiment.metrics:
        place = recipe.places[metric.name]
        group, start = recipe.groups[place.group], recipe.out_starts[place.group]
        start += len(group.numbers) if place.is_share else 0
        for slot, name in zip(place.slots, term_columns(metric), strict=True):
            column = numbers[:, start + slot]
            columns[name] = pa.array(column, pa.float64(), mask=np.isnan(column))
    return pa.table(columns)
