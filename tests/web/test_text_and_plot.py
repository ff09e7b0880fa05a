"""Numbers in words, and intervals on an axis."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from groundswell.model.clock import parse_us
from groundswell.web import text
from groundswell.web.plot import interval_axis, nice_step, polyline

_BOUND = st.none() | st.floats(allow_nan=False)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "–"),
        (0.0, "0"),
        (-0.0, "0"),
        (1.5, "1.500"),
        (-2.0, "−2.000"),
        (999.95, "1,000"),
        (0.00012345, "0.0001234"),
    ],
)
def test_a_measurement_keeps_its_significant_digits(value: float | None, shown: str):
    assert text.number(value) == shown


@given(st.floats(min_value=1e-300, max_value=1e300))
def test_a_shown_number_is_near_the_number(value: float):
    shown = float(text.number(value).replace(",", ""))

    assert shown == pytest.approx(value, rel=0.01)


@pytest.mark.parametrize(
    ("p_value", "shown"), [(0.05, "= 0.05"), (1e-4, "= 0.0001"), (9e-5, "< 0.0001"), (0.0, "< 0.0001"), (None, "–")]
)
def test_a_p_value_is_never_shown_as_zero(p_value: float | None, shown: str):
    assert text.p_value(p_value) == shown


def test_a_date_is_left_out_only_on_its_own_day():
    moment = parse_us("moment", "2026-01-17T23:59:00Z")

    assert text.moment(moment, moment) == "23:59"
    assert text.moment(moment, moment + 120_000_000) == "17 Jan 2026, 23:59"


@given(st.lists(st.tuples(_BOUND, _BOUND)))
def test_every_axis_holds_zero_and_its_ticks(intervals: list[tuple[float | None, float | None]]):
    axis = interval_axis(intervals)

    if axis is not None:
        assert axis.low < 0 < axis.high
        assert 0 < axis.zero < 100
        assert all(0 <= tick.at <= 100 for tick in axis.ticks)
        assert any(tick.value == 0 for tick in axis.ticks)
        assert len(axis.ticks) <= 24


@given(st.lists(st.tuples(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6)).map(sorted), min_size=1))
def test_every_interval_is_drawn_inside_and_says_where_it_is_cut(intervals: list[list[float]]):
    axis = interval_axis([(low, high) for low, high in intervals])

    assert axis is not None
    for low, high in intervals:
        bar = axis.bar(low, high)
        assert bar is not None
        assert 0 <= bar.low <= bar.high <= 100
        assert bar.cut_low == (low < axis.low)
        assert bar.cut_high == (high > axis.high)


def test_one_huge_interval_does_not_flatten_the_others():
    axis = interval_axis([(-0.01, 0.02), (-0.02, 0.01), (0.0, 0.03), (-90.0, 90.0)])

    assert axis is not None
    bar, huge = axis.bar(-0.01, 0.02), axis.bar(-90.0, 90.0)
    assert bar is not None
    assert huge is not None
    assert bar.width > 10
    assert huge.cut_low
    assert huge.cut_high


def test_an_unbounded_side_reaches_the_edge():
    axis = interval_axis([(-1.0, 1.0)])

    assert axis is not None
    bar = axis.bar(None, 0.5)
    assert bar is not None
    assert (bar.low, bar.cut_low, bar.cut_high) == (0.0, True, False)
    assert axis.bar(None, None) is None


@pytest.mark.parametrize("intervals", [[], [(None, None)], [(math.inf, math.inf)], [(-math.inf, 1.0)]])
def test_there_is_no_axis_where_nothing_can_be_drawn(intervals: list[tuple[float | None, float | None]]):
    assert interval_axis(intervals) is None


@given(st.floats(1e-9, 1e9))
def test_a_step_is_nice_and_just_large_enough(least: float):
    step = nice_step(least)

    assert least * 0.99 <= step <= 2.6 * least
    assert f"{step:e}"[:3] in {"1.0", "2.0", "2.5", "5.0"}


def test_points_run_from_left_to_right_and_upwards():
    assert polyline([0, 5, 10], 10.0) == "0.0,100.0 500.0,50.0 1000.0,0.0"
    assert polyline([7], 7.0) == "0.0,0.0"
    assert polyline([], 1.0) == ""
