"""Typed log -> lake, deduplicated, exactly once; and how fast ingest is back after a kill.

    python benchmarks/ingest.py throughput --events 50000000     log -> lake, wall and CPU time, memory
    python benchmarks/ingest.py latency --rate 20000 --seconds 60  accepted -> in the lake, p50/p99
    python benchmarks/ingest.py restart --fingerprints 100000000  from opening to the next commit
    options: --data FOLDER (the log is built once and kept), --workers 2, --record 2000 (events of one log record)

The events: 8 envelope fields, 3 to 5 properties, 5 types, ids of 32 hex digits, 1% retries, 0.1% dead letters; as JSON
about 300 B each. They are built as typed batches, for decoding is measured elsewhere.
"""

from __future__ import annotations

import argparse
import binascii
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from groundswell import limits
from groundswell.ingest.committer import Committer
from groundswell.ingest.fingerprints import PartitionFingerprints
from groundswell.ingest.service import IngestService
from groundswell.ingest.worker import Fingerprints, IngestWorker
from groundswell.lake.iceberg import IcebergLake
from groundswell.log.contract import EVENTS_TOPIC, Entry, EventLog
from groundswell.log.sqlite import SqliteEventLog
from groundswell.model.clock import SystemClock
from groundswell.model.definitions import Definitions, EventDef, PropertyDef
from groundswell.wire.hashing import content_hashes, fingerprints, unit_columns
from groundswell.wire.partition import split
from groundswell.wire.record import RecordContent, encode_record
from groundswell.wire.schema import DEAD_SCHEMA, TIMESTAMP

RESULTS = Path(__file__).parent / "results"
SOURCE = "app"
DAY_US = 86_400_000_000
TYPES = ("view", "like", "share", "purchase", "search")
DEFINITIONS = Definitions(
    version=1,
    properties={
        "watch_ms": PropertyDef(type="int"),
        "depth": PropertyDef(type="float"),
        "item": PropertyDef(type="string"),
        "revenue": PropertyDef(type="float"),
        "autoplay": PropertyDef(type="bool"),
    },
    events={kind: EventDef(properties=("watch_ms", "depth", "item", "revenue", "autoplay")) for kind in TYPES},
).with_builtins()


