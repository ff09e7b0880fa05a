"""Clients of a seeded simulation: what they send, what they were told, and the ledger that the pipeline must match.

Invariants
    a client keeps sending an event until it was told that it is durable, and sometimes once more
    the ledger knows which identities must be in the lake, which among the dead letters, which were refused
"""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random
from typing import Any, Final

import msgspec

from groundswell.model.clock import US_PER_S, format_us

__all__ = ["Clients", "Expected", "Request"]

USERS: Final = 40
BATCH_MAX: Final = 12


@dataclass(slots=True)
class Expected:
    """Identities (event ids; one source) by what must become of them."""

    committed: set[str] = field(default_factory=set[str])
    dead: set[str] = field(default_factory=set[str])
    conflicts: int = 0


@dataclass(slots=True)
class Request:
    """A body on its way."""

    body: bytes
    events: int


class Clients:
    """Makes requests; those that were not acknowledged come back."""

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self._unacked: list[Request] = []
        self._sent: list[dict[str, Any]] = []
        self._number = 0
        self.expected = Expected()

    def request(self, now_us: int) -> Request:
        """Return a request: a new one, or one whose answer was lost."""
        if self._unacked and self._rng.random() < 0.5:
            return self._unacked.pop(self._rng.randrange(len(self._unacked)))
        events = [self._event(now_us) for _ in range(self._rng.randint(1, BATCH_MAX))]
        return Request(msgspec.json.encode(events), len(events))

    def lost(self, request: Request) -> None:
        """Note that ``request`` was not acknowledged: it will be sent again."""
        self._unacked.append(request)

    def outstanding(self) -> list[Request]:
        """Return what still has to be sent again, and forget it."""
        waiting, self._unacked = self._unacked, []
        return waiting

    def _event(self, now_us: int) -> dict[str, Any]:
        chance = self._rng.random()
        if self._sent and chance < 0.08:
            return self._rng.choice(self._sent)  # the very same event again, minutes or days later
        self._number += 1
        event: dict[str, Any] = {
            "event_id": f"e{self._number:06d}",
            "type": "purchase",
            "ts": format_us(now_us - self._rng.randrange(3 * 86_400) * US_PER_S),  # late by up to three days
            "user_id": f"u{self._rng.randrange(USERS)}",
            "properties": {"revenue": self._rng.randrange(1000) / 10},
        }
        if chance < 0.12:
            event["properties"]["revenue"] = "not a number"
            self.expected.dead.add(event["event_id"])
            return event
        if chance < 0.14:
            del event["event_id"]  # refused: it could not be counted once
            return event
        self.expected.committed.add(event["event_id"])
        self._sent.append(event)
        return event
