"""Rules within and between definitions, and between a new version and all that was ever defined. Pure functions.

Rules between versions
    a property keeps its type for ever, deleted or not: its column does
    an experiment that has started keeps its unit, salt, variants and weights: else people change sides, which biases
    a deleted name binds as a living one does, so a name never comes to mean something else; restoring it is allowed

Where a value stands in a file is the caller's knowledge: a problem carries the path of the value, and the paths that
may have caused it.
"""

from __future__ import annotations

import difflib
import itertools
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, NamedTuple

import msgspec

from groundswell import limits
from groundswell.errors import InvalidInput
from groundswell.model.clock import duration_s, format_us, parse_us
from groundswell.model.definitions import (
    BUILTIN_EVENTS,
    BUILTIN_PROPERTIES,
    KINDS,
    SECTIONS,
    Definitions,
    EventDef,
    ExperimentDef,
    Kind,
    MetricDef,
    Operand,
    PropertyDef,
)
from groundswell.model.event import ENVELOPE
from groundswell.model.names import check_name

__all__ = ["MOMENT_PATTERN", "Path", "Problem", "check", "did_you_mean", "needed_by", "started_us"]

Path = tuple[str, ...]  # such as ("metrics", "buyers", "event")

NUMERIC: Final = ("int", "float")
_UNPRINTABLE: Final = ("Cc", "Cs")  # Unicode's control characters and surrogates
MOMENT_PATTERN: Final = (  # a date, or a time with its offset; a time without one means something else on each machine
    r"^[0-9]{4}-[0-9]{2}-[0-9]{2}([T ][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,6})?)?(Z|[+-][0-9]{2}:[0-9]{2}))?$"
)
_NEW_EXPERIMENT: Final = "end it and start a new experiment under another name"


class Problem(NamedTuple):
    """A broken rule. ``path`` says where the value stands; ``causes`` where else the fault may lie."""

    path: Path
    value: object
    rule: str
    next_step: str | None = None
    causes: tuple[Path, ...] = ()


def check(after: Definitions, *, known: Definitions, now_us: int) -> list[Problem]:
    """Return the problems of ``after``, section by section, at most ``limits.manifest_problems_max``.

    Args:
        after: what would stand, built-ins left out.
        known: the last definition of everything that ever stood, deleted or not, built-ins left out.
        now_us: decides which experiments have started.
    """
    return list(itertools.islice(_problems(after, known, now_us), limits.manifest_problems_max))


def _problems(after: Definitions, known: Definitions, now_us: int) -> Iterator[Problem]:
    yield from _check_sections(after, known)
    for name, one in after.properties.items():
        yield from _check_property(("properties", name), one, known.properties.get(name))
    whole = after.with_builtins()
    for name, one in after.events.items():
        yield from _check_event(("events", name), one, whole)
    for name, one in after.metrics.items():
        yield from _check_metric(("metrics", name), one, whole)
    for name, one in after.experiments.items():
        path = ("experiments", name)
        yield from _check_experiment(path, one, whole)
        yield from _check_started(path, one, known.experiments.get(name), now_us)


def did_you_mean(word: str, known: Iterable[str], otherwise: str | None = None) -> str | None:
    """Return a next step that names the nearest known word.

    >>> did_you_mean("purchas", ["view", "purchase"])
    'did you mean purchase?'
    """
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"did you mean {near[0]}?" if near else otherwise


def needed_by(definitions: Definitions, kind: Kind, name: str) -> list[str]:
    """Return what living definitions name this object, such as ``metrics.buyers``."""
    users: list[str] = []
    if kind == "property":
        users += [f"events.{event}" for event, one in definitions.events.items() if name in one.properties]
    if kind in ("property", "event"):
        for metric, one in definitions.metrics.items():
            named = [operand.value if kind == "property" else operand.event for _, operand in operands(one)]
            if name in named:
                users.append(f"metrics.{metric}")
    if kind == "metric":
        users += [
            f"experiments.{experiment}" for experiment, one in definitions.experiments.items() if name in one.metrics
        ]
    return users


