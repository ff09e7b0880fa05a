"""HTTP intake, fsynced: the sender on the same cores as the collector and its log.

    python benchmarks/intake.py batches    batches of 500, as fast as answers come     target >= 150k events/s for 60 s
    python benchmarks/intake.py paced      batches of 500 at 50k events/s              target p99 <= 100 ms, memory flat
    python benchmarks/intake.py single     one event a request over 256 connections    target >= 5k/s
    python benchmarks/intake.py decode     bytes to typed batches, on one thread, no HTTP
    options: --seconds 60, --workers 2, --connections N, --rate 50000, --keep FOLDER

What was acknowledged is counted against the log afterwards. Results go to benchmarks/results/intake-<what>.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from load.events import definitions, events
from load.sender import Sent, request, send

from groundswell.errors import Unauthorized
from groundswell.model.definitions import Definitions

KEY = "gsw_benchmark"
BATCH = 500
RESULTS = Path(__file__).parent / "results"


class OneKey:
    """One source; definitions in memory."""

    def __init__(self) -> None:
        self._known = definitions()

    def definitions(self) -> Definitions:
        return self._known

    def resolve_key(self, key: str) -> str:
        if key != KEY:
            raise Unauthorized("write key is unknown")
        return "app"


def load(folder: Path) -> Any:
    from groundswell.collector.app import Collector
    from groundswell.collector.heartbeat import FileLeader, Heartbeat
    from groundswell.log.sqlite import SqliteEventLog
    from groundswell.model.clock import SystemClock

    clock = SystemClock()
    log = SqliteEventLog(folder / "log", clock=clock)
    heartbeat = Heartbeat(log, clock, leads=FileLeader(folder / "heartbeat.lock"))
    return Collector(log, OneKey(), clock, metrics_folder=folder / "metrics", heartbeat=heartbeat)


def serve_until_told(folder: Path, port: int, workers: int) -> None:
    from groundswell.collector.server import serve

    serve(partial(load, folder), port=port, workers=workers, metrics_folder=folder / "metrics")


class Watched:
    """The processes of a server: their memory, sampled, and the time they took of the cores."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self.samples: list[int] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()

    def pids(self) -> list[int]:
        children = Path(f"/proc/{self._pid}/task/{self._pid}/children").read_text(encoding="ascii").split()
        return [self._pid, *map(int, children)]

    def cpu_s(self) -> float:
        ticks = 0
        for pid in self.pids():
            fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def _sample(self) -> None:
        while not self._stop.wait(1.0):
            try:
                pages = [Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split() for pid in self.pids()]
            except OSError:
                return
            self.samples.append(sum(int(page[1]) - int(page[2]) for page in pages) * 4096)

    def close(self) -> None:
        self._stop.set()
        self._thread.join()


def machine() -> dict[str, Any]:
    memory = int(Path("/proc/meminfo").read_text(encoding="ascii").split()[1]) // 2**20
    return {
        "cores": os.cpu_count(),
        "memory_gib": memory,
        "python": platform.python_version(),
        "system": platform.system(),
    }


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def measure(options: argparse.Namespace, requests_of: Any, *, batch: int, connections: int, rate: float | None) -> None:
    folder = Path(options.keep or tempfile.mkdtemp(prefix="groundswell-intake-"))
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    command = [
        sys.executable,
        __file__,
        "serve",
        "--keep",
        str(folder),
        "--port",
        str(port),
        "--workers",
        str(options.workers),
    ]
    with subprocess.Popen(command) as server:
        try:
            wait_ready(port)
            requests = [request(port, body, KEY) for body in requests_of]
            send(port, requests, seconds=2, connections=4)  # warm up
            watched = Watched(server.pid)
            before_s, own_s = watched.cpu_s(), time.process_time()
            sent = send(port, requests, seconds=options.seconds, connections=connections, rate=rate)
            cpu_s, own_s = watched.cpu_s() - before_s, time.process_time() - own_s
            watched.close()
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait()
    report(options, sent, watched, batch=batch, connections=connections, cpu_s=cpu_s, own_s=own_s, folder=folder)


