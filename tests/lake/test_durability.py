"""Kills, lost answers, full disks and damaged files."""

from __future__ import annotations

import errno
import os
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from sqlalchemy.exc import OperationalError

from groundswell.errors import Corrupt, SnapshotGone, Unavailable
from groundswell.lake import catalog as catalog_module
from groundswell.lake import steps
from groundswell.lake.contract import Change, IngestState, LakeFile
from groundswell.lake.iceberg import IcebergLake
from groundswell.testing.clock import ManualClock

MakeTable = Callable[..., pa.Table]
Append = Callable[..., Any]


class Killed(BaseException):
    """The process is gone."""


class KillAt:
    """Kills at the n-th time that a step is reached."""

    def __init__(self, step: str, times: int = 1) -> None:
        self.step, self.left = step, times

    def reach(self, step: str) -> None:
        if step == self.step:
            self.left -= 1
            if self.left == 0:
                raise Killed(step)


def ingest(lake: IcebergLake, table: pa.Table, start: int) -> None:
    """Commit ``table`` if the lake stands at offset ``start``, as the committer does."""
    file = lake.write(table)
    stop = start + table.num_rows

    def decide(state: IngestState) -> Change | None:
        if state.offsets.get(0, 0) != start:
            return None
        return Change(add=[file], state=IngestState(offsets={0: stop}))

    lake.commit(decide)


def ids(lake: IcebergLake) -> list[str]:
    return sorted(lake.read(lake.files(), ["event_id"]).column(0).to_pylist())


def metadata_folder(tmp_path: Path) -> Path:
    return tmp_path / "lake" / "groundswell" / "events" / "metadata"


@pytest.mark.parametrize("step", steps.LAKE_STEPS)
def test_a_kill_at_any_step_loses_nothing_and_doubles_nothing(
    tmp_path: Path, clock: ManualClock, make_table: MakeTable, step: str
) -> None:
    lake = IcebergLake(tmp_path / "lake", clock=clock)
    ingest(lake, make_table([1], ids="a"), 0)
    lake.close()
    doomed = IcebergLake(tmp_path / "lake", clock=clock, faults=KillAt(step))
    with pytest.raises(Killed):
        ingest(doomed, make_table([2, 3], ids="b"), 1)
    doomed.close()

    reopened = IcebergLake(tmp_path / "lake", clock=clock)
    current = reopened.current()
    after_kill = ids(reopened)
    ingest(reopened, make_table([2, 3], ids="b"), 1)

    assert current is not None
    assert after_kill == (["a0", "b0", "b1"] if current.state.offsets == {0: 3} else ["a0"])
    assert (current.state.offsets == {0: 3}) == (step == steps.SWAPPED)
    assert ids(reopened) == ["a0", "b0", "b1"]
    reopened.close()


def test_a_kill_between_expiry_and_its_list_leaves_orphans_that_go_by_age(
    tmp_path: Path, clock: ManualClock, make_table: MakeTable, append: Append
) -> None:
    lake = IcebergLake(tmp_path / "lake", clock=clock, faults=KillAt(steps.EXPIRED))
    old, _ = append(lake, make_table([1]))
    new = lake.write(make_table([1], ids="f"), sorted_run=1)
    lake.commit(lambda _: Change(add=[new], remove=[old]))
    clock.advance(4_000)
    with pytest.raises(Killed):
        lake.expire()
    still_there = Path(old.path).exists()
    for path in (tmp_path / "lake").rglob("*"):
        os.utime(path, (0, 0))

    removed = lake.remove_orphans()

    assert still_there
    assert removed >= 1
    assert not Path(old.path).exists()
    assert ids(lake) == ["f0"]
    lake.close()


