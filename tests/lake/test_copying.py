"""A copy of the lake, made while it is used."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from groundswell.errors import Corrupt, InvalidInput, SnapshotGone
from groundswell.lake.compaction import compact
from groundswell.lake.contract import Change, IngestState
from groundswell.lake.iceberg import IcebergLake
from groundswell.testing.clock import ManualClock

MakeTable = Callable[..., pa.Table]
Append = Callable[..., Any]


def ids(lake: IcebergLake, snapshot_id: int | None = None) -> list[str]:
    return sorted(lake.read(lake.files(snapshot_id), ["event_id"]).column(0).to_pylist())


def test_a_copy_holds_the_current_and_the_tagged_snapshots(
    iceberg: IcebergLake, tmp_path: Path, clock: ManualClock, make_table: MakeTable, append: Append
) -> None:
    _, tagged = append(iceberg, make_table([1], ids="a"))
    iceberg.tag("scorecard", tagged.snapshot_id, keep_s=60)
    _, untagged = append(iceberg, make_table([2], ids="b"))
    _, current = append(iceberg, make_table([3], ids="c"), IngestState(offsets={0: 3}))

    iceberg.copy_to(tmp_path / "copy")

    copy = IcebergLake(tmp_path / "copy", clock=clock)
    assert copy.current() == current
    assert ids(copy) == ["a0", "b0", "c0"]
    assert ids(copy, tagged.snapshot_id) == ["a0"]
    with pytest.raises(SnapshotGone):
        copy.snapshot(untagged.snapshot_id)
    copy.close()


def test_a_copy_lives_on_its_own_when_the_original_is_gone(
    iceberg: IcebergLake, tmp_path: Path, clock: ManualClock, make_table: MakeTable, append: Append
) -> None:
    for place in range(4):
        append(iceberg, make_table([place], ids=f"{place}-"))
    iceberg.copy_to(tmp_path / "copy")
    iceberg.close()
    shutil.rmtree(tmp_path / "lake")

    copy = IcebergLake(tmp_path / "copy", clock=clock)
    append(copy, make_table([9], ids="new"))
    compact(copy, clock=clock)
    clock.advance(100_000)
    copy.expire()
    copy.remove_orphans()

    assert ids(copy) == ["0-0", "1-0", "2-0", "3-0", "new0"]
    assert not (tmp_path / "lake").exists()
    copy.close()


def test_the_original_goes_on_untouched(
    iceberg: IcebergLake, tmp_path: Path, clock: ManualClock, make_table: MakeTable, append: Append
) -> None:
    file, _ = append(iceberg, make_table([1], ids="a"))
    iceberg.copy_to(tmp_path / "copy")
    copy = IcebergLake(tmp_path / "copy", clock=clock)
    (copied,) = copy.files()
    copy.commit(lambda _: Change(remove=[copied]))
    clock.advance(100_000)
    copy.expire()
    clock.advance(100_000)
    copy.expire()

    append(iceberg, make_table([2], ids="b"))

    assert not Path(copied.path).exists()
    assert Path(file.path).exists()
    assert ids(iceberg) == ["a0", "b0"]
    copy.close()


def test_an_empty_lake_can_be_copied(iceberg: IcebergLake, tmp_path: Path, clock: ManualClock) -> None:
    iceberg.copy_to(tmp_path / "copy")

    copy = IcebergLake(tmp_path / "copy", clock=clock)
    assert copy.current() is None
    assert copy.columns() == iceberg.columns()
    copy.close()


def test_a_folder_that_holds_a_lake_is_not_overwritten(iceberg: IcebergLake, tmp_path: Path) -> None:
    iceberg.copy_to(tmp_path / "copy")

    with pytest.raises(InvalidInput, match="must not hold a lake"):
        iceberg.copy_to(tmp_path / "copy")


@pytest.mark.parametrize("pattern", ["*.metadata.json", "snap-*.avro", "*-m0.avro"])
@pytest.mark.parametrize("damage", ["missing", "garbage"])
def test_a_copy_names_its_own_metadata_where_that_is_damaged(
    iceberg: IcebergLake,
    tmp_path: Path,
    clock: ManualClock,
    make_table: MakeTable,
    append: Append,
    pattern: str,
    damage: str,
) -> None:
    append(iceberg, make_table([1]))
    iceberg.copy_to(tmp_path / "copy")
    for path in (tmp_path / "copy/groundswell/events/metadata").glob(pattern):
        path.unlink() if damage == "missing" else path.write_bytes(b"garbage")

    with pytest.raises(Corrupt) as told:
        IcebergLake(tmp_path / "copy", clock=clock).files()

    assert f"{tmp_path}/copy/groundswell/events/metadata/" in str(told.value)
    assert f"{tmp_path}/lake/" not in str(told.value)