def operands(metric: MetricDef) -> list[tuple[Path, Operand]]:
    """Return what a metric counts, each with the path of its fields below the metric."""
    if metric.type == "ratio":
        sides = (("numerator", metric.numerator), ("denominator", metric.denominator))
        return [((side,), operand) for side, operand in sides if operand is not None]
    return [] if metric.event is None else [((), Operand(event=metric.event, value=metric.value))]


def started_us(experiment: ExperimentDef, now_us: int) -> int | None:
    """Return when an experiment started, or None where it has not (yet)."""
    if experiment.start is None:
        return None
    start_us = parse_us("start", experiment.start)
    return start_us if start_us <= now_us else None


# --- every kind ------------------------------------------------------------------------------------------------


def _check_sections(after: Definitions, known: Definitions) -> Iterator[Problem]:
    """Names, text and numbers of objects."""
    for kind in KINDS:
        section = SECTIONS[kind]
        objects = after.of(kind)
        if len(objects) > limits.definitions_max:
            yield Problem((section,), len(objects), f"must be at most {limits.definitions_max} of a kind")
        for name, one in objects.items():
            try:
                check_name(kind, name)
            except InvalidInput as error:
                yield Problem((section, name), name, f"{kind} name {error.rule}", error.next_step)
            yield from _check_texts((section, name), msgspec.structs.asdict(one))
    columns = len(set(after.properties) | set(known.properties))
    if columns > limits.properties_max:
        yield Problem(
            ("properties",),
            columns,
            f"must be at most {limits.properties_max}, deleted ones included: each is a column of one table",
            "send rare properties undeclared; they are kept in extra",
        )


def _check_texts(path: Path, fields: Mapping[str, object]) -> Iterator[Problem]:
    for field, value in fields.items():
        if isinstance(value, str):
            most = limits.description_chars_max if field == "description" else limits.name_chars_max
            if len(value) > most:
                yield Problem((*path, field), value, f"must have at most {most} characters")
            if not value.strip():
                yield Problem((*path, field), value, "must not be empty", "leave the field out")
            if any(unicodedata.category(char) in _UNPRINTABLE and char not in "\n\t" for char in value):
                yield Problem((*path, field), value, "must hold no control characters and no lone surrogates")


def _repeated(items: tuple[str, ...]) -> list[str]:
    seen: set[str] = set()
    return [item for item in items if item in seen or seen.add(item)]


# --- properties and events -------------------------------------------------------------------------------------


def _check_property(path: Path, after: PropertyDef, before: PropertyDef | None) -> Iterator[Problem]:
    name = path[-1]
    if name in ENVELOPE:
        yield Problem(
            path, name, "must not be a name of the event's envelope", f"rename it, or send {name} in the envelope"
        )
    if name in BUILTIN_PROPERTIES:
        yield Problem(
            path, name, "must not be a built-in property", "rename it, or leave it out: every file may use it"
        )
    if before is not None and before.type != after.type:
        yield Problem(
            (*path, "type"),
            after.type,
            f"must stay {before.type}: a property keeps its type for ever, so that old events can be read",
            f"define a new property, such as {name}_{after.type}",
        )


def _check_event(path: Path, event: EventDef, whole: Definitions) -> Iterator[Problem]:
    name = path[-1]
    if name in BUILTIN_EVENTS:
        yield Problem(path, name, "must not be a built-in event", "leave it out: it needs no definition")
    for field, items in (("properties", event.properties), ("required", event.required)):
        for item in _repeated(items):
            yield Problem((*path, field), item, "must stand in the list once")
    for item in dict.fromkeys(event.properties):
        if item in ENVELOPE:
            yield Problem(
                (*path, "properties"), item, "must not be listed: every event may carry its envelope", "leave it out"
            )
        elif item not in whole.properties:
            yield Problem(
                (*path, "properties"),
                item,
                "must be a defined property",
                did_you_mean(item, whole.properties, f"add it under properties, such as {item}: string"),
            )
    for item in dict.fromkeys(event.required):
        if item not in event.properties:
            yield Problem(
                (*path, "required"),
                item,
                "must be one of the event's properties",
                did_you_mean(item, event.properties, "add it to the event's properties"),
            )


