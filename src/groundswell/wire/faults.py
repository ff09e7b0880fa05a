"""Why an event was not taken, or not counted: stable reason codes, and the one form in which a fault is told.

``refused``: the event cannot be used at all, the sender must act, and nothing but counts and a sample is kept.
``dead_lettered``: the event is kept as it was sent and can be replayed once what it breaks is fixed.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from groundswell.errors import InvalidInput
from groundswell.model.spelling import spelled

__all__ = ["DEAD_REASONS", "REFUSED_REASONS", "Fault", "Refused", "dead", "refused"]

REFUSED_REASONS: Final = {
    "bad_event_id": "`event_id` is not text, is empty, has nothing that can be seen, or is too long",
    "duplicate_key": "a key stands twice in an event or in its properties, so nobody knows which value was meant",
    "empty": "the body holds no event",
    "invalid_utf8": "the bytes are not UTF-8",
    "lone_surrogate": "an escape names half a character",
    "missing_event_id": "there is no `event_id`, so a retry could not be told from a new event",
    "missing_type": "there is no `type`, or it is not text or is empty",
    "not_an_object": "an event is not a JSON object",
    "not_json": "the bytes are not JSON; NaN and Infinity are not",
    "too_deep": "arrays and objects are nested too deeply",
    "too_large": "one event is too large",
    "too_many_events": "the batch holds too many events",
}

DEAD_REASONS: Final = {
    "bad_time": "a time is not RFC 3339 text with an offset",
    "missing_property": "a required property is absent or null",
    "out_of_range": "a number does not fit 64 bits",
    "reserved_name": "a property has a name that Groundswell keeps for itself",
    "too_long": "a text of the envelope is too long",
    "ts_ahead": "`ts` is further ahead of the arrival than a wrong clock explains",
    "ts_too_early": "`ts` is before any event that could be meant",
    "unknown_type": "no definition has this event type",
    "wrong_type": "a value has another type than its definition",
}


class Fault(NamedTuple):
    """What is wrong with one event. ``dead`` says whether it is kept as a dead letter."""

    dead: bool
    reason: str
    field: str | None
    message: str
    event_id: str | None = None


class Refused(NamedTuple):
    """An event, or at position -1 a whole body, that was refused; ``sample`` is its first bytes."""

    position: int
    reason: str
    message: str
    sample: bytes
    field: str | None = None
    event_id: str | None = None


def refused(reason: str, name: str, value: object, rule: str, next_step: str | None = None) -> Fault:
    """Return a structural fault."""
    return Fault(False, reason, name, str(InvalidInput(name, spelled(value), rule, next_step=next_step)))


def dead(reason: str, name: str, value: object, rule: str, next_step: str | None = None) -> Fault:
    """Return a semantic fault."""
    return Fault(True, reason, name, str(InvalidInput(name, spelled(value), rule, next_step=next_step)))
