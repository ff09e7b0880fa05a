"""A scorecard as a page shows it: every number already text, every interval already a place on the axis.

Invariants
    a verdict is read from the interval that may be acted on now, never from the other one or from the p-value
    no verdict is given while the sample ratio is off
    what cannot be computed says why where its number would stand
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Final, Literal, NamedTuple

from groundswell.errors import InvalidInput
from groundswell.model.clock import parse_us
from groundswell.web import text
from groundswell.web.card import Card, Interval, Result, read_card
from groundswell.web.plot import Axis, Bar, interval_axis

__all__ = [
    "MetricGroup",
    "Row",
    "ScorecardView",
    "TickLabel",
    "Tone",
    "VariantRow",
    "tick_labels",
    "view_scorecard",
]

Tone = Literal["good", "bad", "flat", "none"]
TONES: Final[tuple[Tone, ...]] = ("good", "bad", "flat", "none")

STATUS_WORDS: Final = {"not_started": "not started"}
TYPE_WORDS: Final = {"conversion": "share of units", "mean": "mean per unit", "ratio": "ratio of sums"}


class TickLabel(NamedTuple):
    """A tick of the axis with its text; a ``minor`` one is left out where there is little room."""

    at: float
    label: str
    minor: bool


@dataclass(frozen=True, slots=True)
class VariantRow:
    """A variant's share of the units, planned and seen."""

    name: str
    units: str
    planned: str
    seen: str
    off: str
    planned_at: float | None  # per cent of the widest bar's space
    seen_at: float
    baseline: bool


@dataclass(frozen=True, slots=True)
class Row:
    """One variant of one metric."""

    variant: str
    means: tuple[str, str]
    difference: str
    difference_also: str
    interval: str
    tone: Tone
    reading: str
    bar: Bar | None
    other_bar: Bar | None
    point: float | None
    spoken: str
    warnings: tuple[str, ...]
    reasons: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class MetricGroup:
    """All variants of one metric."""

    name: str
    about: str
    rows: tuple[Row, ...]

    @property
    def lines(self) -> int:
        """Rows of the table that belong to this metric, those of notes included."""
        return len(self.rows) + sum(bool(row.warnings or row.reasons) for row in self.rows)


@dataclass(frozen=True, slots=True)
class ScorecardView:
    """Everything the page says."""

    name: str
    status: str
    running: bool
    alarm: bool
    split_known: bool
    split_p: str
    split_before_p: str | None
    split_reason: str | None
    level: str
    shown_words: str
    data_to: str | None
    data_note: str | None
    facts: tuple[tuple[str, str], ...]
    recompute: str | None
    units_total: str
    variants: tuple[VariantRow, ...]
    excluded: tuple[tuple[str, str], ...]
    baseline: str
    only_variant: str | None  # named once instead of in every row
    groups: tuple[MetricGroup, ...]
    tally: tuple[tuple[Tone, str], ...]
    by_chance: str | None
    axis: Axis | None
    ticks: tuple[TickLabel, ...]
    figures: tuple[tuple[str, ...], ...]
    counting: tuple[str, ...]


def view_scorecard(scorecard: Mapping[str, object]) -> ScorecardView:
    """Return the view of a scorecard's JSON.

    Raises:
        InvalidInput: ``scorecard`` is not the JSON of a scorecard.
    """
    card = read_card(scorecard)
    running = card.status != "ended"
    alarm = card.srm.ok is False
    compared = {result.variant for result in card.results}
    axis = interval_axis([_edges(_plotted(result, card.shown)) for result in card.results])
    groups = tuple(
        MetricGroup(name, _about(rows[0]), tuple(_row(row, card, axis) for row in rows))
        for name, rows in ((name, list(found)) for name, found in groupby(card.results, lambda result: result.metric))
    )
    return ScorecardView(
        name=card.experiment,
        status=STATUS_WORDS.get(card.status, text.words(card.status)),
        running=running,
        alarm=alarm,
        split_known=card.srm.ok is not None,
        split_p=_split_p(card.srm.p_value),
        split_before_p=None
        if card.srm.before_exclusion_p_value is None
        else _split_p(card.srm.before_exclusion_p_value),
        split_reason=card.srm.reason,
        level=f"{100 * (1 - card.alpha):g}%",
        shown_words="always-valid" if card.shown == "always_valid" else "fixed-horizon",
        data_to=card.completeness.data_to or card.as_of,
        data_note=_data_note(card),
        facts=_facts(card),
        recompute=card.recompute,
        units_total=text.count(sum(card.units.values())),
        variants=_variants(card),
        excluded=tuple((text.words(reason), text.count(found)) for reason, found in card.excluded.items() if found),
        baseline=_baseline(card),
        only_variant=next(iter(compared)) if len(compared) == 1 else None,
        groups=groups,
        tally=_tally(groups),
        by_chance=_by_chance(card),
        axis=axis,
        ticks=tick_labels(axis),
        figures=tuple(_figures(result) for result in card.results),
        counting=tuple(card.counting),
    )


