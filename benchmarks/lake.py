"""The lake alone: writing files, committing with upkeep on, compacting.

    python benchmarks/lake.py               write, 10,000 commits, compaction of 8M rows; prints JSON
    python benchmarks/lake.py --quick       500 commits, 1M rows
    python benchmarks/lake.py --note        and write it to benchmarks/results/

Events have 21 columns, about 195 B in Arrow. A commit adds one small file and moves the state of four partitions and
five sources; every hundred commits files are compacted if due, and snapshots expire. `last_over_first` compares the
medians of the last and the first hundred commits. Times are of the wall and, beside them, of the CPU: the wall's are
worth little on a machine that does other things.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from groundswell.lake.compaction import compact, compaction_due
from groundswell.lake.contract import Change, IngestState
from groundswell.lake.iceberg import IcebergLake
from groundswell.model.clock import SystemClock
from groundswell.model.definitions import Definitions, PropertyDef
from groundswell.model.ledger import LakeCounts
from groundswell.wire.schema import events_schema

RESULTS = Path(__file__).parent / "results"
DAY_US = 1_767_571_200_000_000
FILE_ROWS = 500_000
DEFINITIONS = Definitions(
    version=1,
    properties={
        "item_id": PropertyDef(type="string"),
        "watch_ms": PropertyDef(type="int"),
        "revenue": PropertyDef(type="float"),
        "position": PropertyDef(type="int"),
    },
)
SOURCES = ("web", "ios", "android", "import", "server")


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def names(prefix: str, numbers: np.ndarray) -> pa.Array:
    return pc.binary_join_element_wise(prefix, pa.array(numbers).cast(pa.string()), "")  # pyright: ignore[reportAttributeAccessIssue]


def words(rng: np.random.Generator, known: list[str], rows: int) -> pa.Array:
    return pa.array(known).take(pa.array(rng.integers(0, len(known), rows)))


def where(mask: np.ndarray, values: pa.Array) -> pa.Array:
    return pc.if_else(pa.array(mask), values, pa.nulls(len(values), values.type))  # pyright: ignore[reportAttributeAccessIssue]


def events(rows: int, seed: int, people: int) -> pa.Table:
    """Return events of ``people``, received within an hour: ids of 32 hex digits, five types, sparse properties."""
    rng = np.random.default_rng(seed)
    person = rng.integers(0, people, rows)
    digits = np.frombuffer(b"0123456789abcdef", np.uint8)[rng.integers(0, 16, (rows, 32), np.uint8)]
    offsets = np.arange(0, 32 * (rows + 1), 32, dtype=np.int32)
    received = DAY_US + np.sort(rng.integers(0, 3600 * 10**6, rows))
    kind = rng.choice(5, rows, p=[0.6, 0.2, 0.1, 0.05, 0.05])
    columns: dict[str, Any] = {
        "event_id": pa.Array.from_buffers(pa.string(), rows, [None, pa.py_buffer(offsets), pa.py_buffer(digits)]),
        "type": pa.array(["view", "like", "share", "purchase", "exposure"]).take(pa.array(kind)),
        "ts": pa.array(received - rng.integers(0, 5 * 10**6, rows)),
        "received_at": pa.array(received),
        "source": words(rng, list(SOURCES), rows),
        "user_id": names("user-", person),
        "session_id": names("s", person * 3 + rng.integers(0, 3, rows)),
        "unit_hash": pa.array((person.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)).view(np.int64)),
        "unit_kind": pa.array(np.zeros(rows, np.int32)),
        "event_hash": pa.array(rng.integers(-(2**63), 2**63 - 1, rows)),
        "content_hash": pa.array(rng.integers(-(2**63), 2**63 - 1, rows)),
        "country": words(rng, [f"C{number}" for number in range(60)], rows),
        "platform": words(rng, ["ios", "android", "web"], rows),
        "app_version": words(rng, [f"1.{number}.0" for number in range(20)], rows),
        "data_centre": words(rng, ["eu1"], rows),
        "item_id": where(kind < 3, names("item", rng.zipf(1.3, rows) % 100_000)),
        "watch_ms": where(kind == 0, pa.array(rng.integers(0, 60_000, rows))),
        "revenue": where(kind == 3, pa.array(np.round(rng.exponential(30, rows), 2))),
        "position": where(kind < 2, pa.array(rng.integers(0, 50, rows))),
        "experiment": where(kind == 4, words(rng, [f"exp{number}" for number in range(20)], rows)),
        "variant": where(kind == 4, words(rng, ["control", "treatment"], rows)),
    }
    schema = events_schema(DEFINITIONS)
    return pa.table({name: column.cast(schema.field(name).type) for name, column in columns.items()})


def timed(work: Callable[[], Any]) -> tuple[Any, float, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    answer = work()
    return answer, time.perf_counter() - wall, time.process_time() - cpu


def opened(folder: Path) -> IcebergLake:
    lake = IcebergLake(folder, clock=SystemClock())
    lake.ensure_columns(DEFINITIONS)
    return lake


def writing(folder: Path) -> dict[str, float]:
    lake = opened(folder)
    table = events(FILE_ROWS, seed=1, people=FILE_ROWS // 8)
    runs = [timed(lambda: lake.write(table)) for _ in range(5)]
    size = runs[0][0].bytes
    lake.close()
    return {
        "us_per_event": min(wall for _, wall, _ in runs) / FILE_ROWS * 1e6,
        "cpu_us_per_event": min(cpu for _, _, cpu in runs) / FILE_ROWS * 1e6,
        "file_bytes_per_event": size / FILE_ROWS,
        "arrow_bytes_per_event": table.nbytes / FILE_ROWS,
    }


def committing(folder: Path, commits: int) -> dict[str, float]:
    lake = opened(folder)
    walls: list[float] = []
    cpus: list[float] = []
    live = 0
    for number in range(commits):
        file = lake.write(events(20, seed=number, people=1_000))
        state = IngestState(
            offsets=dict.fromkeys(range(4), number),
            watermarks_us=dict.fromkeys(range(4), DAY_US + number),
            ledger={source: LakeCounts(committed=20 * number, deduplicated=number) for source in SOURCES},
        )
        change = Change(add=[file], state=state)
        _, wall, cpu = timed(lambda change=change: lake.commit(lambda _: change))
        walls.append(wall * 1e3)
        cpus.append(cpu * 1e3)
        live = max(live, len(lake.snapshots()))
        if number % 100 == 99:
            if compaction_due(lake.files()):
                compact(lake, clock=SystemClock())
            lake.expire()
    files = len(lake.files())
    lake.close()
    edge = min(100, commits // 3)
    return {
        "commits": commits,
        "first_ms": statistics.median(walls[:edge]),
        "last_ms": statistics.median(walls[-edge:]),
        "last_over_first": statistics.median(walls[-edge:]) / statistics.median(walls[:edge]),
        "p99_ms": float(np.quantile(walls, 0.99)),
        "first_cpu_ms": statistics.median(cpus[:edge]),
        "last_cpu_ms": statistics.median(cpus[-edge:]),
        "cpu_last_over_first": statistics.median(cpus[-edge:]) / statistics.median(cpus[:edge]),
        "live_snapshots_max": live,
        "files_at_the_end": files,
    }


def compacting(folder: Path, rows: int) -> dict[str, float]:
    lake = opened(folder)
    for number in range(rows // FILE_ROWS):
        file = lake.write(events(FILE_ROWS, seed=number, people=rows // 8))
        lake.commit(lambda _, file=file: Change(add=[file]))
    before_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    report, wall, cpu = timed(lambda: compact(lake, clock=SystemClock()))
    merged = [f for f in lake.files() if f.sorted_run]
    lake.close()
    return {
        "rows": report.rows_read,
        "rounds": report.rounds,
        "us_per_row": wall / report.rows_read * 1e6,
        "cpu_us_per_row": cpu / report.rows_read * 1e6,
        "files": len(merged),
        "peak_mb_before": before_mb,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--commits", type=int, default=10_000)
    parser.add_argument("--rows", type=int, default=8_000_000, help="to compact")
    parser.add_argument("--quick", action="store_true", help="500 commits, 1M rows")
    parser.add_argument("--folder", type=Path, default=None, help="on which disk; a temporary folder is made in it")
    parser.add_argument("--note", action="store_true", help="write the result to benchmarks/results")
    asked = parser.parse_args()
    commits, rows = (500, 1_000_000) if asked.quick else (asked.commits, asked.rows)
    with tempfile.TemporaryDirectory(dir=asked.folder, prefix="groundswell-bench-") as folder:
        result = {
            "write": writing(Path(folder) / "write"),
            "commit": committing(Path(folder) / "commit", commits),
            "compact": compacting(Path(folder) / "compact", rows),
        }
    machine = {
        "cores": os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9),
    }
    rounded = {part: {name: round(value, 3) for name, value in found.items()} for part, found in result.items()}
    answer = json.dumps({"benchmark": "lake", "machine": machine, "result": rounded}, indent=2)
    if asked.note:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / "lake.json").write_text(answer + "\n", encoding="utf-8")
    say(answer)


if __name__ == "__main__":
    main()
