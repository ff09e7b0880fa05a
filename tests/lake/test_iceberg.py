"""The table as other engines see it, and what keeps its commits cheap."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.exceptions import CommitFailedException
from pyiceberg.table import Table

from groundswell.errors import Corrupt, InvalidInput
from groundswell.lake.catalog import open_catalog
from groundswell.lake.contract import Change, IngestState
from groundswell.lake.iceberg import IcebergLake
from groundswell.model.clock import SystemClock
from groundswell.model.definitions import Definitions
from groundswell.testing.clock import ManualClock

MakeTable = Callable[..., pa.Table]
Append = Callable[..., Any]


def foreign(lake: IcebergLake) -> Table:
    """Open the table as any pyiceberg client would."""
    where = lake.location()
    catalog = SqlCatalog(where["catalog"], uri=where["uri"], warehouse=where["warehouse"])
    return catalog.load_table((where["namespace"], where["table"]))


def folder(lake: IcebergLake) -> Path:
    return Path(lake.location()["warehouse"].removeprefix("file://")) / "groundswell" / "events"


def rows_of(table: pa.Table) -> list[dict[str, Any]]:
    return sorted(table.to_pylist(), key=lambda row: row["event_id"])


@pytest.fixture
def filled(iceberg: IcebergLake, make_table: MakeTable, append: Append, definitions: Definitions) -> IcebergLake:
    """Return a lake with fresh files, a run and columns that only some files have."""
    iceberg.ensure_columns(definitions)
    append(iceberg, make_table([5, -3, None], ids="a", revenue=[1.5, None, 2.0]))
    append(iceberg, make_table([7, 8], ids="b", title=["x", None], released=[0, None]))
    run = iceberg.write(make_table([1, 2], ids="c", autoplay=[True, None]), sorted_run=1)
    iceberg.commit(lambda _: Change(add=[run], state=IngestState(offsets={0: 7})))
    return iceberg


def test_pyiceberg_and_duckdb_read_the_same_rows_as_we_do(filled: IcebergLake) -> None:
    columns = filled.columns().names
    ours = filled.read(filled.files(), columns)

    theirs = foreign(filled).scan().to_arrow().select(columns).cast(ours.schema)
    paths = [file.path for file in filled.files()]
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        duck = connection.sql(f"SELECT * FROM read_parquet({paths}, union_by_name = true)").to_arrow_table()

    assert rows_of(theirs) == rows_of(ours)
    missing = [name for name in columns if name not in duck.column_names]
    assert [{**row, **dict.fromkeys(missing)} for row in rows_of(duck)] == rows_of(ours)


def test_bounds_let_pyiceberg_skip_files(filled: IcebergLake) -> None:
    scan = foreign(filled).scan(row_filter="unit_hash >= 7")

    files = [task.file.file_path for task in scan.plan_files()]

    assert len(files) == 1
    assert sorted(scan.to_arrow().column("event_id").to_pylist()) == ["b0", "b1"]


def test_columns_are_found_by_field_id(filled: IcebergLake) -> None:
    ids = {field.name: field.field_id for field in foreign(filled).schema().fields}

    for file in filled.files():
        schema = pq.read_schema(file.path)
        found = {field.name: int(field.metadata[b"PARQUET:field_id"]) for field in schema}
        assert found == {name: ids[name] for name in schema.names}


def test_columns_that_are_null_throughout_are_left_out_of_the_file(filled: IcebergLake) -> None:
    (file, *_) = [file for file in filled.files() if file.rows == 3]

    names = pq.read_schema(file.path).names

    assert "revenue" in names
    assert not {"title", "user_id", "session_id", "experiment"} & set(names)


def test_statistics_are_kept_for_what_prunes_and_dictionaries_for_what_repeats(
    iceberg: IcebergLake, make_table: MakeTable
) -> None:
    rows = 2_000
    country = ["NL", "DE"] * (rows // 2)

    file = iceberg.write(make_table(range(rows), country=country))

    group = pq.ParquetFile(file.path).metadata.row_group(0)
    columns = {group.column(place).path_in_schema: group.column(place) for place in range(group.num_columns)}
    with_statistics = {name for name, column in columns.items() if column.is_stats_set}
    with_dictionary = {name for name, column in columns.items() if column.has_dictionary_page}
    assert with_statistics == {"unit_hash", "ts", "received_at", "type"}
    assert with_dictionary == {"type", "source", "country"}
    assert columns["event_id"].compression == "ZSTD"


def test_a_range_opens_only_the_row_groups_it_needs(
    iceberg: IcebergLake, make_table: MakeTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("groundswell.lake.parquet._ROWS_SORTED", 100)
    file = iceberg.write(make_table(range(1_000)), sorted_run=1)
    read: list[list[int]] = []
    original = pq.ParquetFile.read_row_groups

    def spy(self: pq.ParquetFile, groups: list[int], **options: Any) -> pa.Table:
        read.append(groups)
        return original(self, groups, **options)

    monkeypatch.setattr(pq.ParquetFile, "read_row_groups", spy)
    found = iceberg.read([file], ["unit_hash"], unit_hash=(250, 349))

    assert read == [[2, 3]]
    assert found.column(0).to_pylist() == list(range(250, 350))


def test_pyicebergs_own_commit_retry_is_off(iceberg: IcebergLake) -> None:
    properties = foreign(iceberg).properties

    assert properties["commit.retry.num-retries"] == "0"
    assert properties["write.metadata.delete-after-commit.enabled"] == "true"


def test_a_commit_that_was_decided_on_old_metadata_fails_though_the_branch_is_the_same(
    filled: IcebergLake,
) -> None:
    """pyiceberg's catalog would let it pass: it compares with what it loads itself."""
    catalog = open_catalog(folder(filled).parents[1])
    stale = catalog.load_table("events")
    current = filled.current()
    assert current is not None
    filled.tag("mine", current.snapshot_id, keep_s=60)

    with pytest.raises(CommitFailedException, match="moved on"):
        catalog.commit_table(stale, (), ())

    catalog.close()
    assert foreign(filled).refs()["mine"].snapshot_id == current.snapshot_id


