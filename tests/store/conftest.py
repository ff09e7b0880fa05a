"""What tests of the control store share: a clock that stands still, a store, and an example of definitions."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from groundswell.model.clock import parse_us
from groundswell.store import Store
from groundswell.testing.clock import ManualClock

EXAMPLE = """\
properties: {revenue: {type: float, unit: USD}, watch_ms: int}
events:
  purchase: {properties: [revenue], required: [revenue]}
metrics:
  revenue_per_user: {type: mean, event: purchase, value: revenue}
  buyers: {type: conversion, event: purchase, window: 7d, better: higher}
  order_value: {type: ratio, numerator: {event: purchase, value: revenue}, denominator: {event: purchase}}
experiments:
  new_checkout:
    unit: user_id
    variants: {control: 50, treatment: 50}
    start: 2026-01-05
    metrics: [buyers, revenue_per_user, order_value]
sources:
  web:
"""


@pytest.fixture
def example() -> str:
    return EXAMPLE


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(start_us=parse_us("now", "2026-02-01"))


@pytest.fixture
def store(tmp_path: Path, clock: ManualClock) -> Iterator[Store]:
    opened = Store.open(tmp_path / "control.db", clock)
    yield opened
    opened.close()
