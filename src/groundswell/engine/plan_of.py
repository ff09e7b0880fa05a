"""From definitions to plans: what a metric means, said once.

conversion                    one term, ``any``
mean with a value             one term, ``sum`` of it
mean without                  one term, ``count``
ratio                         numerator and denominator, each a ``sum`` or a ``count``; a value over its own events
                              counts those that have it
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeVar

from groundswell import limits
from groundswell.errors import InvalidInput
from groundswell.model.clock import US_PER_S, duration_s, parse_us
from groundswell.model.definitions import ExperimentDef, MetricDef, Operand
from groundswell.model.plan import ExperimentPlan, MetricPlan, Plan, Term

__all__ = ["plan_experiment", "plan_metric", "plan_portfolio"]

T = TypeVar("T")


def plan_portfolio(
    experiments: Mapping[str, ExperimentDef], metrics: Mapping[str, MetricDef], *, as_of_us: int | None = None
) -> Plan:
    """Return the plan of every experiment that has a start; drafts count nothing and are left out.

    Raises:
        InvalidInput: as :func:`plan_experiment`.
    """
    started = {name: definition for name, definition in experiments.items() if definition.start is not None}
    return Plan(tuple(plan_experiment(name, definition, metrics) for name, definition in started.items()), as_of_us)


def plan_experiment(name: str, definition: ExperimentDef, metrics: Mapping[str, MetricDef]) -> ExperimentPlan:
    """Return whom ``definition`` counts and what, with each of its ``metrics`` resolved.

    Raises:
        InvalidInput: the experiment is a draft, ends before it starts, or names a metric that is not defined.
    """
    if definition.start is None:
        raise InvalidInput(
            f"start of experiment {name}",
            None,
            "must be set before it can be counted",
            next_step="apply it with a start",
        )
    start_us = parse_us(f"start of experiment {name}", definition.start)
    end_us = None if definition.end is None else parse_us(f"end of experiment {name}", definition.end)
    if end_us is not None and end_us <= start_us:
        raise InvalidInput(f"end of experiment {name}", definition.end, f"must be after its start {definition.start}")
    return ExperimentPlan(
        name=name,
        unit=definition.unit,
        variants=tuple(definition.variants),
        start_us=start_us,
        end_us=end_us,
        metrics=tuple(plan_metric(metric, _metric(name, metric, metrics)) for metric in definition.metrics),
    )


def plan_metric(name: str, definition: MetricDef) -> MetricPlan:
    """Return the terms and the window of a metric.

    Raises:
        InvalidInput: the definition lacks what its type needs, or its window is malformed or too long.
    """
    if definition.type == "conversion":
        event = _needed(name, "event", definition.event)
        terms = (Term(event, "any", definition.value),)
    elif definition.type == "mean":
        terms = (_total(Operand(event=_needed(name, "event", definition.event), value=definition.value)),)
    else:
        numerator = _needed(name, "numerator", definition.numerator)
        denominator = _needed(name, "denominator", definition.denominator)
        terms = (_total(numerator), _per(numerator, denominator))
    return MetricPlan(name, terms, _window_us(name, definition.window))


def _total(operand: Operand) -> Term:
    return Term(operand.event, "count" if operand.value is None else "sum", operand.value)


def _per(numerator: Operand, denominator: Operand) -> Term:
    """Return the denominator. Of a value over its own events (a mean of events), an event without the value is none."""
    if denominator.value is None and denominator.event == numerator.event:
        return Term(denominator.event, "count", numerator.value)
    return _total(denominator)


def _needed(metric: str, field: str, value: T | None) -> T:
    if value is None:
        raise InvalidInput(f"{field} of metric {metric}", None, "must be given for a metric of its type")
    return value


def _window_us(metric: str, window: str | None) -> int | None:
    if window is None:
        return None
    seconds = duration_s(f"window of metric {metric}", window)
    if seconds > limits.metric_window_s_max:
        raise InvalidInput(f"window of metric {metric}", window, f"must be at most {limits.metric_window_s_max} s")
    return seconds * US_PER_S


def _metric(experiment: str, name: str, metrics: Mapping[str, MetricDef]) -> MetricDef:
    if name not in metrics:
        raise InvalidInput(
            f"metric of experiment {experiment}",
            name,
            f"must be one of {_listed(metrics)}",
            next_step="define it first",
        )
    return metrics[name]


def _listed(names: Iterable[str]) -> str:
    known = sorted(names)
    return (
        ", ".join(known[:10]) + (f" and {len(known) - 10} more" if len(known) > 10 else "") if known else "none defined"
    )
