"""A real ingest process, killed with SIGKILL at random moments while traffic runs."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from groundswell.ingest.audit import audit
from groundswell.lake.iceberg import IcebergLake
from groundswell.log.contract import EVENTS_TOPIC
from groundswell.log.rules import SegmentRules
from groundswell.log.sqlite import SqliteEventLog
from groundswell.model.clock import SystemClock

KILLS = 4
INGEST = """
import sys
from pathlib import Path
import msgspec
from groundswell.ingest.committer import Committer
from groundswell.ingest.fingerprints import PartitionFingerprints
from groundswell.ingest.service import IngestService
from groundswell.ingest.worker import IngestWorker
from groundswell.lake.compaction import compact
from groundswell.lake.iceberg import IcebergLake
from groundswell.log.sqlite import SqliteEventLog
from groundswell.model.clock import SystemClock
from groundswell.model.definitions import Definitions

folder, clock = Path(sys.argv[1]), SystemClock()
definitions = msgspec.json.decode((folder / "definitions.json").read_bytes(), type=Definitions)
log, lake = SqliteEventLog(folder / "log", clock=clock), IcebergLake(folder / "lake", clock=clock)
open_index = lambda partition, committed: PartitionFingerprints.open(
    folder / "fingerprints", partition, committed, begins=log.begins("events")[partition], hot_max=2_000
)
make = lambda partitions: IngestWorker(log, lake, partitions, open_index, lambda _: definitions, rows_max=500)

class Often:
    def run(self):
        compact(lake, clock=clock)
        log.maintain({"events": lake.current().state.offsets if lake.current() else {}})

service = IngestService(
    log, lake, make, Committer(lake), workers=2, upkeep=Often(), clock=clock,
    commit_interval_s=0.05, upkeep_interval_s=0.3,
)
if sys.argv[2] == "drain":
    service.drain(timeout_s=60)
else:
    service.start()
    print("running", flush=True)
    sys.stdin.read()
"""


def ingest(folder: Path, how: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", INGEST, str(folder), how], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


@pytest.mark.slow
def test_sigkill_at_random_moments_loses_and_doubles_nothing(bench: Any, make_event: Any, tmp_path: Path) -> None:
    import msgspec

    rng = random.Random(7)
    clock = SystemClock()
    (tmp_path / "definitions.json").write_bytes(msgspec.json.encode(bench.definitions[1]))
    bench.clock = clock
    bench.log = SqliteEventLog(tmp_path / "log", clock=clock, rules=SegmentRules(bytes_max=200_000))
    sent: set[str] = set()
    number = 0
    for _ in range(KILLS):
        process = ingest(tmp_path, "run")
        assert process.stdout is not None
        assert process.stdout.readline() == "running\n"
        until = time.monotonic() + rng.uniform(0.1, 1.5)
        while time.monotonic() < until:
            fresh = [make_event(one) for one in range(number, number + 40)]
            again = [make_event(rng.randrange(number + 1)) for _ in range(4)]
            bench.send([*fresh, *again, make_event(10**6 + number, "like"), b"nonsense"])
            sent |= {one["event_id"] for one in fresh}
            number += 40
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=30)
        assert process.returncode == -signal.SIGKILL

    last = ingest(tmp_path, "drain")
    last.communicate(timeout=90)
    bench.lake = IcebergLake(tmp_path / "lake", clock=clock)

    assert last.returncode == 0
    assert bench.ids() == dict.fromkeys(sent, 1)
    assert bench.state().offsets == bench.log.ends(EVENTS_TOPIC)
    report = audit(bench.log, bench.lake)
    assert report.ok, json.dumps(report.lines())
    assert bench.state().ledger["app"].deduplicated > 0
    assert bench.state().ledger["app"].dead_lettered > 0
    bench.lake.close()
    bench.log.close()
