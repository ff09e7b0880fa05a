"""Geometry of interval plots: values to shares of a width, so that a plot is sharp and fits at every size.

Invariants
    every interval of a plot is drawn on one axis that holds zero
    what lies outside the axis is drawn to its edge and marked as cut, never squeezed in or left out
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, floor, inf
from statistics import median
from typing import Final, NamedTuple

from groundswell.web.text import magnitude

__all__ = ["Axis", "Bar", "Tick", "interval_axis", "nice_step", "polyline"]

_CUT_RATIO: Final = 4.0  # an interval this many times wider than the middle one is cut: it would flatten all others
_DRAWN_MAX: Final = 1e100  # no rate is larger; the axis's own arithmetic stays far from overflow
_MARGIN: Final = 0.06  # of the width, on either side


class Tick(NamedTuple):
    """A mark on the axis: its value and its place in per cent of the width."""

    value: float
    at: float


class Bar(NamedTuple):
    """An interval in per cent of the width; ``cut_low`` and ``cut_high`` say where it goes on outside."""

    low: float
    high: float
    cut_low: bool
    cut_high: bool

    @property
    def width(self) -> float:
        return round(self.high - self.low, 3)


class Axis(NamedTuple):
    """A linear axis from ``low`` to ``high``, which are unequal."""

    low: float
    high: float
    ticks: tuple[Tick, ...]

    def at(self, value: float) -> float:
        """Return where ``value`` lies, in per cent of the width."""
        return round(100 * (value - self.low) / (self.high - self.low), 3)

    @property
    def zero(self) -> float:
        return self.at(0.0)

    def bar(self, low: float | None, high: float | None) -> Bar | None:
        """Return an interval's place; an unbounded side reaches the edge, None where neither side is known."""
        if low is None and high is None:
            return None
        lowest = -inf if low is None else low
        highest = inf if high is None else high
        clip = (max(lowest, self.low), min(highest, self.high))
        begin, end = (min(max(self.at(edge), 0.0), 100.0) for edge in clip)
        return Bar(min(begin, end), max(begin, end), lowest < self.low, highest > self.high)

    def point(self, value: float | None) -> float | None:
        """Return where an estimate is drawn; None where it is unknown or outside."""
        return self.at(value) if value is not None and self.low <= value <= self.high else None


def interval_axis(intervals: Sequence[tuple[float | None, float | None]], *, ticks_max: int = 7) -> Axis | None:
    """Return an axis for ``intervals`` with about ``ticks_max`` ticks, or None where there is nothing to draw."""
    known = [(low, high) for low, high in intervals if low is not None and high is not None]
    known = [(low, high) for low, high in known if max(abs(low), abs(high)) < _DRAWN_MAX]
    if not known:
        return None
    reach = [max(abs(low), abs(high)) for low, high in known]
    bound = max(reach)
    middle = median(reach)
    if middle > 0 and bound > _CUT_RATIO * middle:
        bound = _CUT_RATIO * middle
    low = max(min(0.0, *(low for low, _ in known)), -bound)
    high = min(max(0.0, *(high for _, high in known)), bound)
    if high - low < 1 / _DRAWN_MAX:
        low, high = -1.0, 1.0
    margin = _MARGIN * (high - low)
    low, high = low - margin, high + margin
    step = nice_step((high - low) / ticks_max)
    bare = Axis(low, high, ())
    marks = (place * step for place in range(ceil(low / step), floor(high / step) + 1))
    return Axis(low, high, tuple(Tick(value, bare.at(value)) for value in marks))


def nice_step(least: float) -> float:
    """Return the first of 1, 2, 2.5, 5 times a power of ten that is at least ``least`` > 0.

    >>> nice_step(0.013), nice_step(3.0), nice_step(0.7)
    (0.02, 5.0, 1.0)
    """
    power = 10.0 ** magnitude(least)
    return next(
        float(f"{step * power:.12g}") for step in (1.0, 2.0, 2.5, 5.0, 10.0) if step * power >= least * 0.999999
    )


def polyline(values: Sequence[float], top: float, *, width: int = 1000, height: int = 100) -> str:
    """Return SVG points for ``values`` from left to right, 0 at the bottom and ``top`` > 0 at the top of the box."""
    if not values:
        return ""
    step = width / max(1, len(values) - 1)
    return " ".join(f"{place * step:.1f},{height * (1 - value / top):.1f}" for place, value in enumerate(values))
