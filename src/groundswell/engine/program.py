"""A plan, checked and laid out as the arrays that the kernels read; one program for each kind of unit.

Invariants
    names are numbers from here on: event types, experiments, variants, values, terms, cells
    a term that several metrics share is one term
    metrics of one experiment with the same window stand together: a unit is placed in time once for all of them
    cells of one experiment and variant are neighbours, since a unit adds to them together
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
from groundswell.errors import InvalidInput
from groundswell.model.clock import US_PER_S
from groundswell.model.definitions import EXPOSURE, UNIT_KINDS
from groundswell.model.plan import ExperimentPlan, MetricPlan, Plan, Term

__all__ = ["CellPlace", "Program", "check_plan", "programs"]

Ints = NDArray[np.int64]

_FOREVER: Final = 2**63 - 1
_KINDS: Final = {"sum": k.KIND_SUM, "count": k.KIND_COUNT, "any": k.KIND_ANY}


@dataclass(frozen=True, slots=True)
class CellPlace:
    """Where the numbers of one metric of one experiment stand; of variant ``v`` in ``first + v * step``."""

    mode: int
    first: int
    step: int
    closed: int  # of variant v: closed + v
    slot: int  # the first of its columns in a row of a unit table


@dataclass(frozen=True, slots=True)
class Program:
    """Experiments on one kind of unit, as arrays. ``arms[e] + v`` numbers the variants of all experiments."""

    unit: int
    experiments: tuple[ExperimentPlan, ...]
    event_codes: dict[str, int]
    experiment_codes: dict[str, int]
    variant_codes: dict[str, int]
    value_codes: dict[str, int]
    summed: frozenset[str]  # values of which a sum is asked
    places: tuple[dict[str, CellPlace], ...]  # by experiment, then metric
    experiment_table: Ints
    group_table: Ints
    group_events: Ints
    metric_table: Ints
    term_table: Ints
    arm_of: Ints  # (experiment, variant code) -> its number within the experiment, or -2
    wanted: NDArray[np.int8]  # by event code: does any term use it
    sizes: tuple[int, int, int, int, int]  # arms, closed counters, shares, accumulators of one number and of two

    def tables(self) -> tuple[NDArray[Any], ...]:
        """Return the arrays in the order in which the sweep takes them."""
        return (
            *(self.experiment_table, self.group_table, self.group_events, self.metric_table, self.term_table),
            *(self.arm_of, self.wanted),
        )


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
    return [_Layout(unit, chosen).program() for unit, chosen in enumerate(by_unit) if chosen]


class _Layout:
    """Numbers names and places cells, experiment by experiment."""

    def __init__(self, unit: int, experiments: tuple[ExperimentPlan, ...]) -> None:
        self._unit = unit
        self._experiments = experiments
        terms = list(dict.fromkeys(t for one in experiments for metric in one.metrics for t in metric.terms))
        self._terms = {term: number for number, term in enumerate(terms)}
        self._events = _numbered([EXPOSURE, *(term.event for term in terms)])
        self._values = _numbered(term.value for term in terms if term.value is not None)
        self._variants = _numbered(variant for one in experiments for variant in one.variants)
        self._experiment_rows: list[list[int]] = []
        self._group_rows: list[list[int]] = []
        self._group_events: list[int] = []
        self._metric_rows: list[list[int]] = []
        self._cells = (0, 0, 0)  # by mode
        self._arms = 0
        self._closed = 0

    def program(self) -> Program:
        places = tuple(self._place(experiment) for experiment in self._experiments)
        arm_of = np.full((len(self._experiments), len(self._variants)), -2, np.int64)
        for e, experiment in enumerate(self._experiments):
            for v, variant in enumerate(experiment.variants):
                arm_of[e, self._variants[variant]] = v
        wanted = np.zeros(len(self._events), np.int8)
        wanted[[self._events[term.event] for term in self._terms]] = 1
        share, one, two = self._cells
        return Program(
            unit=self._unit,
            experiments=self._experiments,
            event_codes=self._events,
            experiment_codes=_numbered(one.name for one in self._experiments),
            variant_codes=self._variants,
            value_codes=self._values,
            summed=frozenset(t.value for t in self._terms if t.kind == "sum" and t.value is not None),
            places=places,
            experiment_table=_table(self._experiment_rows, k.E_WIDTH),
            group_table=_table(self._group_rows, k.G_WIDTH),
            group_events=np.array(self._group_events, np.int64),
            metric_table=_table(self._metric_rows, k.M_WIDTH),
            term_table=_table([self._term_row(term) for term in self._terms], k.T_WIDTH),
            arm_of=arm_of,
            wanted=wanted,
            sizes=(self._arms, self._closed, share, one, two),
        )

    def _place(self, experiment: ExperimentPlan) -> dict[str, CellPlace]:
        variants = len(experiment.variants)
        first = self._cells
        steps = [sum(_mode(metric) == mode for metric in experiment.metrics) for mode in range(3)]
        used = [0, 0, 0]
        slots = _slots(experiment.metrics)
        groups = len(self._group_rows)
        places: dict[str, CellPlace] = {}
        for window, metrics in _by_window(experiment.metrics).items():
            metric_first, event_first = len(self._metric_rows), len(self._group_events)
            for metric in metrics:
                mode = _mode(metric)
                place = CellPlace(mode, first[mode] + used[mode], steps[mode], self._closed, slots[metric.name])
                used[mode] += 1
                places[metric.name] = place
                a, b = self._terms[metric.terms[0]], self._terms[metric.terms[-1]]
                self._metric_rows.append([mode, a, b, place.first, place.step, place.slot])
            events = dict.fromkeys(self._events[term.event] for metric in metrics for term in metric.terms)
            self._group_events += events
            self._group_rows.append(
                [window, metric_first, len(self._metric_rows), event_first, len(self._group_events), self._closed]
            )
            self._closed += variants
        end = _FOREVER if experiment.end_us is None else experiment.end_us
        self._experiment_rows.append([experiment.start_us, end, groups, len(self._group_rows), self._arms])
        self._arms += variants
        share, one, two = (first[mode] + steps[mode] * variants for mode in range(3))
        self._cells = (share, one, two)
        return places

    def _term_row(self, term: Term) -> list[int]:
        value = -1 if term.value is None else self._values[term.value]
        return [self._events[term.event], value, _KINDS[term.kind]]


def _mode(metric: MetricPlan) -> int:
    if len(metric.terms) == 2:
        return k.MODE_TWO
    return k.MODE_SHARE if metric.terms[0].kind == "any" else k.MODE_ONE


def _slots(metrics: Iterable[MetricPlan]) -> dict[str, int]:
    slots: dict[str, int] = {}
    used = 0
    for metric in metrics:
        slots[metric.name] = used
        used += len(metric.terms)
    return slots


def _by_window(metrics: Iterable[MetricPlan]) -> dict[int, list[MetricPlan]]:
    groups: dict[int, list[MetricPlan]] = {}
    for metric in metrics:
        groups.setdefault(metric.window_us or 0, []).append(metric)
    return groups


def _numbered(names: Iterable[str]) -> dict[str, int]:
    return {name: number for number, name in enumerate(dict.fromkeys(names))}


def _table(rows: Sequence[Sequence[int]], width: int) -> Ints:
    table = np.zeros((len(rows), width), np.int64)
    for number, row in enumerate(rows):
        table[number, : len(row)] = row
    return table
