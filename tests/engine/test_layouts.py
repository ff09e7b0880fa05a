"""However the rows lie in files, and however the work is cut, an answer is the reference's, to the same bytes."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from groundswell.engine import reference
from groundswell.engine.local import LocalEngine
from groundswell.lake.compaction import compact
from groundswell.lake.iceberg import IcebergLake
from groundswell.model.moments import Moments
from groundswell.model.plan import Aggregates, ExperimentPlan, ExperimentResult, MetricPlan, Plan, Term
from groundswell.testing.clock import ManualClock
from groundswell.testing.lake import MemoryLake

METRICS = (
    MetricPlan("buyers", (Term("buy", "any"),)),
    MetricPlan("buyers_soon", (Term("buy", "any"),), window_us=9),
    MetricPlan("orders", (Term("buy", "count"),)),
    MetricPlan("orders_soon", (Term("buy", "count"),), window_us=9),
    MetricPlan("revenue", (Term("buy", "sum", "revenue"),)),
    MetricPlan("revenue_soon", (Term("buy", "sum", "revenue"),), window_us=4),
    MetricPlan("priced", (Term("buy", "count", "revenue"),)),
    MetricPlan("gifts", (Term("buy", "sum", "gift"),)),
    MetricPlan("coupons", (Term("buy", "any", "coupon"),)),
    MetricPlan("items_seen", (Term("view", "sum", "items"),)),
    MetricPlan("order_value", (Term("buy", "sum", "revenue"), Term("buy", "count"))),
    MetricPlan("views_an_order", (Term("view", "count"), Term("buy", "count")), window_us=9),
    MetricPlan("exposures", (Term("exposure", "count"),)),
)
AS_OF_US = 40
PLAN = Plan(
    (
        ExperimentPlan("one", "user_id", ("control", "treatment"), 3, 30, METRICS),
        ExperimentPlan("two", "user_id", ("b", "treatment", "c"), 0, None, METRICS[3:8]),
        ExperimentPlan("empty", "user_id", ("control",), 0, None, ()),
        ExperimentPlan("guests", "anonymous_id", ("control", "treatment"), 0, 35, METRICS[:6]),
        ExperimentPlan("phones", "device_id", ("control", "treatment"), 0, 35, METRICS[4:]),
    )
)

maybe = st.sampled_from([None, None, "x", "y", "z", ""])  # the same texts as ids of every kind
identity = {"user_id": maybe, "anonymous_id": maybe, "device_id": maybe}
times = {"ts": st.integers(0, 50), "received_at": st.integers(0, 5), "event_id": st.integers(0, 40).map(str)}
exposures = st.fixed_dictionaries(
    {
        "type": st.just("exposure"),
        "experiment": st.sampled_from(["one", "two", "guests", "phones", "other"]),
        "variant": st.sampled_from(["control", "treatment", "treatment", "b", "gone"]),
        **identity,
        **times,
    }
)
numbers = st.one_of(st.none(), st.floats(-1e6, 1e6), st.sampled_from([1e12, -1e12, 0.1, float("nan"), float("inf")]))
events = st.fixed_dictionaries(
    {
        "type": st.sampled_from(["buy", "buy", "view", "unheard"]),
        "revenue": numbers,
        "items": st.sampled_from([None, 0, 1, 7]),
        "gift": st.sampled_from([None, True, False]),
        "coupon": st.sampled_from([None, "", "half"]),
        **identity,
        **times,
    }
)


class Layout(NamedTuple):
    """Where each row lies: 0 to 2 are fresh files, 3 and 4 sorted runs of two files each."""

    rows: list[dict[str, Any]]
    places: list[int]
    cuts: tuple[int, int]


@st.composite
def layouts(draw: st.DrawFn) -> Layout:
    rows = draw(st.lists(st.one_of(exposures, events), min_size=1, max_size=60))
    for row in rows:
        row["event_hash"] = int(str(row["event_id"])) * 2**34  # collides in its low bits
        content = repr(sorted((name, value) for name, value in row.items() if name != "received_at"))
        row["content_hash"] = int.from_bytes(hashlib.sha256(content.encode()).digest()[:8], "little", signed=True)
    places = draw(st.lists(st.integers(0, 4), min_size=len(rows), max_size=len(rows)))
    cuts = (draw(st.integers(0, 20)), draw(st.integers(0, 20)))
    return Layout(rows, places, cuts)


def files_of(table: pa.Table, layout: Layout) -> list[tuple[pa.Table, int]]:
    files: list[tuple[pa.Table, int]] = []
    for place in range(5):
        part = table.filter(pa.array([where == place for where in layout.places]))
        if place < 3:
            files.append((part, 0))
        else:
            ordered = part.sort_by("unit_hash")  # rows without one come last
            cut = layout.cuts[place - 3]
            files += [(ordered.slice(0, cut), place), (ordered.slice(cut), place)]
    return files


def assert_close(found: ExperimentResult, expected: ExperimentResult) -> None:
    assert found.units == expected.units
    assert found.excluded == expected.excluded
    assert found.units_before_exclusion == expected.units_before_exclusion
    for metric, by_variant in expected.moments.items():
        for variant, b in by_variant.items():
            a = found.moments[metric][variant]
            assert a.count == b.count
            scale = np.abs(b.mean) + np.sqrt(np.diag(b.m2) / max(b.count, 1)) + 1e-30
            np.testing.assert_array_less(np.abs(a.mean - b.mean) / scale, 1e-12)
            np.testing.assert_array_less(np.abs(a.m2 - b.m2) / (np.outer(scale, scale) * max(b.count, 1)), 1e-12)
            np.testing.assert_array_less(np.abs(a.m3 - b.m3) / (scale**3 * max(b.count, 1)), 1e-12)
            np.testing.assert_array_less(np.abs(a.m4 - b.m4) / (scale**4 * max(b.count, 1)), 1e-12)


def bytes_of(answer: Aggregates) -> list[Any]:
    found: list[Any] = []
    for name, result in answer.experiments.items():
        found += [name, result.units, result.excluded, result.units_before_exclusion]
        for metric, by_variant in result.moments.items():
            for variant, m in by_variant.items():
                found += [metric, variant, m.count, *(part.tobytes() for part in (m.mean, m.m2, m.m3, m.m4))]
    return found


@given(
    layout=layouts(),
    threads=st.sampled_from([1, 3]),
    range_rows=st.sampled_from([1, 3, 100]),
    pool_rows=st.sampled_from([1, 9, 100]),
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_layout_and_any_cut_give_the_reference_to_the_same_bytes(
    world: Any, layout: Layout, threads: int, range_rows: int, pool_rows: int
) -> None:
    table = world.table(layout.rows)
    one_file = world.fill(MemoryLake(), [(table, 0)], as_of_us=AS_OF_US)
    scattered = world.fill(MemoryLake(), files_of(table, layout), as_of_us=AS_OF_US)
    engine = LocalEngine(scattered, threads=threads, range_rows=range_rows, pool_rows=pool_rows)

    plain = LocalEngine(one_file, threads=1).execute(PLAN)
    answer = engine.execute(PLAN)

    assert bytes_of(answer) == bytes_of(plain)
    for name, expected in reference.execute(table, PLAN, AS_OF_US).items():
        assert_close(answer.experiments[name], expected)


@given(layout=layouts(), range_rows=st.sampled_from([1, 10, 100]))
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_iceberg_files_give_the_same_bytes_as_memory(
    world: Any, tmp_path_factory: pytest.TempPathFactory, layout: Layout, range_rows: int
) -> None:
    table = world.table(layout.rows)
    files = files_of(table, layout)
    folder: Path = tmp_path_factory.mktemp("lake")
    iceberg = world.fill(IcebergLake(folder, clock=ManualClock()), files, as_of_us=AS_OF_US)
    memory = world.fill(MemoryLake(), [(table, 0)], as_of_us=AS_OF_US)

    on_disk = LocalEngine(iceberg, threads=2, range_rows=range_rows).execute(PLAN)

    assert bytes_of(on_disk) == bytes_of(LocalEngine(memory).execute(PLAN))


@pytest.fixture(scope="module")
def purchases() -> list[tuple[str, str, int, list[tuple[int, float]]]]:
    """Return people: id, variant, exposure, purchases. Many to a leaf and skewed: every formula has work to do."""
    rng = np.random.default_rng(11)
    return [
        (
            f"u{user}",
            "control" if user % 2 else "treatment",
            int(rng.integers(0, 400)),
            [(int(rng.integers(0, 900)), float(rng.gamma(2.0, 7.0))) for _ in range(int(rng.integers(0, 5)))],
        )
        for user in range(6_000)
    ]


@pytest.fixture
def large(world: Any, purchases: list[Any]) -> MemoryLake:
    rows: list[Any] = []
    for user, variant, exposed, bought in purchases:
        rows.append(world.exposure(user, variant, exposed))
        rows += [world.purchase(user, ts, price) for ts, price in bought]
    return world.fill(MemoryLake(), [(world.table(rows), 0)])


@pytest.mark.parametrize(("threads", "range_rows"), [(1, 100), (2, 500), (5, 2_000), (2, 9_000)])
def test_threads_and_ranges_change_no_bit_of_a_large_world(
    world: Any, large: MemoryLake, threads: int, range_rows: int
) -> None:
    plan = Plan((world.plan(world.REVENUE, world.ORDER_VALUE, world.BUYERS),))

    alone = LocalEngine(large, threads=1, range_rows=10**9).execute(plan)
    together = LocalEngine(large, threads=threads, range_rows=range_rows, pool_rows=5_000).execute(plan)

    assert bytes_of(together) == bytes_of(alone)


def test_all_four_moments_of_a_large_world_are_those_of_its_values(
    world: Any, large: MemoryLake, purchases: list[Any]
) -> None:
    plan = world.plan(world.REVENUE, world.ORDER_VALUE, world.BUYERS)
    values: dict[str, list[tuple[float, float]]] = {"control": [], "treatment": []}
    for _, variant, exposed, bought in purchases:
        counting = [price for ts, price in bought if ts >= exposed]
        values[variant].append((sum(counting), float(len(counting))))

    found = LocalEngine(large).execute(Plan((plan,))).experiments["exp"]

    for variant, pairs in values.items():
        expected = Moments.of(pairs)
        for mine in (found.moments["order_value"][variant], found.moments["revenue"][variant]):
            width = mine.k
            assert mine.count == expected.count
            np.testing.assert_allclose(mine.mean, expected.mean[:width], rtol=1e-13)
            np.testing.assert_allclose(mine.m2, expected.m2[:width, :width], rtol=1e-12)
            np.testing.assert_allclose(mine.m3, expected.m3[:width], rtol=1e-12)
            np.testing.assert_allclose(mine.m4, expected.m4[:width], rtol=1e-12)


@pytest.mark.parametrize(("rows_max", "repeats_removed"), [(1_000, False), (100_000, True)])
def test_compaction_changes_no_bit(
    world: Any,
    purchases: list[Any],
    rows_max: int,
    repeats_removed: bool,  # noqa: FBT001
) -> None:
    lake = MemoryLake()
    for part in range(4):  # every event comes in two of the four files
        rows: list[Any] = []
        for number, (user, variant, exposed, bought) in enumerate(purchases[:600]):
            if number % 4 in {part, (part + 1) % 4}:
                rows.append(world.exposure(user, variant, exposed, event_id=f"{user}-x"))
                rows += [
                    world.purchase(user, ts, price, event_id=f"{user}-{at}") for at, (ts, price) in enumerate(bought)
                ]
        world.fill(lake, [(world.table(rows), 0)])
    engine = LocalEngine(lake, range_rows=500)
    plan = Plan((world.plan(world.REVENUE, world.ORDER_VALUE, world.BUYERS),))

    before = engine.execute(plan)
    report = compact(lake, clock=ManualClock(), rows_max=rows_max, file_rows=300)
    after = engine.execute(plan)

    assert (report.duplicates > 600) == repeats_removed  # across runs they stay, and are counted once all the same
    assert after.snapshot_id > before.snapshot_id
    assert bytes_of(after) == bytes_of(before)
