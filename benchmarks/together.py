"""Collector, ingest and compaction together, as `groundswell up` runs them, under a steady stream of events.

    python benchmarks/together.py [--rate 60000] [--seconds 600] [--note]

The sender is on the same cores. Lag is the number of events in the log that are not in the lake, looked at every
second; it must stay bounded. Afterwards the audit recounts everything and must find every promise kept.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import msgspec
from load.events import definitions, events
from load.sender import request, send

from groundswell.lake.contract import IngestState
from groundswell.log.contract import EVENTS_TOPIC
from groundswell.model.clock import SystemClock
from groundswell.model.definitions import SourceDef
from groundswell.wiring.installation import Installation
from groundswell.wiring.layout import Layout
from groundswell.wiring.supervisor import wait_ready
from groundswell.wiring.up import free_port, start_children

RESULTS = Path(__file__).parent / "results"
HOST = "127.0.0.1"
SOURCE = "app"
BATCH = 500
SETS = 40
ID = b'"event_id":"'
ID_CHARS = 36
CLOCK = SystemClock()


class Watch:
    """Looks at lag and memory every second."""

    def __init__(self, installation: Installation, pids: list[int]) -> None:
        self._installation = installation
        self._pids = pids
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.lag: list[int] = []
        self.memory_mib: list[float] = []
        self.files: list[int] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping.wait(1.0):
            snapshot = self._installation.lake.current()
            state = snapshot.state if snapshot else IngestState()
            self.lag.append(sum(self._installation.log.pending(EVENTS_TOPIC, state.offsets).values()))
            self.memory_mib.append(sum(_tree_mib(pid) for pid in self._pids))
            self.files.append(len(self._installation.lake.files()))


def _tree_mib(pid: int) -> float:
    """Return the resident memory of a process and its children."""
    total = 0.0
    try:
        total += int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
        for task in Path(f"/proc/{pid}/task").iterdir():
            total += sum(_tree_mib(int(child)) for child in (task / "children").read_text().split())
    except (FileNotFoundError, ProcessLookupError):
        return total
    return total


def measure(folder: Path, rate: int, seconds: float) -> dict[str, Any]:
    layout = Layout.create(folder / "data")
    with Installation(layout) as installation:
        defined = definitions()
        installation.store.apply(msgspec.structs.replace(defined, sources={SOURCE: SourceDef()}), by="benchmark")
        key = installation.store.create_key(SOURCE, by="benchmark")
    port = free_port(HOST)
    supervisor = start_children(layout, host=HOST, port=port, workers=1)
    try:
        wait_ready(HOST, port, clock=CLOCK, supervisor=supervisor)
        with Installation(layout) as installation:
            with Watch(installation, list(supervisor.pids().values())) as watch:
                sent = _send(port, key, rate, seconds)
            installation_lag = watch.lag
            _drain(installation)
    finally:
        supervisor.stop()
    with Installation(layout) as installation:
        audit = installation.audit()
        rows = sum(file.rows for file in installation.lake.files())
    half = len(installation_lag) // 2
    return {
        "sent": sent,
        "lag_events": {"first_half_max": max(installation_lag[:half]), "second_half_max": max(installation_lag[half:])},
        "memory_mib": {"first_half_max": max(watch.memory_mib[:half]), "second_half_max": max(watch.memory_mib[half:])},
        "files_max": max(watch.files),
        "rows_in_the_lake": rows,
        "audit_ok": audit.ok,
    }


def _send(port: int, key: str, rate: int, seconds: float) -> dict[str, Any]:
    """Send from a process of its own, so that what watches does not slow it."""
    command = [
        sys.executable,
        __file__,
        "--send",
        str(port),
        "--key",
        key,
        "--rate",
        str(rate),
        "--seconds",
        str(seconds),
    ]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout)


def sender(port: int, key: str, rate: int, seconds: float) -> None:
    sent = send(port, FreshBatches(port, key), seconds=seconds, connections=32, rate=rate / BATCH)
    latencies = sorted(sent.latencies_s)
    result = {
        "events": sent.requests * BATCH,
        "events_per_s": round(sent.requests * BATCH / sent.took_s),
        "statuses": sent.statuses,
        "p99_ms": round(1000 * latencies[int(len(latencies) * 0.99)], 1),
    }
    print(json.dumps(result))


class FreshBatches(Sequence[bytes]):
    """Requests whose events were never sent before: each gets a new id, but 1% have one that was sent before."""

    def __init__(self, port: int, key: str) -> None:
        made = list(events(SETS * BATCH, duplicates=0.0))
        self._port, self._key = port, key
        self._heads = [event[: event.index(ID) + len(ID)] for event in made]
        self._tails = [event[event.index(ID) + len(ID) + ID_CHARS :] for event in made]

    def __len__(self) -> int:
        return sys.maxsize

    def __getitem__(self, number: int) -> bytes:  # type: ignore[override]  # no slices
        begin = (number % SETS) * BATCH
        heads, tails = self._heads[begin : begin + BATCH], self._tails[begin : begin + BATCH]
        first = number * BATCH
        ids = [b"%0*d" % (ID_CHARS, first + place if place % 100 else place) for place in range(BATCH)]
        parts = (part for event in zip(heads, ids, tails, strict=True) for part in event)
        body = b"".join(parts).replace(b"}{", b"},{")
        return request(self._port, b"[" + body + b"]", self._key)


def _drain(installation: Installation) -> None:
    for _ in range(600):
        snapshot = installation.lake.current()
        if snapshot and not any(installation.log.pending(EVENTS_TOPIC, snapshot.state.offsets).values()):
            return
        CLOCK.sleep(0.2)
    sys.exit("the lake did not catch up in two minutes")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=int, default=60_000)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--note", action="store_true", help="write the result to benchmarks/results")
    parser.add_argument("--send", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--key", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.send:
        sender(asked.send, asked.key, asked.rate, asked.seconds)
        return
    with tempfile.TemporaryDirectory(prefix="groundswell-together-") as folder:
        result = measure(Path(folder), asked.rate, asked.seconds)
    machine = {"cores": os.cpu_count(), "python": platform.python_version(), "system": platform.system()}
    report = json.dumps({"what": "together", "machine": machine, "rate": asked.rate, **result}, indent=2)
    print(report)
    if asked.note:
        (RESULTS / "together.json").write_text(report + "\n")


if __name__ == "__main__":
    main()