def test_the_catalog_is_in_write_ahead_mode_and_syncs_every_commit(iceberg: IcebergLake) -> None:
    catalog = open_catalog(folder(iceberg).parents[1])
    with catalog.engine.connect() as connection:
        mode = connection.exec_driver_sql("PRAGMA journal_mode").scalar()
        synchronous = connection.exec_driver_sql("PRAGMA synchronous").scalar()
        busy_ms = connection.exec_driver_sql("PRAGMA busy_timeout").scalar()

    catalog.close()
    assert (mode, synchronous, busy_ms) == ("wal", 2, 30_000)


def test_manifests_and_metadata_files_stay_few(iceberg: IcebergLake, make_table: MakeTable, append: Append) -> None:
    for place in range(150):
        append(iceberg, make_table([place], ids=f"{place}-"))

    table = foreign(iceberg)
    snapshot = table.current_snapshot()
    assert snapshot is not None
    assert len(snapshot.manifests(table.io)) <= 150 // 64 + 1
    assert len(list((folder(iceberg) / "metadata").glob("*.metadata.json"))) <= 33
    assert table.scan().count() == 150


def test_manifests_give_new_files_the_sequence_number_of_their_snapshot(filled: IcebergLake) -> None:
    reopened = foreign(filled)
    fresh_read = reopened.inspect.entries().to_pylist()

    numbers = {entry["sequence_number"] for entry in fresh_read}

    assert numbers == {1, 2, 3}
    assert {entry["file_sequence_number"] for entry in fresh_read} == numbers


def test_what_was_just_written_is_what_will_be_read(filled: IcebergLake, clock: ManualClock) -> None:
    """The committer remembers manifests instead of reading them back; both must agree."""
    other = IcebergLake(folder(filled).parents[1], clock=clock)

    assert other.files() == filled.files()
    other.close()


def test_removed_files_are_recorded_as_deleted(filled: IcebergLake, make_table: MakeTable) -> None:
    old = filled.files()[:2]
    run = filled.write(make_table([5, 7], ids="d"), sorted_run=2)

    filled.commit(lambda _: Change(add=[run], remove=old))

    snapshot = foreign(filled).current_snapshot()
    assert snapshot is not None
    assert snapshot.summary is not None
    assert snapshot.summary.operation.value == "overwrite"
    assert snapshot.summary["deleted-data-files"] == "2"
    assert snapshot.summary["total-data-files"] == "2"
    assert snapshot.summary["total-records"] == "4"


