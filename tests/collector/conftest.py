"""A collector on an event loop of its own, called as a server would call it, and a real server in processes."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from groundswell.collector.app import Collector
from groundswell.collector.appender import Appender
from groundswell.errors import Unauthorized
from groundswell.log.contract import EVENTS_TOPIC, INTAKE_TOPIC, Entry
from groundswell.log.sqlite import SqliteEventLog
from groundswell.model.clock import SystemClock
from groundswell.model.definitions import Definitions, EventDef, PropertyDef
from groundswell.model.ledger import IntakeCounts
from groundswell.testing.log import MemoryEventLog
from groundswell.wire.intake import IntakeRecord, decode_intake
from groundswell.wire.record import RecordContent, decode_record

KEY: Final = "gsw_good"


class ManualControl:
    """Definitions and keys that a test may change."""

    def __init__(self) -> None:
        self.known = Definitions(
            version=1,
            properties={
                "watch_ms": PropertyDef(type="int"),
                "revenue": PropertyDef(type="float"),
                "title": PropertyDef(type="string"),
            },
            events={
                "view": EventDef(properties=("watch_ms", "title")),
                "purchase": EventDef(properties=("revenue",), required=("revenue",)),
            },
        )
        self.sources = {KEY: "web", "gsw_app": "app"}
        self.revoked: set[str] = set()

    def definitions(self) -> Definitions:
        return self.known

    def resolve_key(self, key: str) -> str:
        if key in self.revoked:
            raise Unauthorized("write key gsw_… of source web was revoked")
        if key not in self.sources:
            raise Unauthorized("write key is unknown")
        return self.sources[key]


class WatchedLog(MemoryEventLog):
    """A log in memory that can be held up and made to fail."""

    def __init__(self) -> None:
        super().__init__(clock=SystemClock())
        self.open = threading.Event()
        self.open.set()
        self.entered = threading.Semaphore(0)
        self.failure: Exception | None = None
        self.calls: list[Sequence[Entry]] = []

    def append(self, entries: Sequence[Entry]) -> list[tuple[int, int]]:
        self.entered.release()
        assert self.open.wait(20)
        if self.failure is not None:
            raise self.failure
        self.calls.append(entries)
        return super().append(entries)


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def counts(self) -> tuple[int, int, int, int]:
        told = self.json
        return told["received"], told["accepted"], told["dead_lettered"], told["refused"]


@dataclass
class Client:
    """Calls an ASGI application from the test's thread."""

    app: Any
    loop: asyncio.AbstractEventLoop
    key: str | None = KEY
    tasks: list[Any] = field(default_factory=list[Any])

    def send(
        self,
        body: bytes | Sequence[bytes] = b"",
        *,
        method: str = "POST",
        path: str = "/v1/events",
        query: str = "",
        hang: bool = False,
        length: bool = True,
        **headers: str,
    ) -> Any:
        """Begin a request and return its future. ``hang`` keeps its body from ever being complete."""
        chunks = [body] if isinstance(body, bytes) else list(body)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        if self.key is not None and not {"authorization", "x-write-key"} & named.keys():
            named["x-write-key"] = self.key
        if length and isinstance(body, bytes) and method == "POST":
            named.setdefault("content-length", str(len(body)))
        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "query_string": query.encode(),
            "headers": [(name.encode(), value.encode("latin-1")) for name, value in named.items()],
        }
        return asyncio.run_coroutine_threadsafe(self._call(scope, chunks, hang), self.loop)

    async def _call(self, scope: dict[str, Any], chunks: list[bytes], hang: bool) -> Answer:  # noqa: FBT001
        sent: list[dict[str, Any]] = []
        left = iter(chunks)
        count = len(chunks)

        async def receive() -> dict[str, Any]:
            nonlocal count
            count -= 1
            if count < 0:
                await asyncio.sleep(3600)
            return {"type": "http.request", "body": next(left), "more_body": count > 0 or hang}

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        await self.app(scope, receive, send)
        headers = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
        return Answer(sent[0]["status"], headers, b"".join(part.get("body", b"") for part in sent[1:]))

    def __call__(self, body: bytes | Sequence[bytes] = b"", **more: Any) -> Answer:
        return self.send(body, **more).result(20)

    def get(self, path: str) -> Answer:
        return self(b"", method="GET", path=path)


@pytest.fixture
def control() -> ManualControl:
    return ManualControl()


@pytest.fixture
def log() -> WatchedLog:
    return WatchedLog()


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    made = asyncio.new_event_loop()
    thread = threading.Thread(target=made.run_forever)
    thread.start()
    yield made
    made.call_soon_threadsafe(made.stop)
    thread.join()
    made.close()


Start = Callable[..., Client]


