"""The list of experiments and the list of dead letters, as pages show them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal
from urllib.parse import quote, urlencode

from groundswell.model.clock import US_PER_S, format_us
from groundswell.web import text
from groundswell.web.plot import Axis, Bar, interval_axis
from groundswell.web.ports import DeadLetterPage, ExperimentSummary, Headline
from groundswell.web.scorecard_view import TickLabel, Tone, tick_labels

__all__ = ["DeadLettersView", "ExperimentsView", "view_dead_letters", "view_experiments"]

_DAY_US = 86_400 * US_PER_S


@dataclass(frozen=True, slots=True)
class ExperimentRow:
    """One experiment."""

    name: str
    path: str
    description: str | None
    state: str
    when: str
    units: str
    unit: str
    weights: str
    split: Literal["ok", "off", "unknown"]
    metric: str
    variant: str
    none: str
    difference: str
    reading: str
    tone: Tone
    bar: Bar | None
    point: float | None
    spoken: str


@dataclass(frozen=True, slots=True)
class ExperimentsView:
    """All of them, on one axis."""

    subline: str
    rows: tuple[ExperimentRow, ...]
    axis: Axis | None
    ticks: tuple[TickLabel, ...]


def view_experiments(experiments: Sequence[ExperimentSummary], now_us: int) -> ExperimentsView:
    """Return the view of the list."""
    axis = interval_axis(
        [(one.headline.low, one.headline.high) for one in experiments if one.headline is not None], ticks_max=4
    )
    states = Counter(one.state for one in experiments)
    parts = [f"{states[state]} {state}" for state in ("running", "scheduled", "draft", "ended") if states[state]]
    return ExperimentsView(
        subline=f"{', '.join(parts)}." if parts else "",
        rows=tuple(_experiment(one, axis, now_us) for one in experiments),
        axis=axis,
        ticks=tick_labels(axis),
    )


def _experiment(one: ExperimentSummary, axis: Axis | None, now_us: int) -> ExperimentRow:
    headline = one.headline or Headline(metric="", variant="")
    tone, reading = _reading(one, headline)
    difference = text.signed_share(headline.estimate)
    return ExperimentRow(
        name=one.name,
        path=quote(one.name, safe=""),
        description=one.description,
        state=one.state,
        when=_when(one, now_us),
        units=text.count(one.units),
        unit=one.unit,
        weights=" : ".join(str(weight) for weight in one.variants.values()),
        split="unknown" if one.srm_ok is None else "ok" if one.srm_ok else "off",
        metric=headline.metric,
        variant=headline.variant,
        none=_without_headline(one),
        difference=difference,
        reading=reading,
        tone=tone,
        bar=None if axis is None else axis.bar(headline.low, headline.high),
        point=None if axis is None else axis.point(headline.estimate),
        spoken=f"{headline.metric}, {headline.variant}: difference {difference}, interval "
        f"{text.signed_share(headline.low)} to {text.signed_share(headline.high)}. {reading}.",
    )


def _without_headline(one: ExperimentSummary) -> str:
    if not one.metrics:
        return "no metric"
    return f"{one.metrics[0]}: no result" if one.state in {"running", "ended"} else one.metrics[0]


def _reading(one: ExperimentSummary, headline: Headline) -> tuple[Tone, str]:
    if headline.low is None or headline.high is None:
        return "none", "not computable"
    if one.srm_ok is False:
        return "none", "withheld"
    if headline.low <= 0 <= headline.high:
        return "flat", "no clear difference" if one.state == "ended" else "undecided"
    return ("good", "better") if (headline.low > 0) == (headline.better == "higher") else ("bad", "worse")


def _when(one: ExperimentSummary, now_us: int) -> str:
    if one.state == "draft" or one.start_us is None:
        return "no start yet"
    if one.state == "scheduled":
        return f"starts {text.day(one.start_us)}"
    if one.state == "ended" and one.end_us is not None:
        return f"{text.day(one.start_us)} to {text.day(one.end_us)}"
    return f"day {(now_us - one.start_us) // _DAY_US + 1}, since {text.day(one.start_us)}"


@dataclass(frozen=True, slots=True)
class Chip:
    """A filter: its words, how many it leaves, where it leads."""

    name: str
    count: str
    href: str
    current: bool


@dataclass(frozen=True, slots=True)
class LetterRow:
    """One dead letter."""

    id: str
    iso: str
    received: str
    source: str
    reason: str
    field: str | None
    message: str
    event_id: str | None
    type: str | None
    content: str | None


@dataclass(frozen=True, slots=True)
class DeadLettersView:
    """One page of them."""

    filters: tuple[Chip, ...]
    filtered: bool
    rows: tuple[LetterRow, ...]
    older: str | None


def view_dead_letters(page: DeadLetterPage, *, reason: str | None, source: str | None, now_us: int) -> DeadLettersView:
    """Return the view of one page of dead letters that was asked for with ``reason`` and ``source``."""
    kept = {"source": source} if source else {}
    chips = [Chip("all", text.count(sum(page.reasons.values())), _address(kept), reason is None)]
    chips += [
        Chip(text.words(name), text.count(count), _address({"reason": name, **kept}), name == reason)
        for name, count in sorted(page.reasons.items(), key=lambda item: -item[1])
    ]
    chosen = kept | ({"reason": reason} if reason else {})
    return DeadLettersView(
        filters=tuple(chips) if page.reasons else (),
        filtered=bool(reason or source),
        rows=tuple(
            LetterRow(
                id=letter.id,
                iso=format_us(letter.received_at_us),
                received=text.moment(letter.received_at_us, now_us),
                source=letter.source,
                reason=text.words(letter.reason),
                field=letter.field,
                message=letter.message or "",
                event_id=letter.event_id,
                type=letter.type,
                content=letter.content,
            )
            for letter in page.letters
        ),
        older=None if page.next_cursor is None else _address({**chosen, "cursor": page.next_cursor}),
    )


def _address(query: dict[str, str]) -> str:
    return "/dead-letters" + (f"?{urlencode(query)}" if query else "")
