"""A small world whose truth is known: people, what they are shown, what they do, and how their phones misbehave.

Everything follows from the seed and from the variants that the real allocation answers. The world keeps its own ledger
of what it sent, so that what comes out of the pipeline can be held against it.
"""

from __future__ import annotations

import uuid
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
import numpy as np

from groundswell.model.clock import US_PER_S, format_us

__all__ = ["Delivery", "Person", "SentLedger", "Truth", "World"]

DAY_US: Final = 86_400 * US_PER_S
RUN_DAYS: Final = 21  # the experiments began this long ago
ARRIVAL_DAYS: Final = 12  # people arrive in the first days, so that their 7-day windows have closed
COUNTRIES: Final = ("BR", "DE", "IN", "JP", "NG", "US")
PLATFORMS: Final = ("android", "ios", "web")

BUYER_RATE: Final = {"control": 0.20, "treatment": 0.26}  # new_checkout is a true winner
ORDER_VALUE_MEAN: Final = 24.0  # USD; log-normal with this mean
ORDER_VALUE_SIGMA: Final = 0.6
SECOND_ORDER_RATE: Final = 0.15
LOST_EXPOSURES: Final = 0.15  # quick_replies: a crash swallows this share of treatment's exposures

DEFINITIONS: Final = """\
# The demo's world. Three experiments: a winner, one without any effect, one whose split is broken.
properties:
  revenue: {{type: float, unit: USD}}
  watch_ms: int
  post: string
events:
  view: {{properties: [post, watch_ms]}}
  like: {{properties: [post]}}
  share: {{properties: [post]}}
  purchase: {{properties: [revenue], required: [revenue]}}
metrics:
  revenue_per_user: {{type: mean, event: purchase, value: revenue, window: 7d}}
  buyers: {{type: conversion, event: purchase, window: 7d, better: higher}}
  order_value:
    type: ratio
    numerator: {{event: purchase, value: revenue}}
    denominator: {{event: purchase}}
    window: 7d
  likes_per_user: {{type: mean, event: like, window: 7d}}
experiments:
  new_checkout:
    unit: user_id
    variants: {{control: 50, treatment: 50}}
    start: {start}
    metrics: [buyers, revenue_per_user, order_value]
  blue_button:
    unit: user_id
    variants: {{control: 50, treatment: 50}}
    start: {start}
    metrics: [buyers, likes_per_user]
  quick_replies:
    unit: user_id
    variants: {{control: 50, treatment: 50}}
    start: {start}
    metrics: [likes_per_user]
sources:
  app: {{description: the phone app}}
"""


@dataclass(frozen=True, slots=True)
class Truth:
    """What one metric of one experiment is, by construction: absolute difference, treatment minus control."""

    experiment: str
    metric: str
    difference: float


@dataclass(frozen=True, slots=True)
class Person:
    """Someone with a phone."""

    user_id: str
    country: str
    platform: str
    arrived_us: int


@dataclass(frozen=True, slots=True)
class Delivery:
    """A request body that a phone sends; ``attempts`` > 1 where the answer to the first was lost on the way."""

    body: bytes
    attempts: int
    late: bool


@dataclass(slots=True)
class SentLedger:
    """The world's own count, in events (a retry is sent again, so it counts again)."""

    sent: int = 0
    valid: set[str] = field(default_factory=set[str])  # ids that must be in the lake, once each
    by_type: Counter[str] = field(default_factory=Counter[str])
    dead: set[str] = field(default_factory=set[str])  # ids that must be dead letters
    refused: int = 0