def _split_p(value: float | None) -> str:
    """Return the p-value with its exponent: an alarm says how loud it is."""
    return text.DASH if value is None else f"= {text.number(value, 3)}"


def _baseline(card: Card) -> str:
    if card.results:
        return card.results[0].baseline
    return "control" if "control" in card.units else next(iter(card.units), "the baseline")


def _data_note(card: Card) -> str | None:
    done = card.completeness
    if not done.partitions_behind:
        return None
    newest = f"; the newest data is of {_clock(done.newest)}" if done.newest else ""
    return f"{done.partitions_behind} of {text.count(done.partitions)} partitions behind{newest}"


def _clock(moment: str) -> str:
    try:
        return text.moment(parse_us("moment", moment))
    except InvalidInput:
        return moment


def _facts(card: Card) -> tuple[tuple[str, str], ...]:
    facts = [
        ("Computed", None if card.computed_at is None else f"{_clock(card.computed_at)} UTC"),
        ("Snapshot", None if card.snapshot_id is None else str(card.snapshot_id)),
        ("Definitions", None if card.definitions_version is None else f"version {card.definitions_version}"),
    ]
    return tuple((name, value) for name, value in facts if value is not None)


def _variants(card: Card) -> tuple[VariantRow, ...]:
    names = list(dict.fromkeys([*card.srm.expected, *card.units]))
    planned_sum = sum(card.srm.expected.values())
    total = sum(card.units.values())
    planned = {name: card.srm.expected.get(name, 0.0) / planned_sum if planned_sum else None for name in names}
    seen = {name: card.units.get(name, 0) / total if total else None for name in names}
    widest = max([0.0, *(value or 0.0 for value in (*planned.values(), *seen.values()))]) * 1.08 or 1.0
    return tuple(
        VariantRow(
            name=name,
            units=text.count(card.units.get(name, 0)),
            planned=text.share(planned[name], 3),
            seen=text.share(seen[name], 4),
            off=_off(seen[name], planned[name]),
            planned_at=None if planned[name] is None else round(100 * (planned[name] or 0.0) / widest, 2),
            seen_at=round(100 * (seen[name] or 0.0) / widest, 2),
            baseline=name == _baseline(card),
        )
        for name in names
    )


def _off(seen: float | None, planned: float | None) -> str:
    return text.DASH if seen is None or planned is None else text.signed_share(seen - planned, 2, " pp")


def _about(result: Result) -> str:
    parts = [TYPE_WORDS.get(result.type, text.words(result.type))]
    if result.window:
        parts.append(f"{result.window} window")
    if result.better != "higher":
        parts.append(f"{result.better} is better")
    return ", ".join(parts)


def _acted_on(result: Result, shown: str) -> Interval | None:
    return result.always_valid if shown == "always_valid" else result.absolute


def _plotted(result: Result, shown: str) -> Interval | None:
    """Return the interval that may be acted on, relative to the baseline's mean; None where there is no such scale."""
    given = result.always_valid_relative if shown == "always_valid" else result.relative
    if given is not None and (given.low is not None or given.high is not None):
        return given
    return _scaled(_acted_on(result, shown), result.baseline_mean)


def _fixed_beside(result: Result) -> Interval | None:
    """Return the fixed-horizon interval on the scale on which the always-valid one is drawn."""
    given = result.always_valid_relative
    if given is not None and (given.low is not None or given.high is not None):
        return result.relative
    return _scaled(result.absolute, result.baseline_mean)


def _scaled(interval: Interval | None, mean: float | None) -> Interval | None:
    if interval is None or not mean or (interval.low is None and interval.high is None):
        return None
    size = abs(mean)
    low, high = interval.low, interval.high
    return Interval(None if low is None else low / size, None if high is None else high / size)


def _edges(interval: Interval | None) -> tuple[float | None, float | None]:
    return (None, None) if interval is None else (interval.low, interval.high)