# --- metrics ---------------------------------------------------------------------------------------------------


def _check_metric(path: Path, metric: MetricDef, whole: Definitions) -> Iterator[Problem]:
    yield from _check_metric_shape(path, metric)
    for below, operand in operands(metric):
        yield from _check_operand((*path, *below), operand, whole)
    if metric.window is not None:
        try:
            seconds = duration_s("window", metric.window)
        except InvalidInput as error:
            yield Problem((*path, "window"), metric.window, error.rule, error.next_step)
        else:
            if seconds > limits.metric_window_s_max:
                most = limits.metric_window_s_max // 86400
                yield Problem((*path, "window"), metric.window, f"must be at most {most}d", "leave it out: no window")


def _check_metric_shape(path: Path, metric: MetricDef) -> Iterator[Problem]:
    """Which fields a type of metric has, and which it has not."""
    wanted, allowed = _SHAPES[metric.type]
    for field in ("event", "value", "numerator", "denominator"):
        value = getattr(metric, field)
        if value is None and field in wanted:
            yield Problem((*path, field), None, f"must be given: a {metric.type} needs it", _EXAMPLES[metric.type])
        elif value is not None and field not in wanted and field not in allowed:
            shown = msgspec.to_builtins(value)
            yield Problem(
                (*path, field), shown, f"must be left out: a {metric.type} has no {field}", _EXAMPLES[metric.type]
            )


_SHAPES: Final[Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]]] = {  # type -> (fields needed, fields allowed)
    "mean": (("event",), ("value",)),
    "conversion": (("event",), ()),
    "ratio": (("numerator", "denominator"), ()),
}
_EXAMPLES: Final[Mapping[str, str]] = {
    "mean": "write {type: mean, event: purchase, value: revenue}",
    "conversion": "write {type: conversion, event: purchase}",
    "ratio": "write {type: ratio, numerator: {event: purchase, value: revenue}, denominator: {event: purchase}}",
}


def _check_operand(path: Path, operand: Operand, whole: Definitions) -> Iterator[Problem]:
    event = whole.events.get(operand.event)
    if event is None:
        next_step = did_you_mean(operand.event, whole.events, "define it under events")
        yield Problem((*path, "event"), operand.event, "must be a defined event", next_step)
    if operand.value is None:
        return
    value = whole.properties.get(operand.value)
    if value is None:
        numeric = [name for name, one in whole.properties.items() if one.type in NUMERIC]
        next_step = did_you_mean(operand.value, numeric, "define it under properties")
        yield Problem((*path, "value"), operand.value, "must be a defined property", next_step)
    elif value.type not in NUMERIC:
        rule = f"must be a property of type int or float, and is a {value.type}"
        yield Problem((*path, "value"), operand.value, rule, "leave value out to count events")
    if event is not None and value is not None and operand.value not in event.properties:
        yield Problem(
            (*path, "value"),
            operand.value,
            f"must be a property that event {operand.event} carries",
            did_you_mean(operand.value, event.properties, f"add it to events.{operand.event}.properties"),
            causes=(("events", operand.event, "properties"), ("events", operand.event)),
        )


# --- experiments -----------------------------------------------------------------------------------------------


def _check_experiment(path: Path, experiment: ExperimentDef, whole: Definitions) -> Iterator[Problem]:
    yield from _check_variants((*path, "variants"), experiment.variants)
    yield from _check_run(path, experiment)
    for item in _repeated(experiment.metrics):
        yield Problem((*path, "metrics"), item, "must stand in the list once")
    for item in dict.fromkeys(experiment.metrics):
        if item not in whole.metrics:
            next_step = did_you_mean(item, whole.metrics, "define it under metrics")
            yield Problem((*path, "metrics"), item, "must be a defined metric", next_step)
    if experiment.alpha is not None and not 0.0 < experiment.alpha < 0.5:
        rule = "must be more than 0 and less than 0.5: the share of false alarms you accept"
        yield Problem((*path, "alpha"), experiment.alpha, rule, f"leave it out for {limits.alpha_default}")


