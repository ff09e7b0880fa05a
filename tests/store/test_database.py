"""The database file: new, old, newer, locked, full, damaged, or something else's."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from groundswell import limits
from groundswell.errors import Conflict, Corrupt, GroundswellError, InvalidInput, NotFound, Unavailable
from groundswell.model.clock import SystemClock
from groundswell.store import Manifest, Store, connect, tables
from groundswell.testing.clock import ManualClock


def test_migrations_make_the_tables_that_the_program_knows(store: Store) -> None:
    engine = sa.create_engine(f"sqlite:///{store.path}")
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        differences = compare_metadata(context, tables.metadata)
    engine.dispose()

    assert differences == []


def test_the_newest_migration_is_the_one_that_the_program_names() -> None:
    config = Config()
    config.set_main_option("script_location", "groundswell.store:migrations")

    assert ScriptDirectory.from_config(config).get_heads() == [tables.SCHEMA_HEAD]


def test_a_store_is_found_again(tmp_path: Path, clock: ManualClock, example: str) -> None:
    first = Store.open(tmp_path / "new" / "folder" / "control.db", clock)
    first.apply(Manifest.parse(example), by="ada")
    first.close()

    second = Store.open(f"sqlite:///{tmp_path}/new/folder/control.db", clock, create=False)

    assert second.version() == 1
    second.close()


def test_a_store_that_is_not_there_is_not_made_by_a_reader(tmp_path: Path, clock: ManualClock) -> None:
    with pytest.raises(NotFound, match="no control database"):
        Store.open(tmp_path / "control.db", clock, create=False)

    assert list(tmp_path.iterdir()) == []


def test_a_database_of_another_kind_is_refused_without_its_password(clock: ManualClock) -> None:
    with pytest.raises(InvalidInput, match="sqlite:///") as caught:
        Store.open("postgresql://me:secret@127.0.0.1/control", clock)

    assert "secret" not in str(caught.value)


def test_a_folder_is_no_database(tmp_path: Path, clock: ManualClock) -> None:
    with pytest.raises(InvalidInput, match="is a folder"):
        Store.open(tmp_path, clock)


def test_a_database_of_a_newer_program_is_left_alone(store: Store, clock: ManualClock) -> None:
    store.close()
    with sqlite3.connect(store.path) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '0002'")
    connection.close()

    with pytest.raises(Conflict, match="has schema 0002, this program knows up to 0001; run the newer"):
        Store.open(store.path, clock)


def test_a_body_of_a_newer_program_is_not_misread(store: Store, example: str) -> None:
    store.apply(Manifest.parse(example), by="ada")
    with sqlite3.connect(store.path) as connection:
        connection.execute("UPDATE objects SET format = 2 WHERE name = 'buyers'")
    connection.close()

    with pytest.raises(Conflict, match="metric buyers is stored in format 2"):
        store.definitions()


def test_a_body_that_no_program_wrote_is_damage(store: Store, example: str) -> None:
    store.apply(Manifest.parse(example), by="ada")
    with sqlite3.connect(store.path) as connection:
        connection.execute("UPDATE objects SET body = '{\"type\": \"mode\"}' WHERE name = 'buyers'")
    connection.close()

    with pytest.raises(Corrupt, match="metric buyers cannot be read"):
        store.definitions()


def test_a_database_of_something_else_is_left_alone(tmp_path: Path, clock: ManualClock) -> None:
    path = tmp_path / "music.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE songs (name TEXT)")
    connection.close()

    with pytest.raises(Conflict, match="something else"):
        Store.open(path, clock)

    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT name FROM sqlite_master").fetchall() == [("songs",)]
    connection.close()


def _cut(path: Path) -> None:
    os.truncate(path, 5_000)


def _overwrite(path: Path) -> None:
    path.write_bytes(b"this is no database, it is a letter to my aunt. " * 1_000)


def _scramble(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[4096:] = bytes(7 * i % 256 for i in range(len(data) - 4096))
    path.write_bytes(data)


@pytest.mark.parametrize("damage", [_cut, _overwrite, _scramble])
def test_a_damaged_file_is_told_as_such(
    store: Store, clock: ManualClock, example: str, damage: Callable[[Path], None]
) -> None:
    store.apply(Manifest.parse(example), by="ada")
    store.close()
    for side in ("-wal", "-shm"):
        Path(f"{store.path}{side}").unlink(missing_ok=True)
    damage(store.path)

    with pytest.raises(Corrupt, match="restore it from a backup"):
        Store.open(store.path, clock).definitions()


def test_a_table_that_is_gone_is_told_as_damage(store: Store) -> None:
    with sqlite3.connect(store.path) as connection:
        connection.execute("DROP TABLE objects")
    connection.close()

    with pytest.raises(Corrupt, match="no such table"):
        store.definitions()


def test_a_locked_database_is_unavailable_for_writers_and_not_for_readers(
    tmp_path: Path, example: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "store_busy_s", 0.2)
    store = Store.open(tmp_path / "control.db", SystemClock())
    store.apply(Manifest.parse(example), by="ada")
    other = sqlite3.connect(store.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")

    with pytest.raises(Unavailable, match="locked by another process"):
        store.apply(Manifest.parse("events: {view: }"), by="ada")
    assert store.definitions().version == 1

    other.execute("ROLLBACK")
    other.close()
    assert store.apply(Manifest.parse("events: {view: }"), by="ada").version == 2
    store.close()


def test_a_new_database_that_someone_locks_is_unavailable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "store_busy_s", 0.2)
    path = tmp_path / "control.db"
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")

    with pytest.raises(Unavailable, match="locked"):
        Store.open(path, SystemClock())

    other.execute("ROLLBACK")
    other.close()
    Store.open(path, SystemClock()).close()


def test_a_commit_is_on_disk_when_it_returns(store: Store, clock: ManualClock, monkeypatch: pytest.MonkeyPatch) -> None:
    on_connect = getattr(connect, "_on_connect")  # noqa: B009 - a private name
    seen: list[tuple[object, ...]] = []

    def look(connection: sqlite3.Connection, record: object) -> None:
        on_connect(connection, record)
        names = ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        seen.append(tuple(connection.execute(f"PRAGMA {name}").fetchone()[0] for name in names))

    monkeypatch.setattr(connect, "_on_connect", look)
    again = Store.open(store.path, clock)
    again.close()

    assert set(seen) == {("wal", 2, 1, 5_000)}


def test_a_full_disk_loses_nothing_and_changes_nothing(
    store: Store, clock: ManualClock, example: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.apply(Manifest.parse(example), by="ada")
    before = store.definitions()
    on_connect = getattr(connect, "_on_connect")  # noqa: B009 - a private name

    def on_small_disk(connection: sqlite3.Connection, record: object) -> None:
        on_connect(connection, record)
        connection.execute("PRAGMA max_page_count = 1")  # SQLite takes the smallest that holds what is there

    monkeypatch.setattr(connect, "_on_connect", on_small_disk)
    small = Store.open(store.path, clock)
    many = "events:\n" + "".join(f"  event_{i}: {{description: {'x' * 1_000}}}\n" for i in range(200))

    with pytest.raises(Unavailable, match="disk is full"):
        small.apply(Manifest.parse(many), by="ada")

    assert small.definitions() == before
    assert len(small.audit_trail()) == 8
    small.close()


def test_a_file_that_may_not_be_written_is_unavailable(
    store: Store, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connect, "_on_connect", lambda one, _: one.execute("PRAGMA query_only = 1"))
    reader = Store.open(store.path, clock)

    with pytest.raises(Unavailable, match="may not be written"):
        reader.apply(Manifest.parse("events: {view: }"), by="ada")

    reader.close()


def test_a_folder_that_cannot_be_made_is_unavailable(tmp_path: Path, clock: ManualClock) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(Unavailable, match="folder cannot be used"):
        Store.open(tmp_path / "file" / "folder" / "control.db", clock)


def test_a_copy_is_whole_while_others_write(store: Store, clock: ManualClock, example: str, tmp_path: Path) -> None:
    store.apply(Manifest.parse(example), by="ada")
    key = store.create_key("web", by="ada")
    other = sqlite3.connect(store.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    other.execute("DELETE FROM keys")

    store.copy_to(tmp_path / "copy.db")

    other.execute("COMMIT")
    other.close()
    copy = Store.open(tmp_path / "copy.db", clock)
    assert copy.definitions() == store.definitions()
    assert copy.resolve_key(key) == "web"
    copy.close()
    with pytest.raises(Conflict, match="exists"):
        store.copy_to(tmp_path / "copy.db")


def test_a_copy_to_nowhere_is_unavailable(store: Store, tmp_path: Path) -> None:
    with pytest.raises(GroundswellError):
        store.copy_to(tmp_path / "no" / "folder" / "copy.db")
