"""A small world behind the ports: one of everything that a page must show, and a real server in front of it."""

from __future__ import annotations

import asyncio
import math
import random
import socket
import threading
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from typing import Any

import pytest
from granian.server.embed import Server

from groundswell.errors import GroundswellError, InvalidInput, NotComputable, NotFound, Unauthorized
from groundswell.model.clock import parse_us
from groundswell.model.definitions import Definitions, ExperimentDef
from groundswell.model.ledger import IntakeCounts, LakeCounts
from groundswell.testing.clock import ManualClock
from groundswell.web.ports import (
    Commit,
    DeadLetter,
    DeadLetterPage,
    ExperimentSummary,
    Headline,
    Overview,
    PartitionLag,
    SourceLedger,
    Throughput,
)

NOW = "2026-01-17T14:07:31Z"
NOW_US = parse_us("now", NOW)
DATA_TO = "2026-01-17T14:05:00Z"
HOSTILE = "<script>window.pwned=1</script>\"'><img src=x onerror=window.pwned=1>"


def definitions() -> Definitions:
    """Experiments in every state."""
    return Definitions(
        version=12,
        experiments={
            "new_checkout": ExperimentDef(variants={"control": 50, "treatment": 50}, start="2026-01-05"),
            "broken_split": ExperimentDef(variants={"control": 50, "treatment": 50}, start="2026-01-08"),
            "feed_ranking": ExperimentDef(variants={"a": 1, "b": 1, "c": 2}, unit="device_id", start="2026-01-10"),
            "spring_banner": ExperimentDef(variants={"off": 9, "on": 1}, start="2026-02-01"),
            "old_paywall": ExperimentDef(variants={"control": 1, "soft": 1}, start="2025-11-01", end="2025-12-01"),
            "dance_tab": ExperimentDef(variants={"control": 1, "tab": 1}),
        },
    )


def effect(estimate: float | None, half: float | None) -> dict[str, float | None]:
    """An interval around ``estimate``."""
    if estimate is None or half is None:
        return {"estimate": estimate, "low": None, "high": None}
    return {"estimate": estimate, "low": estimate - half, "high": estimate + half}


def result(
    metric: str, variant: str, baseline_mean: float | None, lift: float | None, noise: float, **more: Any
) -> dict[str, Any]:
    """One row of a scorecard: ``lift`` and ``noise`` (half the fixed interval) are relative to the baseline."""
    absolute = None if lift is None or baseline_mean is None else lift * baseline_mean
    half = None if baseline_mean is None else noise * abs(baseline_mean)
    wide = effect(absolute, None if half is None else 1.55 * half)
    p_value = None if lift is None else math.erfc(abs(lift) / noise * 1.96 / math.sqrt(2))
    row: dict[str, Any] = {
        "metric": metric,
        "type": "mean",
        "window": None,
        "better": "higher",
        "variant": variant,
        "baseline": "control",
        "n": 50_211,
        "mean": None if baseline_mean is None or absolute is None else baseline_mean + absolute,
        "mean_interval": {"low": None, "high": None},
        "baseline_n": 50_127,
        "baseline_mean": baseline_mean,
        "baseline_interval": {"low": None, "high": None},
        "absolute": effect(absolute, half),
        "relative": effect(lift, noise),
        "always_valid": {"low": wide["low"], "high": wide["high"]},
        "p_value": p_value,
        "degrees_of_freedom": 100_334.1,
        "method": "welch",
        "warnings": [],
        "reasons": {},
    }
    return row | more


def _results() -> list[dict[str, Any]]:
    nothing = {"low": None, "high": None}
    unknown = result(
        "retained_after_28_days",
        "treatment",
        None,
        None,
        0.02,
        type="conversion",
        window="28d",
        absolute=effect(None, None),
        relative=effect(None, None),
        always_valid=nothing,
        n=0,
        baseline_n=0,
        reasons={"mean": "no unit's 28-day window has closed yet; the first closes on 2026-02-02"},
    )
    without_scale = result(
        "complaints_per_user",
        "treatment",
        0.0,
        0.0,
        0.02,
        better="lower",
        relative=effect(None, None),
        absolute=effect(0.00012, 0.00021),
        always_valid={"low": -0.0002, "high": 0.00045},
        reasons={"relative": "the baseline's mean is 0, so there is nothing to be relative to"},
    )
    warning = "random_denominator: the denominator is counted, not given; the interval is by the delta method"
    return [
        result("buyers", "treatment", 0.1061, 0.0416, 0.0174, type="conversion", window="7d", n=31_004),
        result("revenue_per_user", "treatment", 1.4227, 0.0231, 0.0309),
        result("order_value", "treatment", 23.90, -0.0117, 0.0061, type="ratio", warnings=[warning]),
        result("refunds_per_user", "treatment", 0.0312, 0.184, 0.071, better="lower"),
        unknown,
        without_scale,
    ]


