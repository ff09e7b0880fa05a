"""How the numbers of one list of metrics lie in memory. Experiments that ask for the same metrics share a recipe.

Invariants
    metrics with the same window are one group: a unit is placed in time once for all of them
    a term that several metrics of a group share is one number
    a share (of units with any event) is counted in whole numbers; everything else is an accumulator's number
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from groundswell.engine.kernels import row_width
from groundswell.model.plan import MetricPlan, Term

__all__ = ["Extent", "Group", "Place", "Recipe", "recipe_of"]


class Extent(NamedTuple):
    """How much room something takes, or where it begins, in each of the arrays that a sweep fills."""

    closed: int = 0  # counters of units whose window has closed: one a group
    shares: int = 0  # counters of units with any event
    floats: int = 0  # of accumulators
    rows: int = 0  # accumulators: one a group that has numbers
    numbers: int = 0
    pairs: int = 0

    def after(self, room: Extent, times: int = 1) -> Extent:
        """Return where the next begins, after ``times`` such rooms."""
        return Extent(*(begin + size * times for begin, size in zip(self, room, strict=True)))


class Place(NamedTuple):
    """Where a metric stands in its group: one share, one number, or two numbers and their pair."""

    group: int
    slots: tuple[int, ...]
    pair: int | None = None
    is_share: bool = False


@dataclass(frozen=True, slots=True)
class Group:
    """Terms with one window (0: none). Slots count from 0; ``at`` is relative to a variant's block."""

    window: int
    numbers: dict[Term, int]
    shares: dict[Term, int]
    pairs: dict[tuple[int, int], int]
    at: Extent

    @property
    def room(self) -> Extent:
        numbers, pairs = len(self.numbers), len(self.pairs)
        floats = row_width(numbers, pairs) if numbers else 0
        return Extent(1, len(self.shares), floats, int(numbers > 0), numbers, pairs)

    @property
    def out_width(self) -> int:
        return len(self.numbers) + len(self.shares)


@dataclass(frozen=True, slots=True)
class Recipe:
    """The groups of a list of metrics, the place of each metric, and the room that one variant takes."""

    groups: tuple[Group, ...]
    places: dict[str, Place]
    room: Extent

    @property
    def out_starts(self) -> tuple[int, ...]:
        """Where each group's slots begin in a row of a unit table; the last is the width of that row."""
        starts = [0]
        for group in self.groups:
            starts.append(starts[-1] + group.out_width)
        return tuple(starts)


def recipe_of(metrics: Sequence[MetricPlan]) -> Recipe:
    """Return the recipe of ``metrics``."""
    windows = dict.fromkeys(metric.window_us or 0 for metric in metrics)
    groups: list[Group] = []
    places: dict[str, Place] = {}
    at = Extent()
    for number, window in enumerate(windows):
        members = [metric for metric in metrics if (metric.window_us or 0) == window]
        group = _group(window, members, at)
        groups.append(group)
        places |= {metric.name: _place(number, group, metric) for metric in members}
        at = at.after(group.room)
    return Recipe(tuple(groups), {metric.name: places[metric.name] for metric in metrics}, at)


def _is_share(metric: MetricPlan) -> bool:
    return len(metric.terms) == 1 and metric.terms[0].kind == "any"


def _group(window: int, metrics: Sequence[MetricPlan], at: Extent) -> Group:
    terms = dict.fromkeys(term for metric in metrics if not _is_share(metric) for term in metric.terms)
    numbers = {term: slot for slot, term in enumerate(terms)}
    shared = dict.fromkeys(metric.terms[0] for metric in metrics if _is_share(metric))
    shares = {term: slot for slot, term in enumerate(shared)}
    pairs = dict.fromkeys(_slots(numbers, metric) for metric in metrics if len(metric.terms) == 2)
    return Group(window, numbers, shares, {(a, b): number for number, (a, b) in enumerate(pairs)}, at)


def _slots(numbers: dict[Term, int], metric: MetricPlan) -> tuple[int, int]:
    return numbers[metric.terms[0]], numbers[metric.terms[1]]


def _place(number: int, group: Group, metric: MetricPlan) -> Place:
    if _is_share(metric):
        return Place(number, (group.shares[metric.terms[0]],), is_share=True)
    if len(metric.terms) == 1:
        return Place(number, (group.numbers[metric.terms[0]],))
    slots = _slots(group.numbers, metric)
    return Place(number, slots, group.pairs[slots])
