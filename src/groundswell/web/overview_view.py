"""The overview as a page shows it: whether everything adds up, first; then how far the data reaches and what waits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil
from typing import Final, Literal
from urllib.parse import urlencode

from groundswell.model.clock import US_PER_S, format_us
from groundswell.model.ledger import IntakeCounts, LakeCounts
from groundswell.web import text
from groundswell.web.plot import nice_step, polyline
from groundswell.web.ports import Overview, PartitionLag, SourceLedger, Throughput

__all__ = ["OverviewView", "view_overview"]

INTAKE_COLUMNS: Final = (("", "Received"), ("=", "Refused"), ("+", "Accepted"))
LAKE_COLUMNS: Final = (
    ("", "Accepted"),
    ("+", "Replayed"),
    ("=", "Committed"),
    ("+", "Dead letters"),
    ("+", "Duplicates"),
    ("+", "Forgotten"),
    ("+", "In flight"),
)
_FLOW_LINES: Final = 4  # at most so many lines above the base of the chart


@dataclass(frozen=True, slots=True)
class Stat:
    """One figure of the strip."""

    name: str
    value: str
    note: str
    unit: str = ""
    tone: Literal["", "warn"] = ""


@dataclass(frozen=True, slots=True)
class LedgerRow:
    """One source in one ledger; ``off`` is empty where it adds up."""

    source: str
    cells: tuple[str, ...]
    off: str
    total: bool = False


@dataclass(frozen=True, slots=True)
class Ledger:
    """A table of sources whose columns are an equation."""

    title: str
    rule: str
    columns: tuple[tuple[str, str], ...]
    rows: tuple[LedgerRow, ...]


@dataclass(frozen=True, slots=True)
class Flow:
    """The throughput chart: points in a box of 1000 x 100."""

    line: str
    line_name: str
    committed: str  # beside the line of accepted events; empty where there is only one line
    scale: tuple[tuple[str, float], ...]  # label and place in per cent from the top
    begins: str
    ends: str
    per: str
    spoken: str


@dataclass(frozen=True, slots=True)
class Lag:
    """One partition; ``at`` is its bar in per cent of the longest."""

    name: str
    waiting: str
    at: float
    data_to: str
    behind: bool


@dataclass(frozen=True, slots=True)
class Reason:
    """One reason with its count and bar."""

    name: str
    count: str
    at: float
    href: str | None


@dataclass(frozen=True, slots=True)
class Reasons:
    """Counts by reason."""

    key: str
    title: str
    note: str
    rows: tuple[Reason, ...]


@dataclass(frozen=True, slots=True)
class OverviewView:
    """Everything the page says."""

    headline: str
    subline: str
    off: bool
    problems: tuple[str, ...]
    stats: tuple[Stat, ...]
    flow: Flow | None
    sources: bool
    ledgers: tuple[Ledger, ...]
    partitions: tuple[Lag, ...]
    partitions_note: str
    reasons: tuple[Reasons, ...]


def view_overview(overview: Overview) -> OverviewView:
    """Return the view of ``overview``."""
    off = sum(abs(source.intake_off_by) + abs(source.lake_off_by) for source in overview.sources)
    received = sum(source.intake.received for source in overview.sources)
    if off:
        headline = f"{text.count(off)} event{'s' if off > 1 else ''} unaccounted for"
        subline = (
            "A ledger below does not add up. Run groundswell audit: it recounts the records and names what is off."
        )
    elif overview.sources:
        headline = "Every event is accounted for"
        sources = f"{len(overview.sources)} source{'s' if len(overview.sources) > 1 else ''}"
        subline = f"{text.count(received)} received from {sources} since the lake began."
    else:
        headline, subline = "Waiting for the first event", "Nothing was received yet."
    read_at = format_us(overview.at_us)[11:19]
    return OverviewView(
        headline=headline,
        subline=f"{subline} Definitions version {overview.definitions_version}. Read at {read_at} UTC.",
        off=off > 0,
        problems=overview.problems,
        stats=_stats(overview),
        flow=None if overview.throughput is None else _flow(overview.throughput),
        sources=bool(overview.sources),
        ledgers=(_intake(overview.sources), _lake(overview.sources)),
        partitions=_partitions(overview),
        partitions_note=_partitions_note(overview.partitions),
        reasons=(
            _reasons("dead", "Dead letters", overview.dead_letters, "wait for a fix", linked=True),
            _reasons("refused", "Refused", overview.refused, "in all; their senders were told", linked=False),
        ),
    )


def _stats(overview: Overview) -> tuple[Stat, ...]:
    now_us = overview.at_us
    behind = sum(partition.behind for partition in overview.partitions)
    late = None if overview.data_to_us is None else max(0, now_us - overview.data_to_us) / US_PER_S
    if behind:
        noun = "partition" if behind == 1 else "partitions"
        completeness = f"{text.ago(late)} ago, {behind} {noun} behind"
    else:
        completeness = "nothing committed yet" if late is None else f"{text.ago(late)} ago, no partition behind"
    commit = overview.last_commit
    committed_ago = "" if commit is None else text.ago(max(0, now_us - commit.committed_at_us) / US_PER_S)
    events = "" if commit is None or commit.events is None else f"{text.count(commit.events)} events"
    waiting = sum(overview.dead_letters.values())
    in_flight = sum(source.in_flight for source in overview.sources)
    without_events = "none yet" if commit is None else ""
    return (
        Stat(
            "Data to",
            text.moment(overview.data_to_us, now_us),
            completeness,
            unit="UTC" if late is not None else "",
            tone="warn" if behind else "",
        ),
        _pace(overview.throughput),
        Stat("In flight", text.count(in_flight), "accepted, not yet committed"),
        Stat(
            "Last commit",
            committed_ago or text.DASH,
            events or without_events,
            unit="ago" if committed_ago else "",
        ),
        Stat("Dead letters", text.count(waiting), "wait for a fix" if waiting else "none wait"),
    )


def _pace(throughput: Throughput | None) -> Stat:
    """Return the last whole interval's count: of accepted events where they are counted, else of committed ones."""
    if throughput is None or not (throughput.accepted or throughput.committed):
        return Stat("Accepted", text.DASH, "not counted yet")
    unit = f"/ {text.ago(float(throughput.interval_s))}"
    if not throughput.accepted:
        return Stat("Committed", text.count(throughput.committed[-1]), "in the last whole interval", unit)
    committed = f"{text.count(throughput.committed[-1])} committed" if throughput.committed else ""
    return Stat("Accepted", text.count(throughput.accepted[-1]), committed, unit)