def scorecard(name: str = "new_checkout", **more: Any) -> dict[str, Any]:
    """A running experiment with a winner, losers, ties, and numbers that cannot be computed."""
    card: dict[str, Any] = {
        "experiment": name,
        "status": "running",
        "snapshot_id": 8_123_456_789_012_345_678,
        "definitions_version": 12,
        "as_of": DATA_TO,
        "computed_at": NOW,
        "alpha": 0.05,
        "shown": "always_valid",
        "units": {"control": 50_127, "treatment": 50_211},
        "excluded": {"two_variants": 14, "no_unit": 203, "unknown_variant": 0},
        "srm": {
            "p_value": 0.7907,
            "ok": True,
            "expected": {"control": 50_169.0, "treatment": 50_169.0},
            "before_exclusion_p_value": 0.81,
            "reason": None,
        },
        "completeness": {
            "data_to": DATA_TO,
            "partitions": 4,
            "partitions_behind": 3,
            "newest": "2026-01-17T14:07:29Z",
        },
        "results": _results(),
        "counting": ["units seen in two variants are excluded", "a window counts events within it of the exposure"],
        "recompute": f"groundswell scorecard {name} --snapshot 8123456789012345678 --definitions 12",
    }
    return card | more


def broken_scorecard() -> dict[str, Any]:
    """A split that did not come out as planned."""
    return scorecard(
        "broken_split",
        units={"control": 50_127, "treatment": 47_012},
        srm={
            "p_value": 2.1e-23,
            "ok": False,
            "expected": {"control": 0.5, "treatment": 0.5},
            "before_exclusion_p_value": 1.9e-23,
            "reason": None,
        },
    )


def wide_scorecard(variants: int = 12, metrics: int = 40) -> dict[str, Any]:
    """More than anyone should read at once."""
    rng = random.Random(20260105)
    names = ["control", *(f"variant_{number}" for number in range(1, variants))]
    rows = [
        result(
            f"metric_{metric:02d}_with_a_long_descriptive_name",
            variant,
            2.0,
            rng.gauss(0, 0.02),
            0.02 + rng.random() / 50,
        )
        for metric in range(metrics)
        for variant in names[1:]
    ]
    units = dict.fromkeys(names, 10_000)
    srm = {"p_value": 0.4, "ok": True, "expected": units}
    return scorecard("wide", units=units, srm=srm, results=rows, shown="absolute", status="ended")


def hostile_scorecard() -> dict[str, Any]:
    """Every string is an attack."""
    row = result(HOSTILE, HOSTILE, 1.0, 0.1, 0.2, warnings=[HOSTILE], reasons={HOSTILE: HOSTILE}, baseline=HOSTILE)
    row |= {"type": HOSTILE, "window": HOSTILE, "method": HOSTILE, "better": HOSTILE}
    return scorecard(
        HOSTILE,
        status=HOSTILE,
        as_of=HOSTILE,
        computed_at=HOSTILE,
        units={HOSTILE: 1},
        excluded={HOSTILE: 1},
        srm={"p_value": 0.1, "ok": True, "expected": {HOSTILE: 1}, "reason": HOSTILE},
        completeness={"data_to": HOSTILE, "newest": HOSTILE, "partitions": 2, "partitions_behind": 1},
        results=[row],
        counting=[HOSTILE],
        recompute=HOSTILE,
    )


def empty_scorecard() -> dict[str, Any]:
    """Started, and nobody has come."""
    srm = {
        "p_value": None,
        "ok": None,
        "expected": {"control": 0.5, "treatment": 0.5},
        "reason": "no unit was exposed yet",
    }
    return scorecard("empty", units={"control": 0, "treatment": 0}, excluded={}, results=[], srm=srm)


