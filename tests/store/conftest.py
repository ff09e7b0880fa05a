"""What tests of the control store share: a clock that stands still until it is moved, a store, and the issue's example."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from groundswell.model.clock import parse_us
from groundswell.store import Store

EXAMPLE = """\
properties: {revenue: {type: float, unit: USD}, watch_ms: int}
events:
  purchase: {properties: [revenue], required: [revenue]}
metrics:
  revenue_per_user: {type: mean, event: purchase, value: revenue}
  buyers: {type: conversion, event: purchase, window: 7d, better: higher}
  order_value: {type: ratio, numerator: {event: purchase, value: revenue}, denominator: {event: purchase}}
experiments:
  new_checkout: {unit: user_id, variants: {control: 50, treatment: 50}, start: 2026-01-05, metrics: [buyers, revenue_per_user, order_value]}
"""  # fmt: skip  # noqa: E501


class StillClock:
    """Time that moves only when a test says so, or when someone sleeps."""

    def __init__(self) -> None:
        self.us = parse_us("now", "2026-02-01")

    def now_us(self) -> int:
        return self.us

    def monotonic_s(self) -> float:
        return self.us / 1e6

    def sleep(self, seconds: float) -> None:
        self.us += int(seconds * 1e6)


@pytest.fixture
def example() -> str:
    return EXAMPLE


@pytest.fixture
def clock() -> StillClock:
    return StillClock()


@pytest.fixture
def store(tmp_path: Path, clock: StillClock) -> Iterator[Store]:
    opened = Store.open(tmp_path / "control.db", clock)
    yield opened
    opened.close()
