"""The collector as an ASGI application, without a framework on the way of an event.

    POST /v1/events    events in, verdicts out
    GET  /healthz      the process runs
    GET  /readyz       it can take events
    GET  /metrics      for Prometheus

Invariants
    a 2xx is sent only after every event it answers for is durable
    a sender is told what became of each event, or that nothing did and when to come back
    no traceback and no text of a driver reaches a sender
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, MutableMapping
from functools import partial
from pathlib import Path
from typing import Any, Final

import structlog

from groundswell.collector.appender import Appender, GroupStats
from groundswell.collector.bodies import BodyFault, ClientGone, Receiver
from groundswell.collector.heartbeat import Heartbeat
from groundswell.collector.keys import source_of
from groundswell.collector.metrics import Meter
from groundswell.collector.ports import Control
from groundswell.collector.replies import Reply, failure, reply_of
from groundswell.errors import Overloaded, Transient, Unauthorized, Unavailable
from groundswell.log.contract import EventLog
from groundswell.model.clock import Clock
from groundswell.model.spelling import spelled
from groundswell.wire.body import Form
from groundswell.wire.decode import Body, Outcome
from groundswell.wire.faults import Refused
from groundswell.wire.intake import UNKNOWN_SOURCE

__all__ = ["PATHS", "Collector"]

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

PATHS: Final = frozenset(("/v1/events", "/healthz", "/readyz", "/metrics"))
_LINES: Final = frozenset(
    ("application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonlines")
)
_log = structlog.get_logger(__name__)


class Collector:
    """An ASGI application. Start and stop it by ASGI lifespan, or by ``startup`` and ``shutdown``."""

    def __init__(
        self,
        log: EventLog,
        control: Control,
        clock: Clock,
        *,
        metrics_folder: Path | None = None,
        heartbeat: Heartbeat | None = None,
        receiver: Receiver | None = None,
        appender: Appender | None = None,
    ) -> None:
        self._control = control
        self._clock = clock
        self._meter = Meter(metrics_folder)
        self._heartbeat = heartbeat
        self._receiver = receiver or Receiver()
        self._appender = appender or Appender(log, control, clock)
        self._appender.observe = self._appended
        self._answers: _Answers | None = None

    async def startup(self) -> None:
        """Start the appender's thread, and the heart."""
        self._answers = _Answers(asyncio.get_running_loop())
        self._appender.start()
        if self._heartbeat:
            self._heartbeat.start()

    async def shutdown(self) -> None:
        """Take no more events, append those that wait, and answer their senders."""
        loop = asyncio.get_running_loop()
        if self._heartbeat:
            await loop.run_in_executor(None, self._heartbeat.stop)
        await loop.run_in_executor(None, self._appender.stop)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["type"] == "http":
            started_s = self._clock.monotonic_s()
            try:
                reply = await self._route(scope, receive)
            except ClientGone:  # or its chunks are broken, which looks the same from here: then it still listens
                reply = failure(400, "broken_body", _BROKEN)
            except Exception:  # noqa: BLE001 - a sender gets an answer, and no traceback
                _log.exception("collector.failed", path=scope["path"])
                reply = failure(500, "internal", "the collector failed; nothing was taken, send the same events again")
            await _send(send, reply, head=scope["method"] == "HEAD")
            self._meter.count("requests", str(reply.status))
            if scope["path"] == "/v1/events":
                self._meter.observe("request_seconds", self._clock.monotonic_s() - started_s)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                await self.startup()
                await send({"type": "lifespan.startup.complete"})
            elif message["type"] == "lifespan.shutdown":
                await self.shutdown()
                await send({"type": "lifespan.shutdown.complete"})
                return

    async def _route(self, scope: Scope, receive: Receive) -> Reply:
        path, method = scope["path"], scope["method"]
        allowed = "POST" if path == "/v1/events" else "GET, HEAD"
        if path not in PATHS:
            return failure(
                404, "not_found", f"path == {spelled(path[:100])}, must be one of {', '.join(sorted(PATHS))}"
            )
        if method not in allowed.split(", "):
            return failure(405, "bad_method", f"method == {spelled(method[:20])}, must be {allowed}", allow=allowed)
        if path == "/v1/events":
            return await self._events(scope, receive)
        if path == "/metrics":
            return self._metrics()
        return self._ready() if path == "/readyz" else Reply(200, b'{"status":"ok"}')

    # --- events ------------------------------------------------------------------------------------------------

    async def _events(self, scope: Scope, receive: Receive) -> Reply:
        headers = _headers(scope)
        source = UNKNOWN_SOURCE
        try:
            source = source_of(self._control, headers.get(b"authorization"), headers.get(b"x-write-key"))
            length = _length(headers)
            form = _form(headers.get(b"content-type", b""))
            encoding = headers.get(b"content-encoding", b"").decode("latin-1").strip().lower()
            data = await self._receiver.receive(receive, length=length, encoding=encoding)
            self._meter.count("body_bytes", by=len(data))
            outcome = await self._durable(Body(data, source, self._clock.now_us(), form))
        except BodyFault as fault:
            self._refuse(source, fault.reason, str(fault), counted=fault.status != 503)
            return failure(fault.status, fault.reason, str(fault), retry_after_s=fault.retry_after_s)
        except Unauthorized as error:
            self._refuse(source, "unauthorized", str(error))
            return failure(401, "unauthorized", str(error))
        except Overloaded as error:
            return failure(503, "overloaded", str(error), retry_after_s=error.retry_after_s)
        except Transient as error:
            return failure(503, "unavailable", str(error), retry_after_s=_UNAVAILABLE_RETRY_S)
        self._count(outcome)
        return reply_of(outcome, every=b"verdicts=all" in scope["query_string"].split(b"&"))

    async def _durable(self, body: Body) -> Outcome:
        """Hand a body to the appender and wait until it is on disk."""
        if self._answers is None:
            raise Unavailable("the collector has not started; send the same events again later")
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._appender.submit(body, partial(self._answers.give, future))
        return await future

    def _refuse(self, source: str, reason: str, message: str, *, counted: bool = True) -> None:
        """Count a request of which nothing was taken. What will be sent again is not counted: it was not received."""
        if counted:
            self._appender.count_refused(source, Refused(-1, reason, message, b""))
            self._meter.count("events", "refused")
            self._meter.count("refused", reason)

    def _count(self, outcome: Outcome) -> None:
        refused, dead = len(outcome.refused), len(outcome.dead)
        self._meter.count("events", "accepted", outcome.received - refused - dead)
        if dead:
            self._meter.count("events", "dead_lettered", dead)
        if refused:
            self._meter.count("events", "refused", refused)
            for one in outcome.refused:
                self._meter.count("refused", one.reason)

    # --- about itself ------------------------------------------------------------------------------------------

    def _ready(self) -> Reply:
        if self._answers is None or not self._appender.alive:
            return failure(503, "not_running", "the collector is starting or stopping", retry_after_s=1)
        problem = self._appender.problem
        if problem is not None:
            return failure(503, "unavailable", problem, retry_after_s=_UNAVAILABLE_RETRY_S)
        return Reply(200, b'{"status":"ready"}')

    def _metrics(self) -> Reply:
        self._meter.set("queued_bytes", self._appender.queued_bytes)
        self._meter.set("receiving_bytes", self._receiver.receiving_bytes)
        return Reply(200, self._meter.render(), b"text/plain; version=0.0.4; charset=utf-8")

    def _appended(self, stats: GroupStats) -> None:
        """Told by the appender's thread; it alone writes these."""
        self._meter.count("appends", "durable" if stats.durable else "failed")
        self._meter.observe("decode_seconds", stats.decode_s)
        self._meter.observe("append_seconds", stats.append_s)