def overview() -> Overview:
    """Busy, balanced but for one source, with partitions behind."""
    wave = [round(15_000 + 9_000 * math.sin(minute / 9) + 40 * (minute % 7)) for minute in range(60)]
    web = SourceLedger(
        source="web",
        intake=IntakeCounts(received=8_412_906, refused=1_204, accepted=8_411_702),
        replayed=310,
        lake=LakeCounts(committed=8_312_412, dead_lettered=6_201, deduplicated=84_120, conflicts=12),
        in_flight=9_279,
    )
    ios = SourceLedger(
        source="ios",
        intake=IntakeCounts(received=3_100_411, refused=31, accepted=3_100_380),
        lake=LakeCounts(committed=3_068_801, dead_lettered=1_120, deduplicated=30_401, forgotten=58),
    )
    partner = SourceLedger(
        source="partner_feed",
        intake=IntakeCounts(received=51_200, refused=900, accepted=50_300),
        lake=LakeCounts(committed=50_112, deduplicated=180),
        in_flight=5,
    )
    return Overview(
        at_us=NOW_US,
        definitions_version=12,
        sources=(web, ios, partner),
        partitions=tuple(
            PartitionLag(partition=number, events_behind=behind, watermark_us=NOW_US - ago * 1_000_000, behind=ago > 60)
            for number, (behind, ago) in enumerate([(4_310, 151), (12, 2), (2_987, 149), (1_970, 90)])
        ),
        data_to_us=parse_us("data_to", DATA_TO),
        last_commit=Commit(snapshot_id=8_123_456_789_012_345_678, committed_at_us=NOW_US - 1_400_000, events=18_211),
        dead_letters={"unknown_type": 5_020, "wrong_type": 2_180, "ts_out_of_bounds": 121},
        refused={"not_json": 1_120, "no_event_id": 900, "too_large": 115},
        throughput=Throughput(
            interval_s=60,
            ends_at_us=NOW_US - NOW_US % 60_000_000,
            accepted=tuple(wave),
            committed=tuple(round(value * 0.97) for value in wave),
        ),
    )


def experiments() -> tuple[ExperimentSummary, ...]:
    """The list that goes with ``definitions``."""
    even = {"control": 50, "treatment": 50}
    running = [
        ExperimentSummary(
            name="new_checkout",
            state="running",
            unit="user_id",
            variants=even,
            start_us=parse_us("start", "2026-01-05"),
            metrics=("buyers", "revenue_per_user"),
            description="One page instead of three.",
            units=100_338,
            srm_ok=True,
            headline=Headline(metric="buyers", variant="treatment", estimate=0.0416, low=0.0146, high=0.0686),
        ),
        ExperimentSummary(
            name="broken_split",
            state="running",
            unit="user_id",
            variants=even,
            start_us=parse_us("start", "2026-01-08"),
            metrics=("buyers",),
            units=97_139,
            srm_ok=False,
            headline=Headline(metric="buyers", variant="treatment", estimate=0.0416, low=0.0146, high=0.0686),
        ),
        ExperimentSummary(
            name="feed_ranking",
            state="running",
            unit="device_id",
            variants={"a": 1, "b": 1, "c": 2},
            start_us=parse_us("start", "2026-01-10"),
            metrics=("watch_time",),
            units=812,
            headline=Headline(metric="watch_time", variant="c", estimate=-0.012, low=-0.09, high=0.066),
        ),
    ]
    spring = ExperimentSummary(
        name="spring_banner",
        state="scheduled",
        unit="user_id",
        variants={"off": 9, "on": 1},
        start_us=parse_us("start", "2026-02-01"),
        metrics=("clicks",),
    )
    draft = ExperimentSummary(name="dance_tab", state="draft", unit="user_id", variants={"control": 1, "tab": 1})
    ended = ExperimentSummary(
        name="old_paywall",
        state="ended",
        unit="user_id",
        variants={"control": 1, "soft": 1},
        start_us=parse_us("start", "2025-11-01"),
        end_us=parse_us("end", "2025-12-01"),
        metrics=("buyers",),
        units=40_117,
        srm_ok=True,
        headline=Headline(metric="buyers", variant="soft", estimate=-0.031, low=-0.048, high=-0.014),
    )
    return (*running, spring, draft, ended)


def dead_letters() -> tuple[DeadLetter, ...]:
    """One of each kind."""
    reasons = [
        ("unknown_type", "type", "type == 'purchse', must be a defined event; define it or fix the sender"),
        ("wrong_type", "revenue", "revenue == '12,50', must be float; send 12.5"),
        ("ts_out_of_bounds", "ts", "ts == '2031-01-01T00:00:00Z', must be at most 24 h after arrival; set the clock"),
    ]
    return tuple(
        DeadLetter(
            id=f"dl-{number:04d}",
            source="web",
            reason=reason,
            received_at_us=NOW_US - number * 61_000_000,
            field=field,
            message=message,
            event_id=f"0198c7d2-{number:04x}-7000-8000-5f3c2ab91d00",
            type="purchse" if reason == "unknown_type" else "purchase",
            content='{"event_id":"0198c7d2","type":"purchse","user_id":"u-1","revenue":"12,50"}',
        )
        for number in range(30)
        for reason, field, message in [reasons[number % 3]]
    )