def report(
    options: argparse.Namespace,
    sent: Sent,
    watched: Watched,
    *,
    batch: int,
    connections: int,
    cpu_s: float,
    own_s: float,
    folder: Path,
) -> None:
    held = logged(folder)
    events_sent = sent.requests * batch
    half = len(watched.samples) // 2
    result = {
        "what": options.what,
        "machine": machine(),
        "workers": options.workers,
        "connections": connections,
        "events_a_request": batch,
        "seconds": round(sent.took_s, 1),
        "requests": sent.requests,
        "statuses": sent.statuses,
        "events_per_s": round(events_sent / sent.took_s),
        "requests_per_s": round(sent.requests / sent.took_s),
        "latency_ms": {name: round(percentile(sent.latencies_s, share) * 1000, 2) for name, share in SHARES.items()},
        "collector_cpu_us_per_event": round(cpu_s / events_sent * 1e6, 2),
        "sender_cpu_us_per_event": round(own_s / events_sent * 1e6, 2),
        "memory_mib": {
            "first_half_max": max(watched.samples[:half], default=0) // 2**20,
            "second_half_max": max(watched.samples[half:], default=0) // 2**20,
        },
        "log_bytes_per_event": round(log_bytes(folder) / max(1, held), 1),
        "logged": held,
    }
    write(result)
    acknowledged = sent.statuses.get(200, 0) * batch
    if held < acknowledged:
        raise SystemExit(f"acknowledged == {acknowledged}, but the log holds {held}")
    if not options.keep:
        shutil.rmtree(folder)


SHARES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p99.9": 0.999, "max": 1.0}


def logged(folder: Path) -> int:
    from groundswell.log.contract import EVENTS_TOPIC
    from groundswell.log.sqlite import SqliteEventLog
    from groundswell.model.clock import SystemClock

    log = SqliteEventLog(folder / "log", clock=SystemClock(), read_only=True)
    return sum(log.tally(EVENTS_TOPIC).values())


def log_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in (folder / "log").glob("segment-*.sqlite"))


def write(result: dict[str, Any]) -> None:
    text = json.dumps(result, indent=2)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"intake-{result['what']}.json").write_text(text + "\n", encoding="utf-8")
    sys.stdout.write(text + "\n")


def wait_ready(port: int) -> None:
    import http.client

    for _ in range(600):
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("GET", "/readyz")
            if connection.getresponse().status == 200:
                time.sleep(1.0)  # for the other workers
                return
        except OSError:
            time.sleep(0.1)
    raise SystemExit("the collector did not start")


def batches() -> list[bytes]:
    made = list(events(64 * BATCH))
    return [b"[" + b",".join(made[at : at + BATCH]) + b"]" for at in range(0, len(made), BATCH)]


def decode() -> None:
    from groundswell.wire.decode import Body, Decoder

    decoder = Decoder(definitions())
    bodies = [Body(body, "app", 1_767_700_000_000_000) for body in batches()]
    found: dict[str, float] = {}
    for name, groups in (
        ("batch of 500", [[body] for body in bodies]),
        ("8 batches of 500", [bodies[at : at + 8] for at in range(0, 64, 8)]),
    ):
        best = min(timed(decoder.decode_all, groups) for _ in range(10))
        found[name] = round(best / (64 * BATCH) * 1e6, 3)
    write(
        {
            "what": "decode",
            "machine": machine(),
            "cpu_us_per_event": found,
            "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        }
    )


def timed(function: Any, arguments: list[Any]) -> float:
    began = time.process_time()
    for argument in arguments:
        function(argument)
    return time.process_time() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["batches", "paced", "single", "decode", "serve"])
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--connections", type=int)
    parser.add_argument("--rate", type=float, default=50_000.0)
    parser.add_argument("--keep")
    parser.add_argument("--port", type=int)
    options = parser.parse_args()
    if options.what == "serve":
        serve_until_told(Path(options.keep), options.port, options.workers)
    elif options.what == "decode":
        decode()
    elif options.what == "batches":
        measure(options, batches(), batch=BATCH, connections=options.connections or 16, rate=None)
    elif options.what == "paced":
        measure(options, batches(), batch=BATCH, connections=options.connections or 32, rate=options.rate / BATCH)
    else:
        measure(options, list(events(20_000)), batch=1, connections=options.connections or 256, rate=None)


if __name__ == "__main__":
    main()