class Maker:
    """Makes batches of events; 1% of rows repeat rows of the batch before."""

    def __init__(self, seed: int = 7) -> None:
        self._rng = np.random.default_rng(seed)
        self._words = {
            "type": pa.array(TYPES),
            "country": pa.array(["DE", "FR", "US", "GB", "IN", "BR", "JP", "NL"]),
            "platform": pa.array(["ios", "android", "web"]),
            "app_version": pa.array([f"7.{minor}.0" for minor in range(20)]),
            "user_id": pa.array([f"user-{number:08d}" for number in range(1_000_000)]),
            "item": pa.array([f"item-{number:05d}" for number in range(20_000)]),
        }

    def batch(self, rows: int, now_us: int) -> pa.RecordBatch:
        """Return a typed batch as the decoder makes it."""
        rng = self._rng
        fresh = max(1, rows - rows // 100)
        given: dict[str, Any] = {"event_id": self._hex(fresh)}
        for name, words in self._words.items():
            given[name] = words.take(pa.array(rng.integers(0, len(words), fresh)))
        given["session_id"] = self._hex(fresh)
        given["ts"] = pa.array(now_us - rng.integers(0, 60_000_000, fresh), TIMESTAMP)
        given["watch_ms"] = pa.array(rng.integers(0, 60_000, fresh))
        given["depth"] = pa.array(np.round(rng.random(fresh), 3))
        bought = rng.random(fresh) < 0.2
        given["revenue"] = pa.array(np.round(rng.random(fresh) * 100, 2), mask=~bought)
        given["autoplay"] = pa.array(rng.random(fresh) < 0.5)
        again = np.concatenate([np.arange(fresh), rng.integers(0, fresh, rows - fresh)])
        given = {name: column.take(pa.array(again)) for name, column in given.items()}
        unit_hash, unit_kind = unit_columns(given["user_id"], None, None, rows)
        event_hash, _ = fingerprints(SOURCE, given["event_id"])
        content = content_hashes({name: column for name, column in given.items() if name != "event_id"}, rows)
        ours = {
            "received_at": pa.array(np.full(rows, now_us), TIMESTAMP),
            "source": pa.array([SOURCE]).take(pa.array(np.zeros(rows, np.int32))),
            "unit_hash": unit_hash,
            "unit_kind": unit_kind,
            "event_hash": pa.array(event_hash),
            "content_hash": pa.array(content),
        }
        columns = given | ours
        return pa.RecordBatch.from_arrays(list(columns.values()), list(columns))

    def dead(self, rows: int, now_us: int) -> pa.RecordBatch:
        """Return dead letters."""
        ids = self._hex(rows).to_pylist()
        raw = b'{"event_id": "%s", "type": "nonsense", "user_id": "user-00000001", "properties": {"watch_ms": 12}}'
        return pa.RecordBatch.from_pylist(
            [
                {
                    "source": SOURCE, "event_id": one, "received_at": now_us, "reason": "unknown_type", "field": "type",
                    "message": "type == 'nonsense', must be defined", "raw": raw % one.encode(), "index": 0,
                }
                for one in ids
            ],
            schema=DEAD_SCHEMA,
        )  # fmt: skip

    def _hex(self, rows: int) -> pa.Array:
        text = binascii.hexlify(self._rng.bytes(16 * rows))
        offsets = np.arange(0, 32 * rows + 1, 32, dtype=np.int32)
        return pa.StringArray.from_buffers(rows, pa.py_buffer(offsets), pa.py_buffer(text))


def entries(maker: Maker, rows: int, now_us: int, partitions: int) -> Iterator[Entry]:
    """Yield the records of ``rows`` events."""
    dead = maker.dead(rows // 1000, now_us) if rows >= 1000 else None
    batch = maker.batch(rows - (dead.num_rows if dead else 0), now_us)
    for partition, part in split(batch, partitions).items():
        letters = dead if dead is not None and partition == 0 else maker.dead(0, now_us)
        payload = encode_record(RecordContent(part, letters, 1))
        yield Entry(EVENTS_TOPIC, partition, payload, {SOURCE: part.num_rows + letters.num_rows})


def open_log(folder: Path) -> SqliteEventLog:
    return SqliteEventLog(folder / "log", clock=SystemClock())


def build_log(folder: Path, events: int, record: int) -> None:
    """Build a log of ``events`` events once."""
    if (folder / "ready").exists():
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    clock = SystemClock()
    log = open_log(folder)
    maker = Maker()
    partitions = log.partitions(EVENTS_TOPIC)
    done = 0
    while done < events:
        rows = min(record * partitions, events - done)
        log.append(list(entries(maker, rows, clock.now_us(), partitions)))
        done += rows
    log.maintain({EVENTS_TOPIC: dict.fromkeys(range(partitions), 0)})
    log.close()
    (folder / "ready").write_text(str(done))


class Memory(threading.Thread):
    """Samples the memory of this process and its children, in bytes."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak = 0
        self._stopping = threading.Event()

    def run(self) -> None:
        while not self._stopping.wait(0.2):
            self.peak = max(self.peak, sum(rss(pid) for pid in family(os.getpid())))

    def stop(self) -> int:
        self._stopping.set()
        self.join()
        return self.peak


def family(pid: int) -> list[int]:
    found = [pid]
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            for child in task.read_text().split():
                found += family(int(child))
        except OSError:
            continue
    return found


def rss(pid: int) -> int:
    """Return resident memory that is not the page cache's."""
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("RssAnon"):
                return int(line.split()[1]) * 1024
    except OSError:
        return 0
    return 0


def service(
    log: EventLog, lake: IcebergLake, folder: Path, workers: int, *, padding: int = 0, **settings: Any
) -> IngestService:
    def open_fingerprints(partition: int, committed: int) -> Fingerprints:
        begins = log.begins(EVENTS_TOPIC)[partition]
        index = PartitionFingerprints.open(folder / "fingerprints", partition, committed, begins=begins)
        return Padded(index, padding) if padding else index

    def worker(partitions: tuple[int, ...]) -> IngestWorker:
        return IngestWorker(log, lake, partitions, open_fingerprints, lambda _: DEFINITIONS, **settings)

    return IngestService(log, lake, worker, Committer(lake), workers=workers)


def throughput(options: argparse.Namespace) -> dict[str, Any]:
    data = Path(options.data) / f"log-{options.events}-{options.record}"
    build_log(data, options.events, options.record)
    clock = SystemClock()
    with tempfile.TemporaryDirectory(dir=options.data) as scratch:
        log = open_log(data)
        lake = IcebergLake(Path(scratch) / "lake", clock=clock)
        run = service(log, lake, Path(scratch), options.workers, rows_max=options.rows)
        warm_up()
        memory = Memory()
        memory.start()
        began, cpu = time.perf_counter(), time.process_time()
        run.drain()
        wall, used = time.perf_counter() - began, time.process_time() - cpu
        peak = memory.stop()
        snapshot = lake.current()
        assert snapshot is not None
        counts = snapshot.state.ledger[SOURCE]
        size = sum(file.bytes for file in lake.files())
        result = {
            "events": options.events,
            "wall_s": round(wall, 2),
            "events_per_s": round(options.events / wall),
            "cpu_us_per_event": round(used / options.events * 1e6, 3),
            "memory_peak_mb": round(peak / 1e6),
            "committed": counts.committed,
            "deduplicated": counts.deduplicated,
            "dead_lettered": counts.dead_lettered,
            "settled_all": counts.settled == options.events,
            "commits": len(lake.snapshots()),
            "files": len(lake.files()),
            "lake_bytes_per_event": round(size / max(1, counts.committed), 1),
        }
        log.close()
        lake.close()
    return result


def latency(options: argparse.Namespace) -> dict[str, Any]:
    """Append at a fixed rate and watch the lake for each append."""
    clock, maker = SystemClock(), Maker()
    every_s = 0.02
    waiting: deque[tuple[int, int, float, int]] = deque()  # partition, offset, appended at, events
    took: list[tuple[float, int]] = []
    with tempfile.TemporaryDirectory(dir=options.data) as scratch:
        folder = Path(scratch)
        log, lake = open_log(folder), IcebergLake(folder / "lake", clock=clock)
        run = service(log, lake, folder, options.workers)
        warm_up()
        run.start()
        partitions = log.partitions(EVENTS_TOPIC)
        stopping = threading.Event()

        def watch() -> None:
            while waiting or not stopping.is_set():
                snapshot = lake.current()
                now = time.perf_counter()
                committed = snapshot.state.offsets if snapshot else {}
                for _ in range(len(waiting)):
                    one = waiting.popleft()
                    if committed.get(one[0], 0) > one[1]:
                        took.append((now - one[2], one[3]))
                    else:
                        waiting.append(one)
                time.sleep(every_s)

        watcher = threading.Thread(target=watch)
        watcher.start()
        cpu, began = time.process_time(), time.perf_counter()
        for number in range(round(options.seconds / every_s)):
            made = list(entries(maker, round(options.rate * every_s), clock.now_us(), partitions))
            for (partition, offset), entry in zip(log.append(made), made, strict=True):
                waiting.append((partition, offset, time.perf_counter(), sum(entry.counts.values())))
            time.sleep(max(0.0, began + (number + 1) * every_s - time.perf_counter()))
        stopping.set()
        watcher.join()
        wall, used = time.perf_counter() - began, time.process_time() - cpu
        run.stop()
        log.close()
        lake.close()
    took.sort()
    events = sum(count for _, count in took)
    return {
        "rate": round(events / options.seconds),
        "seconds": round(wall, 1),
        "cpu_cores_used": round(used / wall, 2),
        **{f"p{share}_s": round(percentile(took, events * share / 100), 3) for share in (50, 90, 99)},
        "max_s": round(took[-1][0], 3),
    }


def percentile(took: list[tuple[float, int]], events: float) -> float:
    seen = 0
    for seconds, count in took:
        seen += count
        if seen >= events:
            return seconds
    return took[-1][0]


class Padded:
    """Admits other identities beside the real ones, to fill the window."""

    def __init__(self, index: PartitionFingerprints, times: int) -> None:
        self._index = index
        self._times = times
        self._rng = np.random.default_rng(index.partition)
        self.covered = index.covered

    def admit(self, h1: Any, h2: Any, content: Any) -> Any:
        for _ in range(self._times):
            size = len(h1)
            self._index.admit(*(self._rng.integers(-(2**63), 2**63 - 1, size) for _ in range(3)))
        return self._index.admit(h1, h2, content)

    def advance(self, next_offset: int, appended_at_us: int) -> None:
        self._index.advance(next_offset, appended_at_us)

    def settle(self, committed: int) -> None:
        self._index.settle(committed)


def restart(options: argparse.Namespace) -> dict[str, Any]:
    """Fill a window, let go of everything, and time a new process from its start to its first commit."""
    folder = Path(options.data) / f"restart-{options.fingerprints}"
    events = 1_000_000
    build_log(folder, events, options.record)
    clock = SystemClock()
    if not (folder / "filled").exists():
        log, lake = open_log(folder), IcebergLake(folder / "lake", clock=clock)
        service(log, lake, folder, options.workers, padding=options.fingerprints // events - 1).drain()
        log.close()
        lake.close()
        (folder / "filled").write_text("")
    log = open_log(folder)
    log.append(list(entries(Maker(int(clock.now_us())), 1_000, clock.now_us(), log.partitions(EVENTS_TOPIC))))
    log.close()
    runs = list((folder / "fingerprints").rglob("*"))
    began = time.perf_counter()
    subprocess.run([sys.executable, __file__, "child", "--data", str(folder)], check=True, capture_output=True)
    return {
        "fingerprints": options.fingerprints,
        "run_files": len(runs),
        "run_bytes": sum(path.stat().st_size for path in runs if path.is_file()),
        "start_to_commit_s": round(time.perf_counter() - began, 2),
    }


def child(options: argparse.Namespace) -> dict[str, Any]:
    """What a restarted process does."""
    folder = Path(options.data)
    log, lake = open_log(folder), IcebergLake(folder / "lake", clock=SystemClock())
    service(log, lake, folder, options.workers).drain()
    return {}


def warm_up() -> None:
    """Load what is compiled, so that the figure is of a running service."""
    fingerprints(SOURCE, pa.array(["a"]))
    with tempfile.TemporaryDirectory() as folder:
        index = PartitionFingerprints.open(folder, 0, 0)
        one = np.ones(1, np.int64)
        index.admit(one, one, one)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=sorted(WORK))
    parser.add_argument("--events", type=int, default=50_000_000)
    parser.add_argument("--record", type=int, default=2_000)
    parser.add_argument("--rows", type=int, default=limits.contribution_rows_max)
    parser.add_argument("--rate", type=int, default=20_000)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--fingerprints", type=int, default=100_000_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--data", default=str(Path(tempfile.gettempdir()) / "groundswell-bench"))
    parser.add_argument("--note", action="store_true", help="write the result to benchmarks/results")
    options = parser.parse_args()
    Path(options.data).mkdir(parents=True, exist_ok=True)
    result = {"benchmark": f"ingest {options.what}", "cores": os.cpu_count(), **WORK[options.what](options)}
    sys.stdout.write(json.dumps(result, indent=2) + "\n")
    if options.note:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / f"ingest_{options.what}.json").write_text(json.dumps(result, indent=2) + "\n")
    return 0


WORK = {"child": child, "latency": latency, "restart": restart, "throughput": throughput}


if __name__ == "__main__":
    raise SystemExit(main())