def _row(result: Result, card: Card, axis: Axis | None) -> Row:
    interval = _acted_on(result, card.shown)
    tone, reading = _verdict(result, card, interval)
    relative = None if result.relative is None else result.relative.estimate
    absolute = None if result.absolute is None else result.absolute.estimate
    difference, also = text.signed_share(relative), _difference(result, absolute)
    if relative is None:
        difference, also = also, ""
    shown = _interval(result, interval)
    other = _fixed_beside(result) if card.shown == "always_valid" else None
    kind = "always-valid" if card.shown == "always_valid" else "fixed-horizon"
    estimate = relative
    if estimate is None and absolute is not None and result.baseline_mean:
        estimate = absolute / abs(result.baseline_mean)
    return Row(
        variant=result.variant,
        means=(_level(result, result.baseline_mean), _level(result, result.mean)),
        difference=difference,
        difference_also=also,
        interval=shown,
        tone=tone,
        reading=reading,
        bar=None if axis is None else axis.bar(*_edges(_plotted(result, card.shown))),
        other_bar=None if axis is None else axis.bar(*_edges(other)),
        point=None if axis is None else axis.point(estimate),
        spoken=f"{result.metric}, {result.variant}: difference {difference}, {kind} interval {shown}. {reading}.",
        warnings=tuple(result.warnings),
        reasons=tuple((text.words(name), reason) for name, reason in result.reasons.items()),
    )


def _verdict(result: Result, card: Card, interval: Interval | None) -> tuple[Tone, str]:
    low, high = _edges(interval)
    if low is None and high is None:
        return "none", "Not computable"
    if card.srm.ok is False:
        return "none", "Withheld"
    up = low is not None and low > 0
    if not up and not (high is not None and high < 0):
        return "flat", "Undecided" if card.status != "ended" else "No clear difference"
    return ("good", "Better") if up == (result.better == "higher") else ("bad", "Worse")


def _tally(groups: tuple[MetricGroup, ...]) -> tuple[tuple[Tone, str], ...]:
    found: Counter[tuple[Tone, str]] = Counter((row.tone, row.reading) for group in groups for row in group.rows)
    ordered = sorted(found, key=lambda verdict: TONES.index(verdict[0]))
    return tuple((verdict[0], f"{found[verdict]} {verdict[1].lower()}") for verdict in ordered)


def _by_chance(card: Card) -> str | None:
    """Return a warning where so many comparisons are read at once that some of them will be wrong."""
    expected = card.alpha * len(card.results)
    if expected < 1 or card.srm.ok is False:
        return None
    return (
        f"Of {len(card.results)} comparisons at {100 * (1 - card.alpha):g}%, up to {round(expected)} are expected to "
        "read better or worse by chance alone. Decide by the metric that was chosen beforehand."
    )


def _level(result: Result, value: float | None) -> str:
    return text.share(value) if result.type == "conversion" else text.number(value)


def _difference(result: Result, value: float | None) -> str:
    return text.signed_share(value, 3, " pp") if result.type == "conversion" else text.signed(value)


def _interval(result: Result, interval: Interval | None) -> str:
    low, high = _edges(interval)
    if low is None and high is None:
        return text.DASH
    low_text = "−∞" if low is None else _difference(result, low)
    high_text = "+∞" if high is None else _difference(result, high)
    return f"{low_text} to {high_text}"


def tick_labels(axis: Axis | None) -> tuple[TickLabel, ...]:
    """Return the axis's ticks as relative differences in words."""
    if axis is None:
        return ()
    zero = next(place for place, tick in enumerate(axis.ticks) if tick.value == 0)
    crowded = len(axis.ticks) > 5
    return tuple(
        TickLabel(tick.at, _tick_text(tick.value), crowded and (place - zero) % 2 == 1)
        for place, tick in enumerate(axis.ticks)
    )


def _tick_text(value: float) -> str:
    if not value:
        return "0"
    return f"{100 * value:+.6g}%".replace("-", text.MINUS, 1)


def _figures(result: Result) -> tuple[str, ...]:
    relative = result.relative or Interval()
    relative_text = text.signed_share(relative.estimate)
    if relative.low is not None or relative.high is not None:
        low = "−∞" if relative.low is None else text.signed_share(relative.low)
        high = "+∞" if relative.high is None else text.signed_share(relative.high)
        relative_text += f" ({low} to {high})"
    return (
        result.metric,
        result.variant,
        text.count(result.n),
        _with_bounds(result, result.mean, result.mean_interval),
        text.count(result.baseline_n),
        _with_bounds(result, result.baseline_mean, result.baseline_interval),
        _interval(result, result.always_valid),
        _fixed(result),
        relative_text,
        text.p_value(result.p_value).removeprefix("= "),
        text.DASH if result.method is None else text.words(result.method),
    )


def _fixed(result: Result) -> str:
    interval = result.absolute or Interval()
    estimate = _difference(result, interval.estimate)
    return estimate if _edges(interval) == (None, None) else f"{estimate} ({_interval(result, interval)})"


def _with_bounds(result: Result, value: float | None, bounds: Interval | None) -> str:
    low, high = _edges(bounds)
    if low is None or high is None:
        return _level(result, value)
    return f"{_level(result, value)} ({_level(result, low)} to {_level(result, high)})"
