"""JSON lines -> log -> lake through the importer, ingest beside it.

    python benchmarks/import_.py --events 4000000
    options: --data FOLDER (the file is built once and kept), --processes 2 (that decode), --workers 1 (that ingest),
             --no-ingest (stop at the log), --mapped (CSV through a mapping), --note

The events: 8 envelope fields, 3 to 5 properties, 5 types, about 300 B each, 1% retries, 0.1% bad.
"""

# pyarrow.compute makes its functions when it is imported, so their names are not in its source
# pyright: reportAttributeAccessIssue=false

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
import pyarrow as pa
import pyarrow.compute as pc

from groundswell.ingest.committer import Committer
from groundswell.ingest.fingerprints import PartitionFingerprints
from groundswell.ingest.importer import FileImporter
from groundswell.ingest.mapping import parse_mapping
from groundswell.ingest.service import IngestService
from groundswell.ingest.worker import IngestWorker
from groundswell.lake.iceberg import IcebergLake
from groundswell.log.contract import EVENTS_TOPIC
from groundswell.log.sqlite import SqliteEventLog
from groundswell.model.clock import SystemClock
from groundswell.model.definitions import Definitions, EventDef, PropertyDef
from groundswell.store import Store

RESULTS = Path(__file__).parent / "results"
TYPES = ("view", "like", "share", "purchase", "search")
NAMES = ("watch_ms", "depth", "item", "revenue", "autoplay")
KINDS: dict[str, Any] = {"watch_ms": "int", "depth": "float", "item": "string", "revenue": "float", "autoplay": "bool"}
DEFINITIONS = Definitions(
    version=1,
    properties={name: PropertyDef(type=KINDS[name]) for name in NAMES},
    events={kind: EventDef(properties=NAMES) for kind in TYPES},
).with_builtins()
AS_IS = "source: app\nevents: as_is\n"
MAPPED = """\
source: app
envelope: {user_id: user_id, ts: ts, country: country, platform: platform, app_version: app_version}
events:
  - type: {column: type}
    properties: {watch_ms: watch_ms, depth: depth, item: item, revenue: revenue, autoplay: autoplay}
"""


def text(values: Any) -> pa.Array:
    return pa.array(values).cast(pa.string())


def columns(rng: np.random.Generator, rows: int) -> dict[str, pa.Array]:
    def words(choices: Any) -> pa.Array:
        return pa.array(choices).take(pa.array(rng.integers(0, len(choices), rows)))

    seconds = words([f"2026-01-{day:02d}T{hour:02d}:{minute:02d}:17.250Z" for day in range(1, 21)
                     for hour in range(24) for minute in range(0, 60, 7)])  # fmt: skip
    digits = rng.bytes(16 * rows).hex()
    ids = pa.array([digits[at : at + 32] for at in range(0, 32 * rows, 32)])
    return {
        "event_id": ids,
        "type": words(TYPES),
        "ts": seconds,
        "user_id": pc.binary_join_element_wise("user-", text(rng.integers(0, 1_000_000, rows)), ""),
        "session_id": ids.take(pa.array(rng.permutation(rows))),
        "country": words(["DE", "FR", "US", "GB", "IN", "BR"]),
        "platform": words(["ios", "android", "web"]),
        "app_version": words([f"7.{minor}.0" for minor in range(20)]),
        "watch_ms": text(rng.integers(0, 60_000, rows)),
        "depth": text(np.round(rng.random(rows), 3)),
        "item": pc.binary_join_element_wise("item-", text(rng.integers(0, 20_000, rows)), ""),
        "revenue": text(np.round(rng.random(rows) * 100, 2)),
        "autoplay": words(["true", "false"]),
    }


def json_lines(given: dict[str, pa.Array], rng: np.random.Generator) -> pa.Array:
    parts: list[Any] = []
    for name in ("event_id", "type", "ts", "user_id", "session_id", "country", "platform", "app_version"):
        parts += [f'{"{" if not parts else ", "}"{name}": "', given[name], '"']
    parts += [', "properties": {"watch_ms": ', given["watch_ms"], ', "depth": ', given["depth"]]
    parts += [', "item": "', given["item"], '", "autoplay": ', given["autoplay"]]
    bought = pa.array(rng.random(len(given["item"])) < 0.2)
    revenue = pc.binary_join_element_wise(', "revenue": ', given["revenue"], "")
    parts += [pc.if_else(bought, revenue, ""), "}}"]
    return pc.binary_join_element_wise(*parts, "")