def test_everything_a_commit_names_is_on_the_disk_before_the_swap(
    tmp_path: Path, clock: ManualClock, make_table: MakeTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: set[tuple[int, int]] = set()
    original = os.fsync

    def spy(handle: int) -> None:
        original(handle)
        status = os.fstat(handle)
        synced.add((status.st_ino, status.st_mtime_ns))

    monkeypatch.setattr(os, "fsync", spy)
    lake = IcebergLake(tmp_path / "lake", clock=clock)
    unsynced: list[str] = []
    swap = catalog_module.SwapCatalog._swap  # pyright: ignore[reportPrivateUsage]

    def check(self: catalog_module.SwapCatalog, base: str, location: str) -> bool:
        for path in (tmp_path / "lake" / "groundswell").rglob("*"):
            status = path.stat()
            if (status.st_ino, status.st_mtime_ns) not in synced:
                unsynced.append(str(path))
        return swap(self, base, location)

    monkeypatch.setattr(catalog_module.SwapCatalog, "_swap", check)
    ingest(lake, make_table([1, 2]), 0)
    ingest(lake, make_table([3], ids="f"), 2)

    first_metadata = [path for path in unsynced if "/00000-" not in path]
    assert first_metadata == []
    lake.close()


def test_a_commit_whose_answer_was_lost_is_found(
    iceberg: IcebergLake, make_table: MakeTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    swap = catalog_module.SwapCatalog._swap  # pyright: ignore[reportPrivateUsage]

    def swap_and_lose(self: catalog_module.SwapCatalog, base: str, location: str) -> bool:
        swap(self, base, location)
        raise OperationalError("COMMIT", {}, sqlite3.OperationalError("disk I/O error"))

    monkeypatch.setattr(catalog_module.SwapCatalog, "_swap", swap_and_lose)
    file = iceberg.write(make_table([1]))
    snapshot = iceberg.commit(lambda _: Change(add=[file], state=IngestState(offsets={0: 1})))

    assert snapshot is not None
    assert snapshot == iceberg.current()
    assert ids(iceberg) == ["e0"]


def test_a_commit_that_did_not_arrive_is_unavailable_and_may_be_tried_again(
    iceberg: IcebergLake, make_table: MakeTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: catalog_module.SwapCatalog, base: str, location: str) -> bool:
        raise OperationalError("UPDATE", {}, sqlite3.OperationalError("database is locked"))

    file = iceberg.write(make_table([1]))
    with monkeypatch.context() as patch:
        patch.setattr(catalog_module.SwapCatalog, "_swap", fail)
        with pytest.raises(Unavailable, match="locked"):
            iceberg.commit(lambda _: Change(add=[file]))
    before = iceberg.current()

    iceberg.commit(lambda _: Change(add=[file]))

    assert before is None
    assert ids(iceberg) == ["e0"]


def test_a_full_disk_while_writing_a_file_leaves_nothing_behind(tmp_path: Path) -> None:
    """A process that may not write files of more than 200 kB meets a full disk there."""
    program = textwrap.dedent(
        """
        import resource, sys
        from pathlib import Path
        import pyarrow as pa
        from groundswell.errors import Unavailable
        from groundswell.lake.iceberg import IcebergLake
        from groundswell.testing.clock import ManualClock

        lake = IcebergLake(Path(sys.argv[1]), clock=ManualClock())
        rows = 100_000
        table = pa.table({
            "event_id": [f"event-{place * 2654435761 % 2**32}" for place in range(rows)],
            "received_at": pa.array(range(rows), pa.timestamp("us", tz="UTC")),
        })
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
        try:
            lake.write(table)
        except Unavailable as error:
            sys.stdout.write(str(error))
        """
    )

    result = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "lake")], capture_output=True, text=True, check=True, timeout=60
    )

    assert "the disk is full; free space and try again" in result.stdout
    assert list((tmp_path / "lake").rglob("*.parquet")) == []


@pytest.mark.parametrize("part", ["-m0.avro", "snap-", ".metadata.json"])
def test_a_full_disk_while_committing_commits_nothing(
    iceberg: IcebergLake, tmp_path: Path, make_table: MakeTable, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    ingest(iceberg, make_table([1], ids="a"), 0)
    before = (iceberg.current(), sorted(metadata_folder(tmp_path).iterdir()))
    file = iceberg.write(make_table([2], ids="b"))
    original = os.fsync

    def fail(handle: int) -> None:
        name = str(Path(f"/proc/self/fd/{handle}").readlink())
        if part in name:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), name)
        original(handle)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(Unavailable, match="the disk is full"):
            iceberg.commit(lambda _: Change(add=[file]))
    after = iceberg.current()
    left = sorted(metadata_folder(tmp_path).iterdir())
    iceberg.commit(lambda _: Change(add=[file], state=IngestState(offsets={0: 2})))

    assert (after, [path for path in left if part in path.name]) == (
        before[0],
        [path for path in before[1] if part in path.name],
    )
    assert ids(iceberg) == ["a0", "b0"]


