"""OFREP over HTTP: one flag or all of them, as raw ASGI, because every page view of a product may ask.

    POST /ofrep/v1/evaluate/flags/{key}
    POST /ofrep/v1/evaluate/flags          with ETag and If-None-Match

Invariants
    a request is answered on the event loop without waiting for anything but its own body
    a body is held only up to ``limits.flag_body_bytes_max``, and waited for up to ``limits.body_receive_s_max``
    an answer is never a traceback
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from hashlib import blake2b
from math import ceil
from typing import Any, Final, NamedTuple

import msgspec
import structlog

from groundswell import limits
from groundswell.errors import GroundswellError, Overloaded, Transient, Unauthorized
from groundswell.model.clock import Clock
from groundswell.model.spelling import spelled
from groundswell.web.admission import RateLimit
from groundswell.web.evaluation import Context, FlagSet, Refusal, read_context
from groundswell.web.ports import Flags

__all__ = ["OFREP_PREFIX", "build_ofrep"]

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

OFREP_PREFIX: Final = "/ofrep/v1/evaluate/flags"

_ASK: Final = "send Authorization: Bearer <key> or X-API-Key, and ask whoever runs this server for a key"

_log = structlog.get_logger("groundswell.web.ofrep")

# flags are public to whoever holds a key, and keys travel in headers, never in cookies: any origin may ask
_CORS: Final = (b"access-control-allow-origin", b"*")
_EXPOSED: Final = (b"access-control-expose-headers", b"ETag, Retry-After")
_PREFLIGHT: Final[Headers] = [
    (b"access-control-allow-methods", b"POST"),
    (b"access-control-allow-headers", b"Authorization, Content-Type, If-None-Match, X-API-Key"),
    (b"access-control-max-age", str(limits.cors_max_age_s).encode()),
]


class _Answer(NamedTuple):
    """A whole response."""

    status: int
    body: bytes = b""
    headers: Sequence[tuple[bytes, bytes]] = ()


class _Ofrep:
    """The ASGI application."""

    def __init__(self, flags: Flags, clock: Clock, rate: RateLimit, body_s_max: float) -> None:
        self._body_s_max = body_s_max
        self._flags = flags
        self._clock = clock
        self._rate = rate
        self._set = FlagSet(flags.definitions())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        try:
            answer = await self._respond(scope, receive)
        except GroundswellError as error:
            answer = _failure(error)
        headers = [_CORS, _EXPOSED, (b"content-length", str(len(answer.body)).encode()), *answer.headers]
        if answer.body:
            headers.append((b"content-type", b"application/json"))
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await send({"type": "http.response.body", "body": answer.body})

    async def _respond(self, scope: Scope, receive: Receive) -> _Answer:
        path: str = scope["path"]
        if path != OFREP_PREFIX and not path.startswith(OFREP_PREFIX + "/"):
            return _Answer(404, _general(f"no such path; flags are under {OFREP_PREFIX}"))
        if scope["method"] == "OPTIONS":
            return _Answer(204, headers=_PREFLIGHT)
        if scope["method"] != "POST":
            body = _general(f"method == {spelled(scope['method'][:20])}, must be POST; send the context as its body")
            return _Answer(405, body, [(b"allow", b"POST, OPTIONS")])
        headers: dict[bytes, bytes] = dict(scope["headers"])
        self._rate.admit(self._flags.authorize(_api_key(headers)))
        key = path[len(OFREP_PREFIX) + 1 :]
        body = await _body_in_time(headers, receive, self._body_s_max)
        context = body if isinstance(body, Refusal) else read_context(body)
        if isinstance(context, Refusal):
            return _Answer(context.status, context.body(key or None))
        if not key:
            return self._bulk(context, headers.get(b"if-none-match"))
        flag = self._current().evaluate(key, context, self._clock.now_us())
        return _Answer(flag.status, flag.body(key)) if isinstance(flag, Refusal) else _Answer(200, flag)

    def _bulk(self, context: Context, if_none_match: bytes | None) -> _Answer:
        body = self._current().evaluate_all(context, self._clock.now_us())
        if isinstance(body, Refusal):
            return _Answer(body.status, body.body())
        etag = b'"' + blake2b(body, digest_size=16).hexdigest().encode() + b'"'
        headers: Headers = [(b"etag", etag), (b"cache-control", b"private, no-cache")]
        return _Answer(304, headers=headers) if _matches(if_none_match, etag) else _Answer(200, body, headers)

    def _current(self) -> FlagSet:
        definitions = self._flags.definitions()
        if definitions is not self._set.definitions:
            self._set = FlagSet(definitions)
        return self._set


def build_ofrep(
    flags: Flags,
    clock: Clock,
    *,
    requests_per_s_max: float = limits.flag_requests_per_s_max,
    body_s_max: float = limits.body_receive_s_max,
) -> Callable[[Scope, Receive, Send], Awaitable[None]]:
    """Return the ASGI application for every path under ``OFREP_PREFIX``."""
    rate = RateLimit(clock, rate_per_s=requests_per_s_max, burst_s=limits.flag_burst_s)
    return _Ofrep(flags, clock, rate, body_s_max)


def _api_key(headers: dict[bytes, bytes]) -> str | None:
    """Return the key of ``Authorization: Bearer`` or ``X-API-Key``."""
    scheme, _, token = headers.get(b"authorization", b"").partition(b" ")
    key = token.strip() if scheme.lower() == b"bearer" else headers.get(b"x-api-key")
    return key.decode("latin-1") if key else None


async def _body_in_time(headers: dict[bytes, bytes], receive: Receive, seconds_max: float) -> bytes | Refusal:
    try:
        async with asyncio.timeout(seconds_max):
            return await _body(headers, receive)
    except TimeoutError:
        rule = f"body seconds > {seconds_max:g}, must be at most that; send the context again"
        return Refusal(408, "GENERAL", rule)


async def _body(headers: dict[bytes, bytes], receive: Receive) -> bytes | Refusal:
    announced = headers.get(b"content-length", b"0")
    too_large = not announced.isdigit() or int(announced) > limits.flag_body_bytes_max
    parts: list[bytes] = []
    size = 0
    more = not too_large
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return Refusal(400, "PARSE_ERROR", "body is broken off, must be whole and soundly chunked; send it again")
        part = message.get("body", b"")
        size += len(part)
        parts.append(part)
        too_large = size > limits.flag_body_bytes_max
        more = bool(message.get("more_body")) and not too_large
    if too_large:
        details = f"body bytes must be <= {limits.flag_body_bytes_max}; send only attributes that experiments use"
        return Refusal(413, "GENERAL", details)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _matches(if_none_match: bytes | None, etag: bytes) -> bool:
    if if_none_match is None:
        return False
    return any(tag.strip().removeprefix(b"W/") in {etag, b"*"} for tag in if_none_match.split(b","))


def _failure(error: GroundswellError) -> _Answer:
    """Return what the asker is told: of other rooms' errors only what it can act on, and in words of this module."""
    if isinstance(error, Unauthorized):
        return _Answer(401, _general(f"{str(error).partition(';')[0]}; {_ASK}"), [(b"www-authenticate", b"Bearer")])
    if isinstance(error, Overloaded):
        return _Answer(429, _general(str(error)), [(b"retry-after", str(ceil(error.retry_after_s)).encode())])
    if isinstance(error, Transient):
        _log.warning("flags_unavailable", error=str(error))
        return _Answer(503, _general("flags cannot be read just now; ask again later"), [(b"retry-after", b"1")])
    _log.error("flag_evaluation_failed", error=str(error))
    return _Answer(500, _general("the evaluation failed; ask whoever runs this server, its log says why"))


def _general(details: str) -> bytes:
    return msgspec.json.encode({"errorCode": "GENERAL", "errorDetails": details})
