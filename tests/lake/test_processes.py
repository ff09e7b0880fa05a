"""Several processes on one lake: one wins each race, nothing is lost or doubled."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

from groundswell.lake.compaction import compact
from groundswell.lake.iceberg import IcebergLake
from groundswell.model.clock import SystemClock

COMMITS = 12

COMMITTER = textwrap.dedent(
    """
    import sys
    from pathlib import Path
    import pyarrow as pa
    from groundswell.lake.contract import Change, IngestState
    from groundswell.lake.iceberg import IcebergLake
    from groundswell.model.clock import SystemClock

    lake = IcebergLake(Path(sys.argv[1]), clock=SystemClock())
    name, commits = sys.argv[2], int(sys.argv[3])
    for number in range(commits):
        table = pa.table({
            "event_id": [f"{name}-{number}"],
            "received_at": pa.array([number], pa.timestamp("us", tz="UTC")),
            "unit_hash": pa.array([number], pa.int64()),
        })
        file = lake.write(table)

        def decide(state):
            return Change(add=[file], state=IngestState(offsets={0: state.offsets.get(0, 0) + 1}))

        lake.commit(decide)
    lake.close()
    """
)


def test_processes_that_commit_at_once_beside_compaction_and_expiry_lose_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "lake"
    committers = [
        subprocess.Popen([sys.executable, "-c", COMMITTER, str(folder), name, str(COMMITS)], stderr=subprocess.PIPE)
        for name in ("a", "b", "c")
    ]
    lake = IcebergLake(folder, clock=SystemClock())
    for _ in range(1_000):
        compact(lake, clock=SystemClock())
        lake.expire()
        if all(one.poll() is not None for one in committers):
            break

    errors = [one.communicate(timeout=60)[1].decode() for one in committers]
    compact(lake, clock=SystemClock())

    current = lake.current()
    ids = lake.read(lake.files(), ["event_id"]).column(0).to_pylist()
    assert errors == ["", "", ""]
    assert sorted(ids) == sorted(f"{name}-{number}" for name in "abc" for number in range(COMMITS))
    assert current is not None
    assert current.state.offsets == {0: 3 * COMMITS}
    lake.close()


def test_processes_that_open_a_new_lake_at_once_agree_on_one_table(tmp_path: Path) -> None:
    openers = [
        subprocess.Popen([sys.executable, "-c", COMMITTER, str(tmp_path / "lake"), name, "1"], stderr=subprocess.PIPE)
        for name in "abcd"
    ]

    errors = [one.communicate(timeout=60)[1].decode() for one in openers]

    lake = IcebergLake(tmp_path / "lake", clock=SystemClock())
    ids = lake.read(lake.files(), ["event_id"]).column(0).to_pylist()
    assert errors == [""] * 4
    assert sorted(ids) == ["a-0", "b-0", "c-0", "d-0"]
    lake.close()