def _flow(throughput: Throughput) -> Flow | None:
    peak = max([*throughput.accepted, *throughput.committed], default=0)
    if not throughput.accepted and not throughput.committed:
        return None
    step = max(1.0, nice_step(max(peak, 1) / _FLOW_LINES))
    lines = ceil(max(peak, 1) / step)
    top = lines * step
    points = max(len(throughput.accepted), len(throughput.committed))
    begins_us = throughput.ends_at_us - points * throughput.interval_s * US_PER_S
    span = text.ago(float(throughput.interval_s))
    per = {60: "a minute", 1: "a second", 3600: "an hour"}.get(throughput.interval_s, f"in {span}")
    word, last = (
        ("accepted", throughput.accepted[-1]) if throughput.accepted else ("committed", throughput.committed[-1])
    )
    return Flow(
        line=polyline(throughput.accepted or throughput.committed, top),
        line_name=word,
        committed=polyline(throughput.committed, top) if throughput.accepted else "",
        scale=tuple((text.count(round(step * line)), round(100 - 100 * line / lines, 2)) for line in range(lines + 1)),
        begins=text.moment(begins_us, throughput.ends_at_us),
        ends=text.moment(throughput.ends_at_us, throughput.ends_at_us),
        per=per,
        spoken=f"Events {per} over the last {text.ago(float(points * throughput.interval_s))}: "
        f"{text.count(last)} {word} at the end, {text.count(peak)} at the peak.",
    )


def _intake(sources: tuple[SourceLedger, ...]) -> Ledger:
    rows = [LedgerRow(source.source, _intake_cells(source.intake), _off(source.intake_off_by)) for source in sources]
    if len(sources) > 1:
        total = sum((source.intake for source in sources), IntakeCounts())
        rows.append(LedgerRow("All", _intake_cells(total), _off(sum(s.intake_off_by for s in sources)), total=True))
    return Ledger("At the door", "received = refused + accepted", INTAKE_COLUMNS, tuple(rows))


def _intake_cells(counts: IntakeCounts) -> tuple[str, ...]:
    return tuple(text.count(value) for value in (counts.received, counts.refused, counts.accepted))


def _lake(sources: tuple[SourceLedger, ...]) -> Ledger:
    rows = [LedgerRow(source.source, _lake_cells((source,)), _off(source.lake_off_by)) for source in sources]
    if len(sources) > 1:
        rows.append(LedgerRow("All", _lake_cells(sources), _off(sum(s.lake_off_by for s in sources)), total=True))
    rule = "accepted + replayed = committed + dead letters + duplicates + forgotten + in flight"
    return Ledger("In the lake", rule, LAKE_COLUMNS, tuple(rows))


def _lake_cells(sources: tuple[SourceLedger, ...]) -> tuple[str, ...]:
    lake = sum((source.lake for source in sources), LakeCounts())
    return tuple(
        text.count(value)
        for value in (
            sum(source.intake.accepted for source in sources),
            sum(source.replayed for source in sources),
            lake.committed,
            lake.dead_lettered,
            lake.deduplicated,
            lake.forgotten,
            sum(source.in_flight for source in sources),
        )
    )


def _off(difference: int) -> str:
    if not difference:
        return ""
    return f"{text.count(difference)} missing" if difference > 0 else f"{text.count(-difference)} too many"


def _partitions(overview: Overview) -> tuple[Lag, ...]:
    longest = max([1, *(partition.events_behind for partition in overview.partitions)])
    return tuple(
        Lag(
            name=str(partition.partition),
            waiting=text.count(partition.events_behind),
            at=round(100 * partition.events_behind / longest, 2),
            data_to=text.moment(partition.watermark_us, overview.at_us),
            behind=partition.behind,
        )
        for partition in overview.partitions
    )


def _partitions_note(partitions: tuple[PartitionLag, ...]) -> str:
    behind = sum(partition.behind for partition in partitions)
    return f"{behind} of {len(partitions)} behind" if partitions else ""


def _reasons(key: str, title: str, counts: Mapping[str, int], note: str, *, linked: bool) -> Reasons:
    found = sorted(((reason, count) for reason, count in counts.items() if count), key=lambda item: -item[1])
    longest = max([1, *(count for _, count in found)])
    rows = tuple(
        Reason(
            name=text.words(reason),
            count=text.count(count),
            at=round(100 * count / longest, 2),
            href=f"/dead-letters?{urlencode({'reason': reason})}" if linked else None,
        )
        for reason, count in found
    )
    return Reasons(key, title, f"{text.count(sum(counts.values()))} {note}" if rows else "", rows)