class _Answers:
    """Carries answers from the appender's thread to the event loop, waking it once for many."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._ready: deque[tuple[asyncio.Future[Outcome], Outcome | Exception]] = deque()

    def give(self, future: asyncio.Future[Outcome], answer: Outcome | Exception) -> None:
        self._ready.append((future, answer))
        if len(self._ready) == 1:
            self._loop.call_soon_threadsafe(self._deliver)

    def _deliver(self) -> None:
        while self._ready:
            future, answer = self._ready.popleft()
            if future.done():  # the client hung up
                continue
            if isinstance(answer, Exception):
                future.set_exception(answer)
            else:
                future.set_result(answer)


def _headers(scope: Scope) -> dict[bytes, bytes]:
    return {name.lower(): value for name, value in scope["headers"]}


def _length(headers: dict[bytes, bytes]) -> int | None:
    value = headers.get(b"content-length")
    if value is None:
        return None
    if not value.isdigit() or len(value) > _LENGTH_DIGITS_MAX:
        raise BodyFault(
            400, "bad_length", f"content-length == {spelled(value[:32])}, must be a whole number; {_LENGTH_HINT}"
        )
    return int(value)


def _form(content_type: bytes) -> Form:
    """Return ``ndjson`` where the sender says so; any other type is no promise (beacons say text/plain)."""
    media = content_type.decode("latin-1").partition(";")[0].strip().lower()
    return "ndjson" if media in _LINES else "auto"


async def _send(send: Send, reply: Reply, *, head: bool) -> None:
    headers = [
        (b"content-type", reply.content_type),
        (b"content-length", str(len(reply.body)).encode()),
        *reply.headers,
    ]
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if head else reply.body})


_UNAVAILABLE_RETRY_S: Final = 5  # a full disk or a locked log takes a person, or another process's long transaction
_BROKEN: Final = "body is broken off, must be whole and soundly chunked; nothing was taken, send the same events again"
_LENGTH_DIGITS_MAX: Final = 18
_LENGTH_HINT: Final = "let your HTTP library set it"
