"""SQL over a snapshot: what it answers, and that it can do nothing else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from groundswell.errors import Corrupt, InvalidInput, SnapshotGone, Unavailable
from groundswell.lake.iceberg import IcebergLake
from groundswell.lake.sql import query
from groundswell.model.definitions import Definitions, PropertyDef
from groundswell.testing.clock import ManualClock

MakeTable = Callable[..., pa.Table]
Append = Callable[..., Any]


@pytest.fixture
def filled(iceberg: IcebergLake, make_table: MakeTable, append: Append, definitions: Definitions) -> IcebergLake:
    iceberg.ensure_columns(definitions)
    append(iceberg, make_table([1, 2, 3], revenue=[1.5, None, 2.0]))
    append(iceberg, make_table([4], ids="f", type=["purchase"], title=["it's"]))
    return iceberg


def test_a_select_sees_all_files_of_the_newest_snapshot(filled: IcebergLake) -> None:
    answer = query(filled, "SELECT type, count(*) AS n, sum(revenue) AS total FROM events GROUP BY type ORDER BY type")

    assert answer.to_pylist() == [
        {"type": "purchase", "n": 1, "total": None},
        {"type": "view", "n": 3, "total": 3.5},
    ]


def test_an_older_snapshot_answers_as_it_did(filled: IcebergLake) -> None:
    first = filled.snapshots()[0].snapshot_id

    answer = query(filled, "SELECT count(*) AS n FROM events", snapshot_id=first)

    assert answer.to_pylist() == [{"n": 3}]


def test_every_column_of_the_lake_can_be_named(filled: IcebergLake) -> None:
    answer = query(filled, "SELECT * FROM events")

    assert answer.column_names == filled.columns().names
    assert answer.schema.field("released").type == pa.timestamp("us", tz="UTC")
    assert answer.column("autoplay").null_count == 4


def test_an_empty_lake_has_the_columns_and_no_rows(iceberg: IcebergLake) -> None:
    answer = query(iceberg, "SELECT * FROM events")

    assert answer.num_rows == 0
    assert answer.column_names == iceberg.columns().names


def test_times_are_utc(filled: IcebergLake) -> None:
    answer = query(filled, "SELECT strftime(min(ts), '%H:%M') AS at, current_setting('TimeZone') AS zone FROM events")

    assert answer.to_pylist() == [{"at": "00:00", "zone": "UTC"}]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must be one SELECT"),
        ("SELECT 1; SELECT 2", "must be one SELECT"),
        ("SELEC 1", "syntax error"),
        ("SELECT nope FROM events", "nope"),
        ("SELECT 1 / 'x' FROM events", "Conversion Error"),
        ("SELECT * FROM nothing", "nothing"),
        ("DROP VIEW events", "read only"),
        ("CREATE TABLE mine AS SELECT 1", "read only"),
        ("INSERT INTO events VALUES (1)", "must be"),
        ("SET threads = 1", "read only"),
        ("PRAGMA database_list", "must be one SELECT"),
        ("INSTALL httpfs", "read only"),
        ("LOAD httpfs", "read only"),
        ("ATTACH 'x.db'", "read only"),
        ("COPY events TO 'out.csv'", "read only"),
        ("EXPLAIN ANALYZE COPY events TO 'out.csv'", "read only"),
        ("SELECT * FROM read_csv('/etc/passwd')", "must read the view events alone"),
        ("SELECT * FROM read_text('/etc/passwd')", "must read the view events alone"),
        ("SELECT * FROM '/etc/passwd'", "must"),
        ("SELECT * FROM glob('/*')", "must read the view events alone"),
        ("SELECT * FROM 'https://example.com/x.parquet'", "must"),
    ],
)
def test_what_is_not_one_select_over_events_is_refused(filled: IcebergLake, text: str, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        query(filled, text)


def test_not_even_a_file_of_the_lake_can_be_overwritten(filled: IcebergLake) -> None:
    file = filled.files()[0]
    before = Path(file.path).read_bytes()

    with pytest.raises(InvalidInput, match="read only"):
        query(filled, f"COPY (SELECT 1) TO '{file.path}' (USE_TMP_FILE false)")

    assert Path(file.path).read_bytes() == before


def test_python_objects_are_out_of_reach(filled: IcebergLake) -> None:
    secret = pa.table({"a": [1]})

    with pytest.raises(InvalidInput, match="secret"):
        query(filled, "SELECT * FROM secret")

    assert secret.num_rows == 1


def test_a_query_that_needs_too_much_memory_is_told_so(filled: IcebergLake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("groundswell.lake.sql._CONFIG", {"memory_limit": "30MiB", "temp_directory": ""})

    with pytest.raises(Unavailable, match="needs more memory"):
        query(filled, "SELECT count(DISTINCT a.range) FROM range(5000000) a")


def test_an_expired_snapshot_is_gone(filled: IcebergLake) -> None:
    with pytest.raises(SnapshotGone, match="4711"):
        query(filled, "SELECT 1", snapshot_id=4711)


def test_a_damaged_file_is_named_and_the_query_is_not_blamed(filled: IcebergLake) -> None:
    path = Path(filled.files()[0].path)
    chunk = pq.read_metadata(path).row_group(0).column(0)
    end = (chunk.dictionary_page_offset or chunk.data_page_offset) + chunk.total_compressed_size
    held = bytearray(path.read_bytes())
    held[end - 12 : end] = b"\xff" * 12
    path.write_bytes(held)

    with pytest.raises(Corrupt, match=rf"data file {path} is damaged .*; restore it from a backup"):
        query(filled, f"SELECT {chunk.path_in_schema} FROM events")


def test_a_query_that_names_a_file_itself_is_its_own_fault(filled: IcebergLake) -> None:
    with pytest.raises(InvalidInput, match="must be valid"):
        query(filled, f'SELECT nothing AS "{filled.files()[0].path}" FROM events')


def test_a_missing_file_is_named(filled: IcebergLake) -> None:
    path = Path(filled.files()[0].path)
    path.unlink()

    with pytest.raises(Corrupt, match=path.name):
        query(filled, "SELECT count(*) FROM events")


@pytest.mark.parametrize("name", ["it's", "[ab]*", "snow ☃", "a,b"])
def test_the_folder_may_have_any_name(tmp_path: Path, name: str, make_table: MakeTable, append: Append) -> None:
    lake = IcebergLake(tmp_path / name, clock=ManualClock())
    append(lake, make_table([1, 2]))

    answer = query(lake, "SELECT count(*) AS n FROM events")

    assert answer.to_pylist() == [{"n": 2}]
    lake.close()


def test_a_property_may_be_named_like_a_word_of_sql(
    iceberg: IcebergLake, make_table: MakeTable, append: Append
) -> None:

    iceberg.ensure_columns(
        Definitions(properties={"select": PropertyDef(type="int"), "group": PropertyDef(type="int")})
    )
    append(iceberg, make_table([1]).append_column("select", pa.array([7], pa.int64())))

    answer = query(iceberg, 'SELECT "select", "group" FROM events')

    assert answer.to_pylist() == [{"select": 7, "group": None}]
