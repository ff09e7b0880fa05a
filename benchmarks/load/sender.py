"""A sender of prepared HTTP requests: as many connections as asked, closed loop or at a steady rate.

At a rate, a request's time runs from when it was due, not from when a connection was free to send it, so that a stall
of the server is not hidden by senders that wait for it.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import Sequence
from typing import NamedTuple, cast

import uvloop


class Sent(NamedTuple):
    """What became of all requests. Times in seconds."""

    requests: int
    statuses: dict[int, int]
    took_s: float
    latencies_s: list[float]


def request(port: int, body: bytes, key: str) -> bytes:
    head = f"POST /v1/events HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\nx-write-key: {key}\r\n"
    return head.encode() + b"content-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body) + body


class _Connection(asyncio.Protocol):
    def __init__(self, load: _Load) -> None:
        self._load = load
        self._due_s = 0.0
        self._head = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._load.free(self)

    def send(self, content: bytes, due_s: float) -> None:
        self._due_s = due_s
        self._transport.write(content)

    def data_received(self, data: bytes) -> None:
        self._head += data
        end = self._head.find(b"\r\n\r\n")
        if end < 0:
            return
        at = self._head.lower().find(b"content-length: ") + 16
        length = int(self._head[at : self._head.find(b"\r", at)])
        if len(self._head) >= end + 4 + length:
            status = int(self._head[9:12])
            self._head = b""
            self._load.answered(status, self._due_s)
            self._load.free(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._load.lost(exc)


class _Load:
    def __init__(self, requests: Sequence[bytes], seconds: float, rate: float | None) -> None:
        self._requests = requests
        self._seconds = seconds
        self._rate = rate
        self._next = 0
        self._idle: deque[_Connection] = deque()
        self._due: deque[float] = deque()
        self._statuses: Counter[int] = Counter()
        self._latencies: list[float] = []
        self._open = 0
        self.error: str | None = None

    def free(self, connection: _Connection) -> None:
        if self._rate is None:
            now_s = time.perf_counter()
            if now_s < self._ends_s:
                self._give(connection, now_s)
        elif self._due:
            self._give(connection, self._due.popleft())
        else:
            self._idle.append(connection)

    def _give(self, connection: _Connection, due_s: float) -> None:
        self._open += 1
        connection.send(self._requests[self._next % len(self._requests)], due_s)
        self._next += 1

    def answered(self, status: int, due_s: float) -> None:
        self._open -= 1
        self._statuses[status] += 1
        self._latencies.append(time.perf_counter() - due_s)

    def lost(self, error: Exception | None) -> None:
        if self._open:
            self.error = f"connection lost: {error}"

    async def run(self, port: int, connections: int) -> Sent:
        loop = asyncio.get_running_loop()
        began_s = time.perf_counter()
        self._ends_s = began_s + self._seconds
        made = [await loop.create_connection(lambda: _Connection(self), "127.0.0.1", port) for _ in range(connections)]
        due_s = time.perf_counter()
        while (now_s := time.perf_counter()) < self._ends_s and not self.error:
            if self._rate is None:
                await asyncio.sleep(0.05)
                continue
            while due_s <= now_s:
                if self._idle:
                    self._give(self._idle.popleft(), due_s)
                else:
                    self._due.append(due_s)
                due_s += 1 / self._rate
            await asyncio.sleep(max(0.0, min(0.002, due_s - time.perf_counter())))
        took_s = time.perf_counter() - began_s
        for _ in range(600):
            if not self._open:
                break
            await asyncio.sleep(0.05)
        count = len(self._latencies)
        for transport, _ in made:
            transport.close()
        if self.error:
            raise ConnectionError(self.error)
        return Sent(count, dict(self._statuses), took_s, self._latencies)


def send(port: int, requests: Sequence[bytes], *, seconds: float, connections: int, rate: float | None = None) -> Sent:
    """Send ``requests`` over and over for ``seconds``: as fast as answers come, or ``rate`` of them a second."""
    return uvloop.run(_Load(requests, seconds, rate).run(port, connections))