def _check_variants(path: Path, variants: Mapping[str, int]) -> Iterator[Problem]:
    if not 2 <= len(variants) <= limits.variants_max:
        rule = f"must have 2 to {limits.variants_max} variants"
        yield Problem(path, dict(variants), rule, "write {control: 50, treatment: 50}")
    for variant, weight in variants.items():
        if not 1 <= len(variant) <= limits.name_chars_max or not variant.isprintable() or variant != variant.strip():
            rule = f"variant name must have 1 to {limits.name_chars_max} printable characters and no space around it"
            yield Problem((*path, variant), variant, rule)
        if weight < 0:
            yield Problem((*path, variant), weight, "must be >= 0")
    total = sum(variants.values())
    if variants and all(weight == 0 for weight in variants.values()):
        yield Problem(
            path, dict(variants), "weights must not all be 0: nobody would enter", "write {control: 50, treatment: 50}"
        )
    if total > limits.weight_sum_max:
        yield Problem(path, total, f"weights must add up to at most {limits.weight_sum_max}", "use smaller shares")


def _check_run(path: Path, experiment: ExperimentDef) -> Iterator[Problem]:
    moments: dict[str, int] = {}
    for field in ("start", "end"):
        text = getattr(experiment, field)
        if text is None:
            continue
        try:
            moments[field] = _moment_us(field, text)
        except InvalidInput:
            rule = "must be a date, or an RFC 3339 time with its offset"
            yield Problem((*path, field), text, rule, "write 2026-01-05 or 2026-01-05T09:30:00Z")
    if experiment.end is not None and experiment.start is None:
        yield Problem((*path, "end"), experiment.end, "must not be given without a start", "add start")
    if len(moments) == 2 and moments["start"] >= moments["end"]:
        rule = f"must be later than start ({experiment.start})"
        yield Problem((*path, "end"), experiment.end, rule, causes=((*path, "start"),))


def _moment_us(field: str, text: str) -> int:
    if not re.fullmatch(MOMENT_PATTERN, text):
        raise InvalidInput(field, text, "must be a date, or an RFC 3339 time with its offset")
    return parse_us(field, text)


def _check_started(path: Path, after: ExperimentDef, before: ExperimentDef | None, now_us: int) -> Iterator[Problem]:
    """What may not change once people have been told their variant."""
    since_us = None if before is None else started_us(before, now_us)
    if before is None or since_us is None:
        return
    since = f"the experiment started {format_us(since_us)}"
    name = path[-1]
    for field, old, new, why in (
        ("variants", before.variants, after.variants, _why_variants(before.variants, after.variants)),
        ("unit", before.unit, after.unit, "another unit would put the same person into another variant"),
        ("salt", before.salt or name, after.salt or name, "another salt would deal everyone anew"),
    ):
        if old != new or (field == "variants" and list(before.variants) != list(after.variants)):
            shown = "{" + ", ".join(f"{k}: {v}" for k, v in old.items()) + "}" if isinstance(old, dict) else old
            yield Problem((*path, field), new, f"must stay {shown}, for {since}: {why}", _NEW_EXPERIMENT, (path,))
    try:
        gone = started_us(after, now_us) is None
    except InvalidInput:
        return  # said already, by the check of the run
    if gone:
        rule = f"must stay in the past, for {since}: people have been told their variant"
        yield Problem((*path, "start"), after.start, rule, "set end to stop it", (path,))


def _why_variants(before: Mapping[str, int], after: Mapping[str, int]) -> str:
    lost = [variant for variant in before if variant not in after]
    if lost:
        return f"without {', '.join(lost)} those people would change sides"
    gained = [variant for variant in after if variant not in before]
    if gained:
        return f"with {', '.join(gained)} some people would change sides"
    if dict(before) != dict(after):
        return "other weights move people between variants, which biases every metric"
    return "another order moves people between variants, which biases every metric"
