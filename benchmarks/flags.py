"""Flags: how fast units are assigned, and how fast OFREP answers over HTTP.

    python benchmarks/flags.py [--requests 40000] [--connections 32]

The server is one worker process with six experiments, the asker another process on the same machine.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import socket
import sys
import time
from functools import partial
from multiprocessing.connection import Connection
from typing import Any

import pyarrow as pa
import uvloop

from groundswell.allocation.assign import Allocator
from groundswell.collector.server import serve
from groundswell.model.clock import SystemClock
from groundswell.model.definitions import Definitions, ExperimentDef
from groundswell.web.ofrep import OFREP_PREFIX, build_ofrep

EXPERIMENT = ExperimentDef(variants={"control": 50, "treatment": 50}, start="2026-01-05")
BODY = b'{"context":{"targetingKey":"user-12345","email":"a@example.com","plan":"premium","country":"CA"}}'


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


class Flags:
    """Six experiments in memory."""

    def __init__(self) -> None:
        self._definitions = Definitions(version=1, experiments={f"experiment_{n}": EXPERIMENT for n in range(6)})

    def definitions(self) -> Definitions:
        return self._definitions

    def authorize(self, key: str | None) -> str:
        return key or "anyone"


def load() -> Any:
    flags = build_ofrep(Flags(), SystemClock(), requests_per_s_max=1e9)

    async def application(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await flags(scope, receive, send)
            return
        while (message := await receive())["type"] != "lifespan.shutdown":
            await send({"type": f"{message['type']}.complete"})
        await send({"type": "lifespan.shutdown.complete"})

    return application


class Asker(asyncio.Protocol):
    """One connection that asks again as soon as it was answered."""

    def __init__(self, request: bytes, asked: list[int], took: list[float], done: asyncio.Future[None]) -> None:
        self._request, self._asked, self._took, self._done = request, asked, took, done
        self._held = b""
        self._began = 0.0

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._ask()

    def _ask(self) -> None:
        if not self._asked[0]:
            self._transport.close()
            self._done.set_result(None)
            return
        self._asked[0] -= 1
        self._began = time.perf_counter()
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._held += data
        head, found, rest = self._held.partition(b"\r\n\r\n")
        if not found:
            return
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        if len(rest) >= length:
            if not head.startswith(b"HTTP/1.1 200"):
                raise AssertionError(head)
            self._took.append(time.perf_counter() - self._began)
            self._held = b""
            self._ask()


async def ask(port: int, path: str, requests: int, connections: int) -> dict[str, float]:
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(BODY)}\r\n\r\n"
    loop = asyncio.get_running_loop()
    left, took = [requests], list[float]()
    began = time.perf_counter()
    waiting: list[asyncio.Future[None]] = []
    for _ in range(connections):
        done = loop.create_future()
        waiting.append(done)
        await loop.create_connection(partial(Asker, head.encode() + BODY, left, took, done), "127.0.0.1", port)
    await asyncio.gather(*waiting)
    seconds = time.perf_counter() - began
    took.sort()
    return {
        "per_s": requests / seconds,
        "p50_ms": took[requests // 2] * 1e3,
        "p99_ms": took[requests * 99 // 100] * 1e3,
    }


def client(port: int, requests: int, connections: int, answer: Connection) -> None:
    for _ in range(1_000):
        with socket.socket() as knock:
            if knock.connect_ex(("127.0.0.1", port)) == 0:
                break
        time.sleep(0.02)
    one = uvloop.run(ask(port, f"{OFREP_PREFIX}/experiment_0", requests, connections))
    six = uvloop.run(ask(port, OFREP_PREFIX, requests // 2, connections))
    answer.send({"one_flag": one, "six_flags": six})
    os.kill(os.getppid(), 15)


def allocation() -> dict[str, float]:
    allocator = Allocator("new_checkout", EXPERIMENT)
    ids = [f"user-{number}" for number in range(1_000_000)]
    column = pa.array(ids)
    allocator.variant_column(column)
    began = time.process_time()
    allocator.variant_column(column)
    vector = time.process_time() - began
    began = time.process_time()
    for unit in ids[:200_000]:
        allocator.variant(unit)
    return {"column_ns": vector * 1e3, "scalar_ns": (time.process_time() - began) / 200_000 * 1e9}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=40_000)
    parser.add_argument("--connections", type=int, default=32)
    asked = parser.parse_args()
    assigned = allocation()
    say(f"  assign: {assigned['column_ns']:.0f} ns of CPU an id in a column, {assigned['scalar_ns']:,.0f} ns alone")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    receiver, sender = multiprocessing.Pipe(duplex=False)
    asker = multiprocessing.get_context("spawn").Process(
        target=client, args=(port, asked.requests, asked.connections, sender)
    )
    asker.start()
    serve(load, port=port)
    asker.join()
    answered = receiver.recv()
    for name, found in answered.items():
        say(f"  OFREP, {name}: {found['per_s']:,.0f}/s, p50 {found['p50_ms']:.2f} ms, p99 {found['p99_ms']:.2f} ms")
    say(json.dumps({"benchmark": "flags", **assigned, **answered}))


if __name__ == "__main__":
    main()