def test_a_catalog_that_another_process_holds_is_unavailable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_table: MakeTable
) -> None:
    monkeypatch.setattr(catalog_module, "_BUSY_S", 0.05)
    lake = IcebergLake(tmp_path / "lake", clock=ManualClock())
    file = lake.write(make_table([1]))
    holder = sqlite3.connect(tmp_path / "lake" / "catalog.db", isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")

    with pytest.raises(Unavailable, match="locked"):
        lake.commit(lambda _: Change(add=[file]))

    holder.execute("ROLLBACK")
    holder.close()
    lake.commit(lambda _: Change(add=[file]))
    assert ids(lake) == ["e0"]
    lake.close()


@pytest.mark.parametrize("damage", [b"this is no database, not at all" * 200, b"SQLite format 3\x00" + b"\xff" * 8_000])
def test_a_damaged_catalog_is_named(tmp_path: Path, damage: bytes) -> None:
    IcebergLake(tmp_path / "lake", clock=ManualClock()).close()
    for path in (tmp_path / "lake").glob("catalog.db*"):
        path.unlink()
    (tmp_path / "lake" / "catalog.db").write_bytes(damage)

    with pytest.raises(Corrupt, match=r"catalog .*restore it from a backup"):
        IcebergLake(tmp_path / "lake", clock=ManualClock())


def test_a_catalog_without_its_table_is_not_silently_made_anew(
    tmp_path: Path, make_table: MakeTable, append: Append
) -> None:
    lake = IcebergLake(tmp_path / "lake", clock=ManualClock())
    append(lake, make_table([1]))
    lake.close()
    for path in (tmp_path / "lake").glob("catalog.db*"):
        path.unlink()

    with pytest.raises(Corrupt, match="catalog"):
        IcebergLake(tmp_path / "lake", clock=ManualClock())


@pytest.mark.parametrize("damage", [None, b"", b"PAR1", b"x" * 10_000])
def test_a_damaged_data_file_is_named(
    iceberg: IcebergLake, make_table: MakeTable, append: Append, damage: bytes | None
) -> None:
    file, _ = append(iceberg, make_table([1]))
    path = Path(file.path)
    path.unlink()
    if damage is not None:
        path.write_bytes(damage)

    with pytest.raises(Corrupt, match=path.name):
        iceberg.read(iceberg.files(), ["event_id"])


def test_a_data_file_with_flipped_bytes_is_named(iceberg: IcebergLake, make_table: MakeTable, append: Append) -> None:
    file, _ = append(iceberg, make_table(range(2_000)))
    path = Path(file.path)
    content = bytearray(path.read_bytes())
    for place in range(4, len(content) // 2, 7):
        content[place] ^= 0xFF
    path.write_bytes(content)

    with pytest.raises(Corrupt, match=path.name):
        iceberg.read(iceberg.files(), ["event_id", "unit_hash", "ts"])


@pytest.mark.parametrize("pattern", ["*.metadata.json", "snap-*.avro", "*-m0.avro"])
@pytest.mark.parametrize("damage", [None, b"", b"{}", b"Obj\x01" + b"\xff" * 500])
def test_damaged_metadata_is_corrupt_and_never_a_traceback(
    tmp_path: Path, make_table: MakeTable, append: Append, pattern: str, damage: bytes | None
) -> None:
    lake = IcebergLake(tmp_path / "lake", clock=ManualClock())
    append(lake, make_table([1]))
    lake.close()
    for path in metadata_folder(tmp_path).glob(pattern):
        path.unlink()
        if damage is not None:
            path.write_bytes(damage)

    with pytest.raises(Corrupt):
        IcebergLake(tmp_path / "lake", clock=ManualClock()).files()


def test_a_file_of_an_expired_snapshot_is_gone_not_corrupt(
    iceberg: IcebergLake, make_table: MakeTable, append: Append, clock: ManualClock
) -> None:
    old, first = append(iceberg, make_table([1]))
    new = iceberg.write(make_table([1], ids="f"), sorted_run=1)
    iceberg.commit(lambda _: Change(add=[new], remove=[old]))
    clock.advance(4_000)
    iceberg.expire()

    with pytest.raises(SnapshotGone, match="begin again with a newer one"):
        iceberg.read([old], ["event_id"])
    with pytest.raises(SnapshotGone):
        iceberg.snapshot(first.snapshot_id)


def test_a_file_from_elsewhere_cannot_be_committed(iceberg: IcebergLake, make_table: MakeTable) -> None:
    file: LakeFile = iceberg.write(make_table([1]))

    with suppress(Unavailable), pytest.raises(Exception, match="must lie below"):
        iceberg.commit(lambda _: Change(add=[file._replace(path="/somewhere/else.parquet")]))

    assert iceberg.current() is None