def test_a_reopened_lake_knows_runs_and_state(filled: IcebergLake, clock: ManualClock) -> None:
    before = (filled.files(), filled.current())
    filled.close()

    reopened = IcebergLake(folder(filled).parents[1], clock=clock)

    assert (reopened.files(), reopened.current()) == before
    assert [file.sorted_run for file in reopened.files()] == [0, 0, 1]
    reopened.close()


def test_a_lake_opens_by_the_properties_of_a_catalog(tmp_path: Path, make_table: MakeTable, append: Append) -> None:
    properties = {"uri": f"sqlite:///{tmp_path}/my.db", "warehouse": f"file://{tmp_path}/warehouse"}
    lake = IcebergLake(properties, clock=ManualClock())
    append(lake, make_table([1]))

    again = IcebergLake(properties, clock=ManualClock())

    assert again.files() == lake.files()
    lake.close()
    again.close()


def test_a_warehouse_elsewhere_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="local folder"):
        IcebergLake({"uri": f"sqlite:///{tmp_path}/my.db", "warehouse": "s3://bucket"}, clock=ManualClock())


def test_a_copied_lake_never_touches_the_one_it_was_copied_from(
    filled: IcebergLake, tmp_path: Path, clock: ManualClock, make_table: MakeTable, append: Append
) -> None:
    original = folder(filled).parents[1]
    rows = rows_of(filled.read(filled.files(), ["event_id", "unit_hash"]))
    shutil.copytree(original, tmp_path / "copy")
    before = sorted(original.rglob("*"))

    copy = IcebergLake(tmp_path / "copy", clock=clock)
    copied = rows_of(copy.read(copy.files(), ["event_id", "unit_hash"]))
    append(copy, make_table([9], ids="new"))
    clock.set_us(SystemClock().now_us() + 30 * 86_400_000_000)
    copy.expire()
    copy.remove_orphans()

    assert copied == rows
    assert len(copy.files()) == 4
    assert all(file.path.startswith(str(tmp_path / "copy")) for file in copy.files())
    assert sorted(original.rglob("*")) == before
    copy.close()


@pytest.mark.parametrize("name", ["with space", "it's", "hash#mark", "per%20cent", "snow ☃", "[ab]*", "what?"])
def test_a_folder_may_have_any_name(tmp_path: Path, name: str, make_table: MakeTable, append: Append) -> None:
    lake = IcebergLake(tmp_path / name, clock=ManualClock())

    append(lake, make_table([1, 2]))
    lake.expire()

    assert lake.read(lake.files(), ["event_id"]).num_rows == 2
    lake.close()


def test_a_snapshot_by_another_engine_does_not_move_ingest(filled: IcebergLake) -> None:
    before = filled.current()
    table = foreign(filled)

    table.delete("unit_hash >= 7")

    after = filled.current()
    assert before is not None
    assert after is not None
    assert after.snapshot_id != before.snapshot_id
    assert after.state == before.state
    assert len(filled.files()) == 2


def test_a_table_that_never_was_ours_is_not_begun_anew(tmp_path: Path) -> None:
    lake = IcebergLake(tmp_path / "lake", clock=ManualClock())
    foreign(lake).append(pa.table({"event_id": ["x"]}))

    with pytest.raises(Corrupt, match="no ingest state"):
        lake.commit(lambda _: Change(state=IngestState()))

    lake.close()


def test_schemas_that_no_snapshot_uses_are_forgotten(
    iceberg: IcebergLake, definitions: Definitions, make_table: MakeTable, append: Append, clock: ManualClock
) -> None:
    append(iceberg, make_table([1]))
    iceberg.ensure_columns(definitions)
    append(iceberg, make_table([2], ids="f"))
    clock.advance(100_000)

    iceberg.expire()

    assert len(foreign(iceberg).schemas()) == 1
    assert len(iceberg.columns()) == len(foreign(iceberg).schema().fields)


def test_no_connection_is_left_open(tmp_path: Path) -> None:
    lake = IcebergLake(tmp_path / "lake", clock=ManualClock())

    lake.close()

    with sqlite3.connect(tmp_path / "lake" / "catalog.db") as connection:
        connection.execute("PRAGMA journal_mode=DELETE")  # needs the file for itself alone
    connection.close()
