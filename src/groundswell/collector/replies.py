"""What the collector answers, as JSON."""

from __future__ import annotations

import math
from typing import Final, NamedTuple

import msgspec

from groundswell.model.event import Verdict
from groundswell.wire.decode import Outcome

__all__ = ["Reply", "failure", "reply_of"]

_TOO_LARGE: Final = frozenset(("too_many_events",))  # reasons to refuse a whole body that ask for smaller ones


class Reply(NamedTuple):
    """Status, body and what headers depend on."""

    status: int
    body: bytes
    content_type: bytes = b"application/json"
    headers: tuple[tuple[bytes, bytes], ...] = ()


class _Receipt(msgspec.Struct, omit_defaults=True):
    """received = accepted + dead_lettered + refused."""

    received: int
    accepted: int
    dead_lettered: int
    refused: int
    verdicts: list[Verdict] = []


class _Error(msgspec.Struct):
    reason: str
    message: str


class _Failure(msgspec.Struct):
    error: _Error


_ENCODER: Final = msgspec.json.Encoder()


def reply_of(outcome: Outcome, *, every: bool) -> Reply:
    """Return the receipt of a body: 200 where anything was taken, else 400, or 413 where smaller bodies would help."""
    dead, refused = len(outcome.dead), len(outcome.refused)
    accepted = outcome.received - dead - refused
    if not (dead or refused or every):
        return Reply(200, b'{"received":%d,"accepted":%d,"dead_lettered":0,"refused":0}' % (accepted, accepted))
    status = 200
    if refused == outcome.received:
        status = 413 if outcome.refused[0].reason in _TOO_LARGE else 400
    verdicts = list(outcome.verdicts(every=every))
    return Reply(status, _ENCODER.encode(_Receipt(outcome.received, accepted, dead, refused, verdicts)))


def failure(
    status: int, reason: str, message: str, *, retry_after_s: float | None = None, allow: str | None = None
) -> Reply:
    """Return an answer for a request of which nothing was taken."""
    headers: list[tuple[bytes, bytes]] = []
    if retry_after_s is not None:
        headers.append((b"retry-after", str(math.ceil(retry_after_s)).encode()))
    if allow is not None:
        headers.append((b"allow", allow.encode()))
    if status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    return Reply(status, _ENCODER.encode(_Failure(_Error(reason, message))), headers=tuple(headers))
