"""The control database as a connection: opening, migrating, locking, and what its driver's errors mean.

Invariants
    a write holds the database's one write lock from its first read on, so what it decided on stands when it commits
    a commit is on disk when it returns (WAL, synchronous=FULL)
    a database of a newer program is never touched
    no exception of the driver leaves this room
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Generator
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.exc import DBAPIError, InterfaceError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from groundswell import limits
from groundswell.errors import Conflict, Corrupt, InvalidInput, NotFound, Unavailable
from groundswell.model.clock import Clock
from groundswell.store.tables import SCHEMA_HEAD

__all__ = ["Database"]

_URL: Final = "sqlite:///"
_LOCKED: Final = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
_DAMAGED: Final = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_AWAY: Final = {
    sqlite3.SQLITE_FULL: "the disk is full",
    sqlite3.SQLITE_IOERR: "the disk gives an error",
    sqlite3.SQLITE_CANTOPEN: "the file cannot be opened",
    sqlite3.SQLITE_READONLY: "the file or its folder may not be written",
    sqlite3.SQLITE_PERM: "the file may not be read",
    sqlite3.SQLITE_NOMEM: "memory is short",
}
_LOCK_RETRY_S: Final = 0.02


class Database:
    """An open control database. Threads may share it; processes open their own."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._engine = sa.create_engine(
            sa.URL.create("sqlite", database=str(path)),
            connect_args={"timeout": limits.store_busy_s, "check_same_thread": False},
        )
        event.listen(self._engine, "connect", _on_connect)
        event.listen(self._engine, "begin", _on_begin)

    @classmethod
    def open(cls, where: str | os.PathLike[str], clock: Clock, *, create: bool = True) -> Database:
        """Open or create a database, and bring its tables up to what this program knows.

        Raises:
            InvalidInput: ``where`` is a URL of something else than SQLite.
            NotFound: there is none, and ``create`` is False.
            Conflict: it belongs to a newer program, or to another one.
            Corrupt: its bytes are no database.
            Unavailable: it is locked, or its disk is full or away.
        """
        path = _path_of(where)
        try:
            _find(path, create=create)
        except OSError as error:
            raise Unavailable(f"control database {path}: its folder cannot be used ({error.strerror})") from error
        database = cls(path)
        try:
            database._prepare(clock)
        except BaseException:
            database.close()
            raise
        return database

    @contextlib.contextmanager
    def reading(self) -> Generator[sa.Connection]:
        """Give a connection that sees one moment of the database."""
        with self._mapped(), self._engine.connect() as connection, connection.begin():
            yield connection

    @contextlib.contextmanager
    def writing(self) -> Generator[sa.Connection]:
        """Give a connection that holds the write lock; commit at the end, roll back on any exception."""
        with self._mapped(), self._engine.connect() as connection:
            connection.execution_options(holds_write_lock=True)
            with connection.begin():
                yield connection

    def copy_to(self, target: Path) -> None:
        """Write a consistent copy while others read and write.

        Raises:
            Conflict: ``target`` exists.
        """
        if target.exists():
            raise Conflict(f"{target} exists; name a file that does not")
        with self._mapped(), self._engine.connect() as connection:
            connection.connection.cursor().execute("VACUUM INTO ?", (str(target),))

    def close(self) -> None:
        """Release the file."""
        self._engine.dispose()

    # --- opening -----------------------------------------------------------------------------------------------

    def _prepare(self, clock: Clock) -> None:
        self._use_wal(clock)
        with self.reading() as connection:
            if self._schema(connection) == SCHEMA_HEAD:
                return
        with self.writing() as connection:
            if self._schema(connection) != SCHEMA_HEAD:  # another process may have been quicker
                _migrate(connection)

    def _use_wal(self, clock: Clock) -> None:
        """Switch the file to WAL once. SQLite does not wait for its busy timeout here, so we do."""
        deadline = clock.monotonic_s() + limits.store_busy_s
        while True:
            try:
                with self._mapped(), self._engine.connect() as connection:
                    cursor = connection.connection.cursor()
                    if cursor.execute("PRAGMA journal_mode").fetchone() != ("wal",):
                        cursor.execute("PRAGMA journal_mode = WAL")
            except Unavailable:
                if clock.monotonic_s() >= deadline or not self.path.exists():
                    raise
                clock.sleep(_LOCK_RETRY_S)
            else:
                return

    def _schema(self, connection: sa.Connection) -> str | None:
        """Return the newest migration that was applied; None for an empty database."""
        names = set(sa.inspect(connection).get_table_names())
        if not names:
            return None
        if "alembic_version" not in names:
            raise Conflict(f"{self.path} is a database of something else; name another file or folder")
        found = connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar_one_or_none()
        if found is not None and found > SCHEMA_HEAD:
            raise Conflict(
                f"control database {self.path} has schema {found}, this program knows up to {SCHEMA_HEAD}; "
                "run the newer groundswell that wrote it"
            )
        return found

    # --- errors ------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _mapped(self) -> Generator[None]:
        try:
            yield
        except PoolTimeout as error:
            raise Unavailable(f"control database {self.path}: every connection is in use; try again") from error
        except InterfaceError as error:
            raise Corrupt(f"control database {self.path}: {error.orig}") from error
        except DBAPIError as error:
            raise self._meaning(error.orig) from error
        except sqlite3.Error as error:
            raise self._meaning(error) from error
        except SQLAlchemyError as error:
            raise Corrupt(f"control database {self.path}: {error}") from error

    def _meaning(self, error: BaseException | None) -> Exception:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in _LOCKED:
            return Unavailable(
                f"control database {self.path} is locked by another process, after {limits.store_busy_s:g} s "
                "of waiting; try again"
            )
        if code in _DAMAGED:
            return Corrupt(f"control database {self.path} is damaged ({error}); restore it from a backup")
        if code in _AWAY:
            return Unavailable(f"control database {self.path}: {_AWAY[code]} ({error})")
        return Corrupt(
            f"control database {self.path} is not as this program left it ({error}); restore it from a backup"
        )


def _path_of(where: str | os.PathLike[str]) -> Path:
    text = os.fspath(where)
    if "://" in text and not text.startswith(_URL):
        raise InvalidInput(
            "store", text.split("@")[-1], "must be a file or a URL that starts with sqlite:///", next_step="name a file"
        )
    return Path(text.removeprefix(_URL))


def _find(path: Path, *, create: bool) -> None:
    """See that there is a file at ``path``, or may be one."""
    if path.is_dir():
        raise InvalidInput("store", str(path), "must be a file, and is a folder", next_step="name a file in it")
    if not path.exists():
        if not create:
            raise NotFound(f"there is no control database at {path}; run: groundswell apply -f PATH")
        path.parent.mkdir(parents=True, exist_ok=True)


def _on_connect(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # the driver opens no transactions of its own: _on_begin does
    cursor = connection.cursor()
    cursor.execute("PRAGMA synchronous = FULL")
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.close()


def _on_begin(connection: sa.Connection) -> None:
    held = connection.get_execution_options().get("holds_write_lock", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if held else "BEGIN")


def _migrate(connection: sa.Connection) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", "groundswell.store:migrations")
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
