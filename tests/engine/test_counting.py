"""Each rule of counting, by hand."""

from __future__ import annotations

from typing import Any


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