@pytest.fixture
def start(loop: asyncio.AbstractEventLoop, log: WatchedLog, control: ManualControl) -> Iterator[Start]:
    """Start a collector over ``log``; more is handed to it."""
    started: list[Collector] = []

    def begin(**more: Any) -> Client:
        clock = SystemClock()
        more.setdefault("appender", Appender(log, control, clock, wait_s=0.0))
        collector = Collector(log, control, clock, **more)
        asyncio.run_coroutine_threadsafe(collector.startup(), loop).result(20)
        started.append(collector)
        return Client(collector, loop)

    yield begin
    log.open.set()
    for collector in started:
        asyncio.run_coroutine_threadsafe(collector.shutdown(), loop).result(20)


@pytest.fixture
def client(start: Start) -> Client:
    return start()


# --- what is in a log ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Logged:
    """Everything a log holds."""

    contents: list[RecordContent]
    intake: list[IntakeRecord]

    def rows(self) -> list[dict[str, Any]]:
        return [row for content in self.contents for row in content.batch.to_pylist()]

    def dead(self) -> list[dict[str, Any]]:
        return [row for content in self.contents for row in content.dead.to_pylist()]

    def counts(self) -> dict[str, IntakeCounts]:
        total: dict[str, IntakeCounts] = {}
        for record in self.intake:
            for source, counts in record.counts.items():
                total[source] = total.get(source, IntakeCounts()) + counts
        return total

    def reasons(self) -> dict[str, int]:
        total: dict[str, int] = {}
        for record in self.intake:
            for by_reason in record.reasons.values():
                for reason, count in by_reason.items():
                    total[reason] = total.get(reason, 0) + count
        return total


def read_all(log: Any) -> Logged:
    """Return all a log holds, and check that its tally agrees with its records and with the intake ledger."""

    def payloads(topic: str, partition: int) -> Iterator[Any]:
        at, end = log.begins(topic)[partition], log.ends(topic)[partition]
        while at < end:
            for record in log.read(topic, partition, at, bytes_max=2**24):
                at = record.offset + 1
                yield record

    contents: list[RecordContent] = []
    tally: dict[str, int] = {}
    for partition in range(log.partitions(EVENTS_TOPIC)):
        for record in payloads(EVENTS_TOPIC, partition):
            content = decode_record(record.payload)
            assert sum(record.counts.values()) == content.batch.num_rows + content.dead.num_rows
            for source, count in record.counts.items():
                tally[source] = tally.get(source, 0) + count
            contents.append(content)
    logged = Logged(contents, [decode_intake(record.payload) for record in payloads(INTAKE_TOPIC, 0)])
    assert tally == {source: count for (source, _), count in log.tally(EVENTS_TOPIC).items()}
    assert tally == {source: counts.accepted for source, counts in logged.counts().items() if counts.accepted}
    assert all(counts.balanced for counts in logged.counts().values())
    return logged


@pytest.fixture
def read_log() -> Callable[[Any], Logged]:
    return read_all


# --- a real server ---------------------------------------------------------------------------------------------


@dataclass
class Served:
    """A server of two workers over a SQLite log."""

    folder: Path
    port: int
    process: subprocess.Popen[bytes]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def workers(self) -> list[int]:
        """Return the process ids of the workers."""
        children = (
            Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text(encoding="ascii").split()
        )
        return [
            int(child) for child in children if b"resource_tracker" not in Path(f"/proc/{child}/cmdline").read_bytes()
        ]

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)

    def kill(self) -> None:
        """End every process at once, as a power cut would."""
        for pid in [self.process.pid, *self.workers()]:
            os.kill(pid, signal.SIGKILL)
        self.process.wait(30)

    def read(self) -> Logged:
        log = SqliteEventLog(self.folder / "log", clock=SystemClock(), read_only=True)
        try:
            return read_all(log)
        finally:
            log.close()

    def output(self) -> str:
        return (self.folder / "output").read_text(encoding="utf-8")


def begin_serving(folder: Path) -> Served:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    script = Path(__file__).with_name("served.py")
    with (folder / "output").open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, str(script), str(folder), str(port)], stdout=output, stderr=subprocess.STDOUT
        )
    served = Served(folder, port, process)
    for _ in range(300):
        if process.poll() is not None:
            break
        try:
            if httpx.get(served.url + "/readyz", timeout=5).status_code == 200 and len(served.workers()) == 2:
                return served
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    process.kill()
    process.wait()
    raise AssertionError(served.output())


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[[], Served]]:
    started: list[Served] = []

    def begin() -> Served:
        started.append(begin_serving(tmp_path))
        return started[-1]

    yield begin
    for served in started:
        if served.process.poll() is None:
            served.kill()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    one = begin_serving(tmp_path_factory.mktemp("served"))
    yield one
    if one.process.poll() is None:
        assert one.stop() == 0, one.output()
