"""Each rule of counting, by hand."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from groundswell.engine.local import LocalEngine
from groundswell.errors import Corrupt, InvalidInput, NotComputable, SnapshotGone
from groundswell.model.plan import MetricPlan, Plan, Term
from groundswell.testing.lake import MemoryLake


def test_a_unit_is_counted_in_the_variant_it_saw(world: Any) -> None:
    rows = [
        world.exposure("a", "control", 10),
        world.exposure("b", "treatment", 20),
        world.exposure("c", "control", 30),
    ]

    result = world.count(rows, world.plan(world.BUYERS))

    assert result.units == {"control": 2, "treatment": 1}
    assert result.excluded == {"two_variants": 0, "unknown_variant": 0, "no_unit": 0}


def test_events_before_the_exposure_do_not_count_and_those_at_its_moment_do(world: Any) -> None:
    rows = [
        world.exposure("a", "control", 10),
        world.purchase("a", 9, 100.0),
        world.purchase("a", 10, 20.0),
        world.purchase("a", 11, 3.0),
    ]

    result = world.count(rows, world.plan(world.REVENUE))

    assert result.moments["revenue"]["control"].mean[0] == 23.0


def test_the_first_exposure_is_the_one_with_the_least_ts_whatever_arrived_first(world: Any) -> None:
    rows = [
        world.exposure("a", "control", 50, received_at=50),
        world.exposure("a", "control", 10, received_at=90),
        world.purchase("a", 20, 7.0),
    ]

    result = world.count(rows, world.plan(world.REVENUE))

    assert result.moments["revenue"]["control"].mean[0] == 7.0
    assert result.units["control"] == 1


def test_exposures_count_from_the_start_of_the_run_and_not_at_its_end(world: Any) -> None:
    rows = [world.exposure(user, "control", ts) for user, ts in (("a", 99), ("b", 100), ("c", 499), ("d", 500))]

    result = world.count(rows, world.plan(start_us=100))

    assert result.units["control"] == 2


def test_events_after_the_end_of_the_run_still_count(world: Any) -> None:
    rows = [world.exposure("a", "control", 10), world.purchase("a", 900, 5.0)]

    result = world.count(rows, world.plan(world.REVENUE))

    assert result.moments["revenue"]["control"].mean[0] == 5.0


def test_what_lies_after_as_of_does_not_count(world: Any) -> None:
    rows = [
        world.exposure("a", "control", 10),
        world.purchase("a", 300, 1.0),
        world.purchase("a", 301, 10.0),
        world.exposure("b", "control", 301),
    ]

    result = world.count(rows, world.plan(world.REVENUE), as_of_us=300)

    assert result.units["control"] == 1
    assert result.moments["revenue"]["control"].mean[0] == 1.0


def test_a_unit_that_saw_two_variants_is_excluded_and_shown_under_its_first(world: Any) -> None:
    rows = [world.exposure("a", "treatment", 20), world.exposure("a", "control", 10), world.exposure("b", "control", 5)]

    result = world.count(rows, world.plan(world.BUYERS))

    assert result.units == {"control": 1, "treatment": 0}
    assert result.excluded["two_variants"] == 1
    assert result.units_before_exclusion == {"control": 2, "treatment": 0}


def test_a_second_variant_outside_the_run_excludes_nobody(world: Any) -> None:
    rows = [world.exposure("a", "control", 10), world.exposure("a", "treatment", 500)]

    result = world.count(rows, world.plan())

    assert result.units == {"control": 1, "treatment": 0}


def test_a_variant_that_the_experiment_has_not_excludes_its_unit(world: Any) -> None:
    rows = [
        world.exposure("a", "gone", 10),
        world.exposure("b", "control", 10),
        world.exposure("b", "gone", 20),
        world.exposure("c", None, 10),
    ]

    result = world.count(rows, world.plan())

    assert result.units == {"control": 0, "treatment": 0}
    assert result.excluded == {"two_variants": 0, "unknown_variant": 3, "no_unit": 0}
    assert result.units_before_exclusion == {"control": 1, "treatment": 0}


def test_exposures_that_lack_the_unit_are_counted_once_each_and_shown(world: Any) -> None:
    rows = [
        world.exposure(None, "control", 10, anonymous_id="a", event_id="one"),
        world.exposure(None, "control", 10, anonymous_id="a", event_id="one"),
        world.exposure(None, "control", 20, event_id="two"),
        world.exposure(None, "control", 20, event_id="two"),
        world.exposure("u", "control", 20),
    ]

    result = world.count(rows, world.plan())

    assert result.units["control"] == 1
    assert result.excluded["no_unit"] == 2


def test_a_window_counts_up_to_its_end_and_only_units_whose_window_has_closed(world: Any) -> None:
    metric = MetricPlan("soon", (Term("purchase", "sum", "revenue"),), window_us=100)
    rows = [
        world.exposure("a", "control", 10),
        world.purchase("a", 109, 1.0),
        world.purchase("a", 110, 50.0),
        world.exposure("b", "control", 400),
        world.purchase("b", 450, 9.0),
        world.exposure("c", "control", 401),
        world.purchase("c", 450, 9.0),
    ]

    result = world.count(rows, world.plan(metric), as_of_us=500)

    moments = result.moments["soon"]["control"]
    assert result.units["control"] == 3
    assert moments.count == 2
    assert moments.mean[0] == 5.0


def test_a_retried_event_is_counted_once_and_the_first_received_stays(world: Any) -> None:
    rows = [
        world.exposure("a", "control", 10),
        world.purchase("a", 20, 1.0, event_id="p", received_at=22),
        world.purchase("a", 20, 2.0, event_id="p", received_at=21),
        world.purchase("a", 20, 4.0, event_id="p", received_at=23),
    ]

    result = world.count(rows, world.plan(world.REVENUE, world.PURCHASES))

    assert result.moments["revenue"]["control"].mean[0] == 2.0
    assert result.moments["purchases"]["control"].mean[0] == 1.0


@pytest.mark.parametrize("turned", [False, True])
def test_of_rows_received_together_the_least_content_hash_stays_whatever_their_order(world: Any, turned: bool) -> None:  # noqa: FBT001
    twice = [
        world.purchase("a", 20, 1.0, event_id="p", content_hash=7),
        world.purchase("a", 20, 2.0, event_id="p", content_hash=-7),
    ]
    rows = [world.exposure("a", "control", 10), *(reversed(twice) if turned else twice)]

    result = world.count(rows, world.plan(world.REVENUE))

    assert result.moments["revenue"]["control"].mean[0] == 2.0


@pytest.mark.parametrize("turned", [False, True])
def test_of_exposures_at_one_moment_the_least_event_hash_is_the_first(world: Any, turned: bool) -> None:  # noqa: FBT001
    tied = [
        world.exposure("a", "control", 10, event_hash=5),
        world.exposure("a", "treatment", 10, event_hash=-5),
    ]

    result = world.count(list(reversed(tied)) if turned else tied, world.plan())

    assert result.units_before_exclusion == {"control": 0, "treatment": 1}
    assert result.excluded["two_variants"] == 1


def test_events_of_one_moment_are_summed_in_one_order_however_they_lie(world: Any) -> None:
    prices = {1: 1e16, 2: 1.0, 3: -1e16, 4: 1.0}  # sums that depend on their order
    sums: set[float] = set()
    for order in itertools.permutations(prices):
        rows = [world.exposure("a", "control", 10)]
        rows += [world.purchase("a", 20, prices[number], event_hash=number) for number in order]
        sums.add(float(world.count(rows, world.plan(world.REVENUE)).moments["revenue"]["control"].mean[0]))

    assert sums == {((1.0 - 1e16) + 1.0) + 1e16}


def test_the_same_event_id_of_two_units_is_two_events(world: Any) -> None:
    rows = [world.exposure(user, "control", 10) for user in "ab"]
    rows += [world.purchase(user, 20, 1.0, event_id="p") for user in "ab"]

    result = world.count(rows, world.plan(world.PURCHASES))

    assert result.moments["purchases"]["control"].mean[0] == 1.0


def test_a_missing_value_adds_nothing_to_a_sum_and_is_no_event_for_a_count_of_it(world: Any) -> None:
    counted = MetricPlan("priced", (Term("purchase", "count", "revenue"),))
    rows = [world.exposure("a", "control", 10), world.purchase("a", 20, None), world.purchase("a", 30, 8.0)]

    result = world.count(rows, world.plan(world.REVENUE, world.PURCHASES, counted))

    means = {name: by_variant["control"].mean[0] for name, by_variant in result.moments.items()}
    assert means == {"revenue": 8.0, "purchases": 2.0, "priced": 1.0}


def test_units_without_an_event_are_zeros(world: Any) -> None:
    rows = [world.exposure(f"u{number}", "control", 10) for number in range(4)] + [world.purchase("u0", 20, 8.0)]

    result = world.count(rows, world.plan(world.REVENUE, world.BUYERS))

    revenue, buyers = (result.moments[name]["control"] for name in ("revenue", "buyers"))
    assert (revenue.count, revenue.mean[0], revenue.covariance()[0, 0]) == (4, 2.0, 16.0)
    assert (buyers.count, buyers.mean[0], buyers.covariance()[0, 0]) == (4, 0.25, 0.25)


def test_a_ratio_keeps_what_numerator_and_denominator_share(world: Any) -> None:
    rows = [world.exposure(user, "control", 10) for user in "abc"]
    rows += [world.purchase("a", 20, 6.0), world.purchase("a", 21, 3.0), world.purchase("b", 20, 3.0)]

    moments = world.count(rows, world.plan(world.ORDER_VALUE)).moments["order_value"]["control"]

    assert moments.count == 3
    np.testing.assert_allclose(moments.mean, [4.0, 1.0])
    np.testing.assert_allclose(moments.covariance(), np.cov([[9.0, 3.0, 0.0], [2.0, 1.0, 0.0]]))


def test_an_experiment_on_devices_counts_devices_across_users(world: Any) -> None:
    rows = [
        world.exposure("a", "control", 10, device_id="phone"),
        world.purchase("b", 20, 2.0, device_id="phone"),
        world.purchase(None, 30, 3.0, device_id="phone"),
        world.exposure("c", "treatment", 10),
        world.exposure(None, "treatment", 10, device_id="tablet"),
    ]

    result = world.count(rows, world.plan(world.REVENUE, unit="device_id"))

    assert result.units == {"control": 1, "treatment": 1}
    assert result.excluded["no_unit"] == 1
    assert result.moments["revenue"]["control"].mean[0] == 5.0


def test_equal_ids_of_different_kinds_are_different_units(world: Any) -> None:
    rows = [
        world.exposure("7", "control", 10),
        world.exposure(None, "treatment", 10, anonymous_id="7"),
        world.purchase(None, 20, 5.0, anonymous_id="7"),
    ]

    result = world.count(rows, world.plan(world.REVENUE))

    assert result.units == {"control": 1, "treatment": 0}
    assert result.excluded["no_unit"] == 1
    assert result.moments["revenue"]["control"].mean[0] == 0.0


def test_an_exposure_can_itself_be_counted(world: Any) -> None:
    seen = MetricPlan("seen", (Term("exposure", "count"),))
    rows = [world.exposure("a", "control", ts) for ts in (10, 20, 30)]

    result = world.count(rows, world.plan(seen))

    assert result.moments["seen"]["control"].mean[0] == 3.0


def test_an_empty_portfolio_is_an_empty_answer(world: Any) -> None:
    lake = world.fill(MemoryLake(), [(world.table([world.exposure("a", "control", 1)]), 0)])

    answer = LocalEngine(lake).execute(Plan(()))

    assert answer.experiments == {}
    assert answer.as_of_us == 1_000


def test_an_experiment_nobody_entered_has_empty_moments(world: Any) -> None:
    result = world.count([world.purchase("a", 1, 2.0)], world.plan(world.REVENUE, world.ORDER_VALUE, world.BUYERS))

    assert result.units == {"control": 0, "treatment": 0}
    assert {moments.count for by_variant in result.moments.values() for moments in by_variant.values()} == {0}


def test_far_from_zero_no_moment_loses_its_digits(world: Any) -> None:
    rows = [world.exposure(f"u{number}", "control", 1) for number in range(3)]
    rows += [world.purchase(f"u{number}", 2, 1e9 + number) for number in range(3)]

    moments = world.count(rows, world.plan(world.REVENUE)).moments["revenue"]["control"]

    assert (moments.mean[0], moments.m2[0, 0], moments.m3[0], moments.m4[0]) == (1e9 + 1, 2.0, 0.0, 2.0)


def test_sums_beyond_a_float_are_not_finite_rather_than_wrong(world: Any) -> None:
    rows = [world.exposure("a", "control", 1), world.exposure("b", "control", 1)]
    rows += [world.purchase("a", 2, 1e308), world.purchase("a", 3, 1e308)]

    moments = world.count(rows, world.plan(world.REVENUE)).moments["revenue"]["control"]

    assert moments.count == 2
    assert not np.isfinite(moments.mean[0])


def test_without_a_commit_or_a_watermark_there_is_no_as_of(world: Any) -> None:
    rows = world.table([world.exposure("a", "control", 1)])
    unmarked = world.fill(MemoryLake(), [(rows, 0)], as_of_us=None)

    with pytest.raises(NotComputable, match="empty"):
        LocalEngine(MemoryLake()).execute(Plan(()))
    with pytest.raises(NotComputable, match="watermark"):
        LocalEngine(unmarked).execute(Plan(()))

    asked = LocalEngine(unmarked).execute(Plan((world.plan(),), as_of_us=5))
    assert asked.experiments["exp"].units["control"] == 1


def test_a_snapshot_that_is_gone_is_said_to_be_gone(world: Any) -> None:
    lake = world.fill(MemoryLake(), [(world.table([world.exposure("a", "control", 1)]), 0)])

    with pytest.raises(SnapshotGone):
        LocalEngine(lake).execute(Plan(()), snapshot_id=99)


def test_an_old_snapshot_is_counted_as_it_was(world: Any) -> None:
    lake = world.fill(MemoryLake(), [(world.table([world.exposure("a", "control", 1)]), 0)])
    before = lake.current().snapshot_id
    world.fill(lake, [(world.table([world.exposure("b", "control", 1)]), 0)])
    plan = Plan((world.plan(),))

    then, now = LocalEngine(lake).execute(plan, before), LocalEngine(lake).execute(plan)

    assert then.experiments["exp"].units["control"] == 1
    assert now.experiments["exp"].units["control"] == 2


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"variants": ()}, "variants of experiment exp"),
        ({"variants": ("a", "a")}, "variants of experiment exp"),
        ({"metrics": (MetricPlan("m", ()),)}, "terms of metric m"),
        ({"metrics": (MetricPlan("m", (Term("buy", "sum"),)),)}, "value of metric m"),
        ({"metrics": (MetricPlan("m", (Term("buy", "any"),), window_us=0),)}, "window_us of metric m"),
        ({"metrics": (MetricPlan("m", (Term("buy", "any"),)),) * 2}, "metrics of experiment exp"),
        ({"metrics": (MetricPlan("m", (Term("buy", "sum", "coupon"),)),)}, "type of value coupon"),
        ({"metrics": (MetricPlan("m", (Term("buy", "sum", "unheard"),)),)}, "column"),
        ({"unit": "household"}, "unit of experiment exp"),
    ],
)
def test_a_plan_that_contradicts_itself_or_the_lake_is_refused(world: Any, change: dict[str, Any], named: str) -> None:
    rows = [world.exposure("a", "control", 10), world.purchase("a", 20, 1.0)]

    with pytest.raises(InvalidInput, match=named):
        world.count(rows, world.plan(**change))


def test_two_experiments_of_one_name_and_settings_below_one_are_refused(world: Any) -> None:
    lake = world.fill(MemoryLake(), [(world.table([world.exposure("a", "control", 1)]), 0)])

    with pytest.raises(InvalidInput, match="experiments of the plan"):
        LocalEngine(lake).execute(Plan((world.plan(), world.plan())))
    for setting in ("threads", "range_rows", "pool_rows"):
        with pytest.raises(InvalidInput, match=setting):
            LocalEngine(lake, **{setting: 0})


def test_a_row_without_an_identity_is_corruption_not_a_number(world: Any) -> None:
    table = world.table([world.exposure("a", "control", 1)])
    broken = table.set_column(table.schema.get_field_index("event_hash"), "event_hash", pa.nulls(1, pa.int64()))
    lake = world.fill(MemoryLake(), [(broken, 0)])

    with pytest.raises(Corrupt, match="event_hash"):
        LocalEngine(lake).execute(Plan((world.plan(),)))
