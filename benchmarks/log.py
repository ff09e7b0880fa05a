"""The SQLite log: durable appends and reads.

    python benchmarks/log.py [--seconds 5] [--folder FOLDER] [--note]

Appends are fsynced; how many a second there can be is the disk's word, so the CPU time of each is shown too. Reads are
of what was just written, so they come from the page cache. What was acknowledged is counted at the end, and verified.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from groundswell.log.contract import Entry
from groundswell.log.sqlite import SqliteEventLog
from groundswell.model.clock import SystemClock

RESULTS = Path(__file__).parent / "results"
BATCH = os.urandom(200_000)  # a request of 500 events, typed
EVENT = os.urandom(300)

APPENDER = """
import os, sys, time
from groundswell.log.contract import Entry
from groundswell.log.sqlite import SqliteEventLog
from groundswell.model.clock import SystemClock
log = SqliteEventLog(sys.argv[1], clock=SystemClock())
body, stop, done = os.urandom(200_000), time.monotonic() + float(sys.argv[2]), 0
while time.monotonic() < stop:
    log.append([Entry("events", done % 4, body, {"web": 500})])
    done += 1
log.close()
sys.stdout.write(str(done))
"""


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def timed(seconds: float, once: Callable[[int], int]) -> dict[str, float]:
    """Call ``once``, which returns bytes, for ``seconds``; return calls and MB a second, and what a call costs."""
    calls = size = 0
    slowest = 0.0
    wall, cpu = time.perf_counter(), time.process_time()
    while time.perf_counter() - wall < seconds:
        began = time.perf_counter()
        size += once(calls)
        slowest = max(slowest, time.perf_counter() - began)
        calls += 1
    took = time.perf_counter() - wall
    spent = (time.process_time() - cpu) / max(calls, 1) * 1000
    return {
        "per_s": calls / took,
        "mb_s": size / took / 1e6,
        "cpu_ms": spent,
        "slowest_ms": slowest * 1000,
        "calls": calls,
    }


def append_one(log: SqliteEventLog, body: bytes, events: int) -> Callable[[int], int]:
    def once(number: int) -> int:
        log.append([Entry("events", number % 4, body, {"web": events})])
        return len(body)

    return once


def append_by_threads(log: SqliteEventLog, threads: int, seconds: float) -> dict[str, float]:
    totals = [0] * threads
    stop = time.perf_counter() + seconds

    def work(me: int) -> None:
        while time.perf_counter() < stop:
            log.append([Entry("events", me % 4, EVENT, {"web": 1})])
            totals[me] += 1

    cpu = time.process_time()
    workers = [threading.Thread(target=work, args=(me,)) for me in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    calls = sum(totals)
    return {"per_s": calls / seconds, "cpu_ms": (time.process_time() - cpu) / calls * 1000, "calls": calls}


def append_by_processes(folder: Path, processes: int, seconds: float) -> dict[str, float]:
    command = [sys.executable, "-c", APPENDER, str(folder), str(seconds)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(processes)]
    done = [int(process.communicate()[0]) for process in running]
    return {"per_s": sum(done) / seconds, "least_per_s": min(done) / seconds, "calls": sum(done)}


def read_all(log: SqliteEventLog, bytes_max: int) -> dict[str, float]:
    size = records = 0
    wall, cpu = time.perf_counter(), time.process_time()
    for partition, begin in log.begins("events").items():
        start = begin
        while found := log.read("events", partition, start, bytes_max=bytes_max):
            start = found[-1].offset + 1
            records += len(found)
            size += sum(len(record.payload) for record in found)
    took = time.perf_counter() - wall
    return {
        "mb_s": size / took / 1e6,
        "records_s": records / took,
        "cpu_s": time.process_time() - cpu,
        "mb": size / 1e6,
    }


def run(folder: Path, seconds: float) -> dict[str, Any]:
    found: dict[str, Any] = {}

    def note(name: str, value: dict[str, float]) -> None:
        found[name] = {key: round(number, 3) for key, number in value.items()}
        say(f"  {name:24} " + ", ".join(f"{key} {number:,.3g}" for key, number in value.items()))

    large = SqliteEventLog(folder / "large", clock=SystemClock())
    note("append 200 kB", timed(seconds, append_one(large, BATCH, 500)))
    note("read 200 kB records", read_all(large, 8 << 20))
    note("append by 3 processes", append_by_processes(folder / "large", 3, seconds))
    small = SqliteEventLog(folder / "small", clock=SystemClock())
    note("append 300 B", timed(seconds, append_one(small, EVENT, 1)))
    note("append 300 B, 32 threads", append_by_threads(small, 32, seconds))
    note("read 300 B records", read_all(small, 8 << 20))
    began = time.perf_counter()
    for log in (large, small):
        log.maintain({})
        findings = log.verify()
        assert findings == [], findings
    note("verify", {"s": time.perf_counter() - began, "segments": len(large.segments()) + len(small.segments())})
    calls = sum(found[name]["calls"] for name in ("append 200 kB", "append by 3 processes"))
    assert large.tally("events") == {("web", "live"): 500 * calls}, "what was acknowledged is there"
    large.close()
    small.close()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each append")
    parser.add_argument("--folder", type=Path, default=None, help="on which disk; a temporary folder is made in it")
    parser.add_argument("--note", action="store_true", help="write the result to benchmarks/results")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=asked.folder, prefix="groundswell-bench-") as folder:
        result = run(Path(folder), asked.seconds)
    machine = {
        "cores": os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9),
    }
    answer = json.dumps({"benchmark": "log", "machine": machine, "result": result}, indent=2)
    if asked.note:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / "log.json").write_text(answer + "\n", encoding="utf-8")
    say(answer)


if __name__ == "__main__":
    main()
