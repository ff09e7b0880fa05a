"""A plan, checked and laid out as the arrays that the kernels read; one program for each kind of unit.

Names are numbers from here on: event types, experiments, variants, values, terms. What an experiment counts begins at
its ``Extent``; a variant takes the room that its recipe says.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from groundswell import limits
from groundswell.engine import kernels as k
from groundswell.engine.recipes import Extent, Group, Place, Recipe, recipe_of
from groundswell.errors import InvalidInput
from groundswell.model.clock import US_PER_S
from groundswell.model.definitions import EXPOSURE, UNIT_KINDS
from groundswell.model.plan import ExperimentPlan, MetricPlan, Plan, Term

__all__ = ["Program", "check_plan", "programs"]

Ints = NDArray[np.int64]

_FOREVER: Final = 2**63 - 1
_KINDS: Final = {"sum": k.KIND_SUM, "count": k.KIND_COUNT, "any": k.KIND_ANY}


@dataclass(frozen=True, slots=True)
class Program:
    """Experiments on one kind of unit, as arrays."""

    unit: int
    experiments: tuple[ExperimentPlan, ...]
    recipes: tuple[Recipe, ...]  # by experiment
    begins: tuple[Extent, ...]  # by experiment
    arms: tuple[int, ...]  # by experiment: where its variants begin among all
    extent: Extent  # of everything
    event_codes: dict[str, int]
    experiment_codes: dict[str, int]
    variant_codes: dict[str, int]
    value_codes: dict[str, int]
    summed: frozenset[str]  # values of which a sum is asked
    numbers_max: int  # of a group
    tables: tuple[Any, ...]  # in the order in which the sweep takes them

    @property
    def arms_count(self) -> int:
        """How many variants all experiments have."""
        return self.arms[-1] + len(self.experiments[-1].variants)

    @property
    def arm_of(self) -> Ints:
        """(experiment, variant code) -> its number within the experiment, or -2."""
        return self.tables[6]

    @property
    def pairs(self) -> Ints:
        """The table of pairs: two slots of a group each."""
        return self.tables[5]

    def spot(self, e: int, v: int, metric: str) -> tuple[Place, Extent]:
        """Return a metric's place in its group, and where that group begins for variant ``v`` of experiment ``e``."""
        recipe = self.recipes[e]
        place = recipe.places[metric]
        return place, self.begins[e].after(recipe.room, v).after(recipe.groups[place.group].at)


def check_plan(plan: Plan) -> None:
    """Raise :class:`InvalidInput` where ``plan`` contradicts itself."""
    _all_different("experiments of the plan", [experiment.name for experiment in plan.experiments])
    for experiment in plan.experiments:
        of = f"of experiment {experiment.name}"
        if not experiment.variants:
            raise InvalidInput(f"variants {of}", (), "must name at least one")
        _all_different(f"variants {of}", experiment.variants)
        _all_different(f"metrics {of}", [metric.name for metric in experiment.metrics])
        if experiment.unit not in UNIT_KINDS:
            raise InvalidInput(f"unit {of}", experiment.unit, f"must be one of {', '.join(UNIT_KINDS)}")
        for metric in experiment.metrics:
            _check_metric(metric, of)


def _check_metric(metric: MetricPlan, of: str) -> None:
    if len(metric.terms) not in {1, 2}:
        raise InvalidInput(f"terms of metric {metric.name} {of}", len(metric.terms), "must be one or two")
    longest_us = limits.metric_window_s_max * US_PER_S
    if metric.window_us is not None and not 0 < metric.window_us <= longest_us:
        raise InvalidInput(f"window_us of metric {metric.name} {of}", metric.window_us, f"must be in 1 to {longest_us}")
    for term in metric.terms:
        if term.kind == "sum" and term.value is None:
            raise InvalidInput(f"value of metric {metric.name} {of}", None, "must be given for a sum")


def _all_different(name: str, values: Sequence[str]) -> None:
    twice = [value for value, times in Counter(values).items() if times > 1]
    if twice:
        raise InvalidInput(name, twice[0], "must be named once")


def programs(plan: Plan) -> list[Program]:
    """Return a program for each kind of unit that ``plan`` uses, in the order of ``UNIT_KINDS``.

    Raises:
        InvalidInput: ``plan`` contradicts itself.
    """
    check_plan(plan)
    by_unit = [tuple(one for one in plan.experiments if one.unit == unit) for unit in UNIT_KINDS]
    return [_program(unit, chosen) for unit, chosen in enumerate(by_unit) if chosen]


