"""Moments and unit tables as Parquet, for notebooks and other tools."""

from __future__ import annotations

from pathlib import Path

from groundswell.engine.contract import Engine
from groundswell.errors import Unavailable
from groundswell.experiments.service import Scorecards

__all__ = ["export_experiment"]


def export_experiment(
    scorecards: Scorecards, engine: Engine, experiment: str, folder: Path, *, snapshot_id: int | None = None
) -> list[Path]:
    """Write ``<experiment>.moments.parquet`` and ``<experiment>.units.parquet`` into ``folder``.

    Raises:
        Unavailable: the folder cannot be written.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    from groundswell.engine.plan_of import plan_experiment
    from groundswell.experiments.moments_form import moments_rows

    computed = scorecards.compute([experiment], snapshot_id=snapshot_id)
    definition = computed.definitions.experiments[experiment]
    plan = plan_experiment(experiment, definition, computed.definitions.metrics)
    units = engine.unit_table(plan, computed.snapshot.snapshot_id, computed.aggregates.as_of_us)
    moments = pa.Table.from_pylist(moments_rows(computed.aggregates))
    written: list[Path] = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, table in (("moments", moments), ("units", units)):
            path = folder / f"{experiment}.{name}.parquet"
            pq.write_table(table, path)
            written.append(path)
    except OSError as error:
        msg = f"the folder {folder} cannot be written: {error.strerror}"
        raise Unavailable(msg) from error
    return written
