"""The event: its envelope and its verdict.

Invariants
    an event's identity is (source, event_id); its fingerprint is a 128-bit keyed hash of both
    ``unit_hash`` is the 64-bit hash of the layout key: user_id, else anonymous_id, else device_id
    an envelope name is never a property's name
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec

__all__ = ["ENVELOPE", "Verdict"]

# column -> logical type, in the table's order. ``timestamp`` is microseconds UTC, ``long`` is int64.
ENVELOPE: Final[dict[str, str]] = {
    "event_id": "string",
    "type": "string",
    "ts": "timestamp",
    "received_at": "timestamp",
    "source": "string",
    "user_id": "string",
    "anonymous_id": "string",
    "device_id": "string",
    "session_id": "string",
    "unit_hash": "long",  # uint64 bits in an int64 column; sorted as signed
    "unit_kind": "int",  # index into UNIT_KINDS; null where the event names nobody
    "event_hash": "long",  # first 64 bits of the fingerprint: an identity, once a unit is known
    "content_hash": "long",  # of all that the client sent but event_id and sent_at: tells a retry from a conflict
    "country": "string",
    "platform": "string",
    "app_version": "string",
    "data_centre": "string",
    "extra": "string",  # JSON object of what is not declared
}

# what a client may send in an event's envelope (the rest is ours)
CLIENT_STRINGS: Final = (
    "event_id", "type", "user_id", "anonymous_id", "device_id", "session_id",
    "country", "platform", "app_version", "data_centre",
)  # fmt: skip

VerdictStatus = Literal["accepted", "dead_lettered", "refused"]


class Verdict(msgspec.Struct, frozen=True, omit_defaults=True):
    """What became of one event of a request; ``index`` is its place in the request, from 0."""

    index: int
    status: VerdictStatus
    reason: str | None = None  # a stable code, such as ``wrong_type``
    field: str | None = None
    message: str | None = None  # name, value, rule, next step
    event_id: str | None = None