def build(path: Path, events: int, *, mapped: bool) -> None:
    """Write the file once: 1% of lines again, 0.1% bad."""
    if path.exists():
        return
    rng = np.random.default_rng(7)
    partial = path.with_suffix(".partial")
    with partial.open("wb") as file:
        for start in range(0, events, 50_000):
            rows = min(50_000, events - start)
            given = columns(rng, rows)
            if mapped:
                if start == 0:
                    file.write(",".join(given).encode() + b"\n")
                lines = pc.binary_join_element_wise(*given.values(), ",")
            else:
                lines = json_lines(given, rng)
            told = lines.to_pylist()
            for at in rng.integers(1, rows, rows // 100).tolist():
                told[at] = told[at - 1]
            for at in rng.integers(0, rows, rows // 1000).tolist():
                told[at] = told[at].replace('"type": "', '"type": "no_') if not mapped else told[at] + ",x"
            file.write("\n".join(told).encode() + b"\n")
    partial.rename(path)


def cpu_s() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def run(options: argparse.Namespace) -> dict[str, Any]:
    path = Path(options.data) / f"events-{options.events}.{'csv' if options.mapped else 'ndjson'}"
    build(path, options.events, mapped=options.mapped)
    clock = SystemClock()
    with tempfile.TemporaryDirectory(dir=options.data) as scratch:
        folder = Path(scratch)
        log = SqliteEventLog(folder / "log", clock=clock)
        lake = IcebergLake(folder / "lake", clock=clock)
        store = Store.open(folder / "control.db", clock)
        importer = FileImporter(log, store, DEFINITIONS, clock=clock, processes=options.processes)
        service = ingest(log, lake, folder, options.workers)
        began, cpu = time.perf_counter(), cpu_s()
        if options.ingest:
            service.start()
        report = importer.run(path, parse_mapping(MAPPED if options.mapped else AS_IS))
        logged = time.perf_counter() - began
        if options.ingest:
            service.drain()
            service.stop()
        wall, used = time.perf_counter() - began, cpu_s() - cpu
        snapshot = lake.current()
        result = {
            "events": options.events,
            "bytes_per_event": round(path.stat().st_size / options.events),
            "wall_s": round(wall, 2),
            "in_log_after_s": round(logged, 2),
            "events_per_s": round(options.events / wall),
            "cpu_us_per_event": round(used / options.events * 1e6, 2),
            "accepted": report.progress.accepted,
            "refused": report.progress.refused,
            "dead_lettered": report.progress.dead_lettered,
            "settled": sum(one.settled for one in snapshot.state.ledger.values()) if snapshot else 0,
        }
        log.close()
        lake.close()
        store.close()
    return result


def ingest(log: SqliteEventLog, lake: IcebergLake, folder: Path, workers: int) -> IngestService:
    def open_index(partition: int, committed: int) -> PartitionFingerprints:
        begins = log.begins(EVENTS_TOPIC)[partition]
        return PartitionFingerprints.open(folder / "fingerprints", partition, committed, begins=begins)

    def worker(partitions: tuple[int, ...]) -> IngestWorker:
        return IngestWorker(log, lake, partitions, open_index, lambda _: DEFINITIONS)

    return IngestService(log, lake, worker, Committer(lake), workers=workers)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=4_000_000)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--no-ingest", dest="ingest", action="store_false")
    parser.add_argument("--mapped", action="store_true")
    parser.add_argument("--data", default=str(Path(tempfile.gettempdir()) / "groundswell-bench"))
    parser.add_argument("--note", action="store_true", help="write the result to benchmarks/results")
    options = parser.parse_args()
    Path(options.data).mkdir(parents=True, exist_ok=True)
    name = "import mapped" if options.mapped else "import"
    result = {"benchmark": name, "cores": os.cpu_count(), **run(options)}
    sys.stdout.write(json.dumps(result, indent=2) + "\n")
    if options.note:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / f"{name.replace(' ', '_')}.json").write_text(json.dumps(result, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