class SamplePorts:
    """Answers with what a test puts in; an exception put in is raised."""

    def __init__(self) -> None:
        self.defined = definitions()
        self.key: str | None = None
        self.overview_value: Overview | GroundswellError = overview()
        self.experiment_list: tuple[ExperimentSummary, ...] = experiments()
        self.letters: tuple[DeadLetter, ...] = dead_letters()
        self.scorecards: dict[str, dict[str, Any] | GroundswellError] = {
            "new_checkout": scorecard(),
            "broken_split": broken_scorecard(),
            "feed_ranking": scorecard("feed_ranking"),
            "old_paywall": scorecard("old_paywall", status="ended", shown="absolute"),
            "wide": wide_scorecard(),
            "empty": empty_scorecard(),
            "hostile": hostile_scorecard(),
            "dance_tab": NotComputable("dance_tab is a draft: give it a start and run groundswell apply"),
        }

    def definitions(self) -> Definitions:
        return self.defined

    def authorize(self, key: str | None) -> str:
        if self.key is not None and key != self.key:
            raise Unauthorized("key is missing, unknown or revoked; send Authorization: Bearer <key>")
        return key or "anonymous"

    def overview(self) -> Overview:
        if isinstance(self.overview_value, GroundswellError):
            raise self.overview_value
        return self.overview_value

    def experiments(self) -> tuple[ExperimentSummary, ...]:
        return self.experiment_list

    def scorecard(self, name: str) -> dict[str, object]:
        found = self.scorecards.get(name)
        if found is None:
            raise NotFound(f"no experiment is named {name!r}")
        if isinstance(found, GroundswellError):
            raise found
        return found

    def dead_letters(
        self, *, reason: str | None = None, source: str | None = None, cursor: str | None = None, limit: int = 50
    ) -> DeadLetterPage:
        if cursor is not None and not cursor.isdigit():
            raise InvalidInput("cursor", cursor, "must come from an earlier page")
        chosen = [
            letter for letter in self.letters if reason in {None, letter.reason} and source in {None, letter.source}
        ]
        start = int(cursor or 0)
        counts: dict[str, int] = {}
        for letter in self.letters:
            counts[letter.reason] = counts.get(letter.reason, 0) + 1
        more = str(start + limit) if len(chosen) > start + limit else None
        return DeadLetterPage(letters=tuple(chosen[start : start + limit]), reasons=counts, next_cursor=more)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(NOW_US)


@pytest.fixture
def ports() -> SamplePorts:
    return SamplePorts()


@contextmanager
def serving(app: Callable[..., Awaitable[None]]) -> Generator[str]:
    """Serve ``app`` with granian on a free port in a thread of its own; give its base URL."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    ready = threading.Event()
    held: list[tuple[Server, asyncio.AbstractEventLoop]] = []

    async def run() -> None:
        server = Server(app, address="127.0.0.1", port=port, interface="asginl", log_enabled=False)  # pyright: ignore[reportArgumentType]
        held.append((server, asyncio.get_running_loop()))
        task = asyncio.create_task(server.serve())
        for _ in range(500):
            if await asyncio.get_running_loop().run_in_executor(None, _answers, port):
                break
            await asyncio.sleep(0.01)
        ready.set()
        await task

    thread = threading.Thread(target=lambda: asyncio.run(run()), daemon=True)
    thread.start()
    assert ready.wait(10)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server, loop = held[0]
        loop.call_soon_threadsafe(server.stop)
        thread.join(10)


def _answers(port: int) -> bool:
    with socket.socket() as knock:
        knock.settimeout(0.2)
        return knock.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def serve() -> Callable[[Any], Any]:
    """The context manager that puts an ASGI application on a real port."""
    return serving


@pytest.fixture
def cards() -> dict[str, dict[str, Any]]:
    """Scorecards by what they exercise."""
    return {
        "running": scorecard(),
        "broken": broken_scorecard(),
        "wide": wide_scorecard(),
        "empty": empty_scorecard(),
        "hostile": hostile_scorecard(),
    }