def _program(unit: int, experiments: tuple[ExperimentPlan, ...]) -> Program:
    distinct = {metrics: recipe_of(metrics) for metrics in dict.fromkeys(one.metrics for one in experiments)}
    numbers = {metrics: number for number, metrics in enumerate(distinct)}
    terms = dict.fromkeys(term for metrics in distinct for metric in metrics for term in metric.terms)
    events = _numbered([EXPOSURE, *(term.event for term in terms)])
    values = _numbered(term.value for term in terms if term.value is not None)
    variants = _numbered(variant for one in experiments for variant in one.variants)
    rows: list[list[int]] = []
    begins: list[Extent] = []
    arms: list[int] = []
    begin, arm = Extent(), 0
    for one in experiments:
        begins.append(begin)
        arms.append(arm)
        end = _FOREVER if one.end_us is None else one.end_us
        rows.append([one.start_us, end, numbers[one.metrics], arm, begin.closed, begin.floats, begin.shares])
        arm += len(one.variants)
        begin = begin.after(distinct[one.metrics].room, len(one.variants))
    wanted = np.zeros(len(events), np.int8)
    wanted[[events[term.event] for term in terms]] = 1
    return Program(
        unit=unit,
        experiments=experiments,
        recipes=tuple(distinct[one.metrics] for one in experiments),
        begins=tuple(begins),
        arms=tuple(arms),
        extent=begin,
        event_codes=events,
        experiment_codes=_numbered(one.name for one in experiments),
        variant_codes=variants,
        value_codes=values,
        summed=frozenset(term.value for term in terms if term.kind == "sum" and term.value is not None),
        tables=(
            _table(rows, k.E_WIDTH),
            *_recipe_tables(list(distinct.values()), events, values),
            _arms_of(experiments, variants),
            wanted,
        ),
        numbers_max=max((group.out_width for recipe in distinct.values() for group in recipe.groups), default=0),
    )


def _recipe_tables(recipes: list[Recipe], events: dict[str, int], values: dict[str, int]) -> tuple[Ints, ...]:
    """Return recipes, groups, where each group's terms of an event type begin, the terms, and the pairs."""
    recipe_rows: list[list[int]] = []
    group_rows: list[list[int]] = []
    term_starts: list[list[int]] = []
    term_rows: list[list[int]] = []
    pair_rows: list[list[int]] = []
    for recipe in recipes:
        first = len(group_rows)
        unbounded = [first + number for number, group in enumerate(recipe.groups) if group.window == 0]
        room = recipe.room
        recipe_rows.append(
            [first, first + len(recipe.groups), *(unbounded or [-1]), room.closed, room.floats, room.shares]
        )
        for group, out in zip(recipe.groups, recipe.out_starts, strict=False):
            pairs = len(pair_rows), len(pair_rows) + len(group.pairs)
            pair_rows += [[a, b] for a, b in group.pairs]
            at = group.at
            group_rows.append(
                [group.window, len(group.numbers), len(group.shares), *pairs, at.closed, at.floats, at.shares, out]
            )
            term_starts.append(_add_terms(term_rows, group, events, values))
    return (
        _table(recipe_rows, k.R_WIDTH),
        _table(group_rows, k.G_WIDTH),
        _table(term_starts, len(events) + 1),
        _table(term_rows, k.T_WIDTH),
        _table(pair_rows, 2),
    )


def _add_terms(rows: list[list[int]], group: Group, events: dict[str, int], values: dict[str, int]) -> list[int]:
    """Append a group's terms by event type; return where those of each type begin, and the end."""
    after = len(group.numbers)  # a unit's numbers come first, then its shares
    slots = (*group.numbers.items(), *((term, after + slot) for term, slot in group.shares.items()))
    starts: list[int] = []
    for event in events:
        starts.append(len(rows))
        rows += [_term_row(term, slot, values) for term, slot in slots if term.event == event]
    return [*starts, len(rows)]


def _term_row(term: Term, slot: int, values: dict[str, int]) -> list[int]:
    return [slot, -1 if term.value is None else values[term.value], _KINDS[term.kind]]


def _arms_of(experiments: Sequence[ExperimentPlan], variants: dict[str, int]) -> Ints:
    """Return (experiment, variant code) -> its number within the experiment, or -2."""
    arms = np.full((len(experiments), len(variants)), -2, np.int64)
    for e, experiment in enumerate(experiments):
        for v, variant in enumerate(experiment.variants):
            arms[e, variants[variant]] = v
    return arms


def _numbered(names: Iterable[str]) -> dict[str, int]:
    return {name: number for number, name in enumerate(dict.fromkeys(names))}


def _table(rows: Sequence[Sequence[int]], width: int) -> Ints:
    return np.array(rows, np.int64).reshape(len(rows), width)
