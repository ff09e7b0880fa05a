"""A small lake of purchases and exposures, and a store with two experiments."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from groundswell.engine.local import LocalEngine
from groundswell.experiments.service import Scorecards
from groundswell.lake.contract import Change, IngestState
from groundswell.model.clock import US_PER_S, format_us, parse_us
from groundswell.store.control import Store
from groundswell.store.manifest import read_manifest
from groundswell.testing.clock import ManualClock
from groundswell.testing.lake import MemoryLake
from groundswell.wire.decode import Decoder

DAY_US = 86_400 * US_PER_S
START_US = parse_us("start", "2026-01-05")

DEFINITIONS = """
properties: {revenue: {type: float, unit: USD}}
events:
  purchase: {properties: [revenue], required: [revenue]}
metrics:
  revenue_per_user: {type: mean, event: purchase, value: revenue, window: 7d}
  buyers: {type: conversion, event: purchase}
  order_value: {type: ratio, numerator: {event: purchase, value: revenue}, denominator: {event: purchase}}
experiments:
  new_checkout:
    variants: {control: 50, treatment: 50}
    start: 2026-01-05
    metrics: [buyers, revenue_per_user, order_value]
  ended: {variants: {control: 50, treatment: 50}, start: 2026-01-05, end: 2026-01-12, metrics: [revenue_per_user]}
  draft: {variants: {control: 1, treatment: 1}, metrics: [buyers]}
"""


class Bench:
    """Everything a scorecard needs, and a way to put events in."""

    def __init__(self, folder: Path) -> None:
        self.clock = ManualClock(START_US - DAY_US)
        self.store = Store.open(folder / "control.sqlite", self.clock)
        self.lake = MemoryLake(clock=self.clock)
        self.apply(folder / "definitions.yaml", DEFINITIONS)
        self.clock.advance(21 * 86_400)
        self.scorecards = Scorecards(self.lake, LocalEngine(self.lake), self.store, clock=self.clock)

    def apply(self, file: Path, text: str) -> None:
        file.write_text(text, encoding="utf-8")
        self.store.apply(read_manifest([file]), by="tester")

    def ingest(self, events: list[dict[str, object]], watermark_us: int) -> int:
        """Put events into the lake and return the snapshot."""
        import msgspec

        definitions = self.store.definitions()
        decoded = Decoder(definitions).decode(
            msgspec.json.encode(events), source="app", received_at_us=self.clock.now_us()
        )
        assert decoded.batch.num_rows == len(events), list(decoded.verdicts())
        import pyarrow as pa

        self.lake.ensure_columns(definitions)
        file = self.lake.write(pa.Table.from_batches([decoded.batch]))

        def decide(state: IngestState) -> Change:
            return Change(
                add=[file],
                state=IngestState(
                    offsets={0: state.offsets.get(0, 0) + 1},
                    watermarks_us={0: watermark_us},
                    definitions_version=definitions.version,
                ),
            )

        snapshot = self.lake.commit(decide)
        assert snapshot is not None
        return snapshot.snapshot_id


def person(
    number: int, variant: str, spent: float | None, *, experiment: str = "new_checkout"
) -> list[dict[str, object]]:
    user = f"u{number}"
    at_us = START_US + DAY_US
    events: list[dict[str, object]] = [
        {
            "event_id": f"x-{experiment}-{number}",
            "type": "exposure",
            "ts": format_us(at_us),
            "user_id": user,
            "properties": {"experiment": experiment, "variant": variant},
        }
    ]
    if spent is not None:
        events.append(
            {
                "event_id": f"p-{experiment}-{number}",
                "type": "purchase",
                "ts": format_us(at_us + US_PER_S),
                "user_id": user,
                "properties": {"revenue": spent},
            }
        )
    return events


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


@pytest.fixture
def people() -> Callable[..., list[dict[str, object]]]:
    """Return ``count`` people, alternating between arms; the treatment buys more often."""

    def make(count: int, *, first: int = 0, experiment: str = "new_checkout") -> list[dict[str, object]]:
        events: list[dict[str, object]] = []
        for number in range(first, first + count):
            variant = ("control", "treatment")[number % 2]
            buys = number % 10 < (3 if variant == "control" else 6)
            events += person(number, variant, float(number % 7 + 1) if buys else None, experiment=experiment)
        return events

    return make
