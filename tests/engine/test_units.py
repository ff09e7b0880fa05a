"""The per-unit table: one row a counted unit, and the moments of its columns are the engine's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from groundswell.engine import reference
from groundswell.engine.local import LocalEngine
from groundswell.model.moments import Moments
from groundswell.model.plan import MetricPlan, Plan, Term
from groundswell.testing.lake import MemoryLake
from groundswell.wire.hashing import hash64

SOON = MetricPlan("soon", (Term("purchase", "count"),), window_us=300)


@pytest.fixture
def rows(world: Any) -> list[Any]:
    rng = np.random.default_rng(3)
    made: list[Any] = []
    for number in range(200):
        user, phone = f"u{number % 150}", f"p{number % 90}"
        made.append(
            world.exposure(user, str(rng.choice(["control", "treatment"])), int(rng.integers(0, 900)), device_id=phone)
        )
        made += [world.purchase(user, int(rng.integers(0, 1000)), float(rng.integers(1, 99)), device_id=phone)] * 2
    return made


@pytest.mark.parametrize("unit", ["user_id", "device_id"])
def test_every_counted_unit_has_its_row_as_the_reference_has_it(world: Any, rows: list[Any], unit: str) -> None:
    table = world.table(rows)
    lake = world.fill(MemoryLake(), [(table.slice(0, 250), 0), (table.slice(250), 0)])
    plan = world.plan(world.ORDER_VALUE, world.BUYERS, SOON, world.REVENUE, unit=unit)

    found = LocalEngine(lake, threads=2, range_rows=17).unit_table(plan)

    hashes = found.column("unit_hash").to_pylist()
    expected = {hash64(one.unit): one for one in reference.count_units(table, plan, 1_000)}
    assert hashes == sorted(expected)
    for row in found.to_pylist():
        one = expected[row["unit_hash"]]
        soon = one.values["soon"]
        assert row["variant"] == one.variant
        assert (row["order_value.numerator"], row["order_value.denominator"]) == one.values["order_value"]
        assert (row["buyers"],) == one.values["buyers"]
        assert (row["revenue"],) == one.values["revenue"]
        assert row["soon"] == (None if soon is None else soon[0])


def test_moments_of_the_rows_are_the_moments_of_the_sweep(world: Any, rows: list[Any]) -> None:
    lake = world.fill(MemoryLake(), [(world.table(rows), 0)])
    plan = world.plan(world.ORDER_VALUE, SOON)
    engine = LocalEngine(lake)

    units = engine.unit_table(plan).to_pandas()
    swept = engine.execute(Plan((plan,))).experiments["exp"].moments

    for variant, part in units.groupby("variant"):
        order = Moments.of(part[["order_value.numerator", "order_value.denominator"]].to_numpy())
        soon = Moments.of(part["soon"].dropna().to_numpy())
        for mine, theirs in ((swept["order_value"][variant], order), (swept["soon"][variant], soon)):
            assert mine.count == theirs.count
            np.testing.assert_allclose(mine.mean, theirs.mean, rtol=1e-12)
            np.testing.assert_allclose(mine.m2, theirs.m2, rtol=1e-12)


def test_a_unit_table_of_nobody_has_its_columns(world: Any) -> None:
    lake = world.fill(MemoryLake(), [(world.table([world.purchase("a", 1, 2.0)]), 0)])

    found = LocalEngine(lake).unit_table(world.plan(world.ORDER_VALUE, world.BUYERS))

    assert found.num_rows == 0
    assert found.column_names == [
        "unit_hash",
        "variant",
        "exposed_at",
        "order_value.numerator",
        "order_value.denominator",
        "buyers",
    ]