class World:
    """Yields people, and for each what their phone sends, given the variants they were shown.

    Args:
        seed: decides everything.
        people: how many.
        now_us: the world's present; nothing happens after it.
    """

    def __init__(self, *, seed: int, people: int, now_us: int) -> None:
        self._rng = np.random.default_rng(seed)
        self._people = people
        self._start_us = now_us - RUN_DAYS * DAY_US
        self.ledger = SentLedger()

    def definitions(self) -> str:
        """Return the world's definitions, as a user would write them."""
        return DEFINITIONS.format(start=format_us(self._start_us)[:10])

    @staticmethod
    def truth() -> list[Truth]:
        """Return what a perfect measurement would find."""
        orders = 1 + SECOND_ORDER_RATE
        buyers = BUYER_RATE["treatment"] - BUYER_RATE["control"]
        return [
            Truth("new_checkout", "buyers", buyers),
            Truth("new_checkout", "revenue_per_user", buyers * orders * ORDER_VALUE_MEAN),
            Truth("new_checkout", "order_value", 0.0),
            Truth("blue_button", "buyers", 0.0),
            Truth("blue_button", "likes_per_user", 0.0),
            Truth("quick_replies", "likes_per_user", 0.0),
        ]

    def people(self) -> list[Person]:
        """Return everybody, in order of arrival."""
        arrivals = np.sort(self._rng.uniform(DAY_US, ARRIVAL_DAYS * DAY_US, self._people)).astype(np.int64)
        countries = self._rng.integers(len(COUNTRIES), size=self._people)
        platforms = self._rng.integers(len(PLATFORMS), size=self._people)
        return [
            Person(f"u{i:06d}", COUNTRIES[countries[i]], PLATFORMS[platforms[i]], self._start_us + int(arrivals[i]))
            for i in range(self._people)
        ]

    def deliveries(self, person: Person, variants: dict[str, str]) -> list[Delivery]:
        """Return what the phone of ``person`` sends after being shown ``variants`` (experiment -> variant)."""
        rng = self._rng
        events = self._exposures(person, variants) + self._behaviour(person, variants)
        for event in events:
            self.ledger.valid.add(event["event_id"])
            self.ledger.by_type[event["type"]] += 1
        late = [event for event in events if event["type"] in {"like", "share"} and rng.random() < 0.02]
        timely = [event for event in events if event not in late]
        if rng.random() < 0.05:  # a bug of the app repeats an event in the very same request
            timely.append(timely[int(rng.integers(len(timely)))])
        timely.extend(self._broken(person))
        found = [self._delivery(timely, late=False)]
        if late:
            found.append(self._delivery(late, late=True))
        return found

    def _delivery(self, events: list[dict[str, Any]], *, late: bool) -> Delivery:
        attempts = 2 if self._rng.random() < 0.04 else 1
        self.ledger.sent += len(events) * attempts
        self.ledger.refused += attempts * sum(1 for event in events if "event_id" not in event)
        return Delivery(msgspec.json.encode(events), attempts, late)

    def _event(self, person: Person, kind: str, at_us: int, **properties: object) -> dict[str, Any]:
        return {
            "event_id": str(uuid.UUID(bytes=self._rng.bytes(16), version=4)),
            "type": kind,
            "ts": format_us(at_us),
            "user_id": person.user_id,
            "session_id": f"{person.user_id}-{at_us // DAY_US}",
            "country": person.country,
            "platform": person.platform,
            "properties": properties,
        }

    def _exposures(self, person: Person, variants: dict[str, str]) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        for experiment, variant in variants.items():
            if experiment == "quick_replies" and variant == "treatment" and self._rng.random() < LOST_EXPOSURES:
                continue  # the app crashes before it can say so
            found.append(self._event(person, "exposure", person.arrived_us, experiment=experiment, variant=variant))
        return found

    def _behaviour(self, person: Person, variants: dict[str, str]) -> list[dict[str, Any]]:
        rng = self._rng

        def later(days: float = 6.5) -> int:
            return person.arrived_us + 60 * US_PER_S + int(rng.uniform(0, days * DAY_US))

        def post() -> str:
            return f"p{int(rng.pareto(1.2) * 10) % 5000}"

        found = [
            self._event(person, "view", later(), post=post(), watch_ms=int(rng.gamma(2, 4000)))
            for _ in range(int(rng.poisson(4)))
        ]
        found += [self._event(person, "like", later(), post=post()) for _ in range(int(rng.poisson(1.5)))]
        found += [self._event(person, "share", later(), post=post()) for _ in range(int(rng.poisson(0.3)))]
        if rng.random() < BUYER_RATE[variants["new_checkout"]]:
            orders = 2 if rng.random() < SECOND_ORDER_RATE else 1
            mu = np.log(ORDER_VALUE_MEAN) - ORDER_VALUE_SIGMA**2 / 2
            found += [
                self._event(person, "purchase", later(), revenue=round(float(rng.lognormal(mu, ORDER_VALUE_SIGMA)), 2))
                for _ in range(orders)
            ]
        return found

    def _broken(self, person: Person) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        if self._rng.random() < 0.01:
            event = self._event(person, "purchase", person.arrived_us, revenue="12,50")  # text where a number belongs
            self.ledger.dead.add(event["event_id"])
            found.append(event)
        if self._rng.random() < 0.005:
            event = self._event(person, "teleport", person.arrived_us)  # a type that nobody defined
            self.ledger.dead.add(event["event_id"])
            found.append(event)
        if self._rng.random() < 0.005:
            event = self._event(person, "like", person.arrived_us, post="p1")
            del event["event_id"]  # cannot be counted once, so it is refused
            found.append(event)
        return found
