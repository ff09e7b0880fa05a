"""A small world for the engine: events written as a person would say them, and a lake that holds them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pytest

from groundswell.engine.local import LocalEngine
from groundswell.lake.contract import Change, IngestState, Lake
from groundswell.model.definitions import Definitions, PropertyDef
from groundswell.model.plan import ExperimentPlan, ExperimentResult, MetricPlan, Plan, Term
from groundswell.testing.lake import MemoryLake
from groundswell.wire.hashing import fingerprint, unit_columns
from groundswell.wire.schema import events_schema

DEFINITIONS = Definitions(
    properties={
        "revenue": PropertyDef(type="float"),
        "items": PropertyDef(type="int"),
        "coupon": PropertyDef(type="string"),
        "gift": PropertyDef(type="bool"),
    }
).with_builtins()
SCHEMA = events_schema(DEFINITIONS)
AS_OF_US = 1_000

Row = Mapping[str, Any]


class World:
    """Times are small whole numbers of microseconds; the run of an experiment is [0, 500) and ``as_of`` is 1,000."""

    BUYERS = MetricPlan("buyers", (Term("purchase", "any"),))
    PURCHASES = MetricPlan("purchases", (Term("purchase", "count"),))
    REVENUE = MetricPlan("revenue", (Term("purchase", "sum", "revenue"),))
    ORDER_VALUE = MetricPlan("order_value", (Term("purchase", "sum", "revenue"), Term("purchase", "count")))

    @staticmethod
    def exposure(user: str | None, variant: str | None, ts: int, *, experiment: str = "exp", **more: Any) -> Row:
        return {"type": "exposure", "experiment": experiment, "variant": variant, "user_id": user, "ts": ts, **more}

    @staticmethod
    def purchase(user: str | None, ts: int, revenue: float | None = None, **more: Any) -> Row:
        return {"type": "purchase", "user_id": user, "ts": ts, "revenue": revenue, **more}

    @staticmethod
    def plan(*metrics: MetricPlan, **settings: Any) -> ExperimentPlan:
        plain = ExperimentPlan("exp", "user_id", ("control", "treatment"), 0, 500, metrics)
        return dataclasses.replace(plain, **settings)

    @staticmethod
    def table(rows: Sequence[Row]) -> pa.Table:
        """Return rows as ingest would write them; ``received_at`` is ``ts``, an id the row's number where not given."""
        full: list[dict[str, Any]] = []
        for number, row in enumerate(rows):
            identity = row.get("event_id", f"e{number}")
            plain = {"event_id": identity, "source": "app", "content_hash": 0, "received_at": row["ts"]}
            full.append({**plain, "event_hash": fingerprint("app", identity)[0], **row})
        table = pa.Table.from_pylist(full, schema=SCHEMA)
        ids = [table.column(name).combine_chunks() for name in ("user_id", "anonymous_id", "device_id")]
        for name, column in zip(("unit_hash", "unit_kind"), unit_columns(*ids), strict=True):
            table = table.set_column(table.schema.get_field_index(name), name, column)
        return table

    @staticmethod
    def fill(lake: Lake, files: Sequence[tuple[pa.Table, int]], *, as_of_us: int | None = AS_OF_US) -> Lake:
        """Commit ``files`` (table, sorted run) in one snapshot whose watermark is ``as_of_us``."""
        lake.ensure_columns(DEFINITIONS)
        written = [lake.write(table, sorted_run=run) for table, run in files if table.num_rows]
        marks = {} if as_of_us is None else {0: as_of_us}
        lake.commit(lambda _: Change(add=written, state=IngestState(watermarks_us=marks)))
        return lake

    def count(self, rows: Sequence[Row], plan: ExperimentPlan, *, as_of_us: int = AS_OF_US) -> ExperimentResult:
        """Return what the engine makes of ``rows`` in one fresh file."""
        lake = self.fill(MemoryLake(), [(self.table(rows), 0)], as_of_us=as_of_us)
        return LocalEngine(lake, threads=1).execute(Plan((plan,))).experiments[plan.name]


@pytest.fixture
def world() -> World:
    return World()
