"""Exact deduplication: in memory, with 100 million fingerprints in runs, and how long a restart takes.

    python benchmarks/fingerprints.py [--millions 100] [--folder FOLDER] [--note]

Batches of 100,000 events, 1% of them duplicates of any earlier event. Every fate is checked by count. CPU time is shown
beside wall time, which has the disk's syncs in it. Needs about 25 B of disk a fingerprint, twice that while runs merge.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from groundswell.ingest.fingerprints import NEW, PartitionFingerprints

RESULTS = Path(__file__).parent / "results"
BATCH = 100_000
DUPLICATES = 1_000
GROWN_MILLIONS = 2.0  # the memory table has its size
HOT_MILLIONS = 3.5  # below the memory table's 4 million
LAST_MILLIONS = 10
FOREVER_S = 1e9

UInt64s = npt.NDArray[np.uint64]


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def mix(words: UInt64s) -> UInt64s:
    """Return words that look like hashes (the finaliser of splitmix64)."""
    words = words + np.uint64(0x9E3779B97F4A7C15)
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))


def batch(number: int) -> UInt64s:
    ids = np.arange(number * BATCH, (number + 1) * BATCH, dtype=np.uint64)
    if number:
        earlier = np.random.default_rng(number).integers(0, number, (DUPLICATES, 2), dtype=np.uint64)
        within = np.random.default_rng(-number % 2**32).integers(DUPLICATES, BATCH, DUPLICATES, dtype=np.uint64)
        ids[:DUPLICATES] = earlier[:, 0] * np.uint64(BATCH) + within  # never one that was itself replaced
    return ids


def feed(index: PartitionFingerprints, first: int, last: int) -> dict[str, float]:
    """Admit batches ``first`` to ``last``; return nanoseconds an event and the longest pause."""
    cpu = wall = longest = 0.0
    for number in range(first, last):
        ids = batch(number)
        h1, h2, content = mix(ids).view(np.int64), mix(ids + np.uint64(1 << 60)).view(np.int64), ids.view(np.int64)
        began, spent = time.perf_counter(), time.process_time()
        fates = index.admit(h1, h2, content)
        index.advance(number + 1, number)
        index.settle(number)
        cpu += time.process_time() - spent
        took = time.perf_counter() - began
        wall += took
        longest = max(longest, took)
        new = int((fates == NEW).sum())
        assert new == (BATCH - DUPLICATES if number else BATCH), (number, new)
    events = (last - first) * BATCH
    return {"cpu_ns": cpu / events * 1e9, "wall_ns": wall / events * 1e9, "longest_pause_ms": longest * 1e3}


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def run(folder: Path, millions: float) -> dict[str, Any]:
    found: dict[str, Any] = {}

    def note(name: str, value: dict[str, float]) -> None:
        found[name] = {key: round(number, 3) for key, number in value.items()}
        say(f"  {name:24} " + ", ".join(f"{key} {number:,.4g}" for key, number in value.items()))

    warm = PartitionFingerprints.open(folder / "warm", 0, 0, window_s=FOREVER_S)
    feed(warm, 0, 3)  # compiled code is loaded
    index = PartitionFingerprints.open(folder / "index", 0, 0, window_s=FOREVER_S)
    grown, hot, total, last = (int(m * 1e6 / BATCH) for m in (GROWN_MILLIONS, HOT_MILLIONS, millions, LAST_MILLIONS))
    note("while the table grows", feed(index, 0, grown))
    note("hot", feed(index, grown, hot))
    note("growing", feed(index, hot, total))
    note("with runs", {**feed(index, total, total + last), **{k: float(v) for k, v in index.size._asdict().items()}})
    note("memory", {"peak_mb": peak_mb()})
    covered = index.covered
    del index
    began, spent = time.perf_counter(), time.process_time()
    again = PartitionFingerprints.open(folder / "index", 0, covered, window_s=FOREVER_S)
    note("open", {"s": time.perf_counter() - began, "cpu_s": time.process_time() - spent})
    note(
        "rebuild and go on", {**feed_known(again, covered, total + last), **feed(again, total + last, total + last + 5)}
    )
    return found


def feed_known(index: PartitionFingerprints, first: int, last: int) -> dict[str, float]:
    """Admit again what no run holds, as a restart does."""
    began = time.perf_counter()
    for number in range(first, last):
        ids = batch(number)
        index.admit(mix(ids).view(np.int64), mix(ids + np.uint64(1 << 60)).view(np.int64), ids.view(np.int64))
        index.advance(number + 1, number)
    return {"batches_again": float(last - first), "again_s": time.perf_counter() - began}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--millions", type=float, default=100.0, help="fingerprints in the index before the last measurement"
    )
    parser.add_argument("--folder", type=Path, default=None, help="on which disk; a temporary folder is made in it")
    parser.add_argument("--note", action="store_true", help="write the result to benchmarks/results")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=asked.folder, prefix="groundswell-bench-") as folder:
        result = run(Path(folder), asked.millions)
    machine = {
        "cores": os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9),
    }
    answer = json.dumps(
        {"benchmark": "fingerprints", "machine": machine, "millions": asked.millions, "result": result}, indent=2
    )
    if asked.note:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / "fingerprints.json").write_text(answer + "\n", encoding="utf-8")
    say(answer)


if __name__ == "__main__":
    main()
