"""SQLite, as the log uses it: connections and the mapping of its errors.

Invariants
    a write connection syncs before a commit returns and never checkpoints on its own
    whatever sqlite3 or the file system raises leaves this room as ``Unavailable`` or ``Corrupt``, naming the file
"""

from __future__ import annotations

import sqlite3
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from urllib.parse import quote

from groundswell import limits
from groundswell.errors import Corrupt, GroundswellError, Unavailable

__all__ = ["APPLICATION_ID", "mapped", "open_reader", "open_writer"]

APPLICATION_ID: Final = 0x47574C47  # "GWLG", so that `file` and we can tell whose database it is

_BUSY: Final = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL}
_AWAY: Final = {
    sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_INTERRUPT,
}  # fmt: skip


def open_writer(path: Path, *, busy_s: float = limits.log_busy_s, wal: bool = True) -> sqlite3.Connection:
    """Open ``path`` for writing; without ``wal`` the file is whole whenever nobody writes."""
    connection = sqlite3.connect(path, timeout=busy_s, isolation_level=None, check_same_thread=False)
    try:
        if wal:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")
            connection.execute("PRAGMA wal_autocheckpoint=0")
            connection.execute(f"PRAGMA journal_size_limit={limits.wal_bytes_max * 2}")
        else:
            connection.execute("PRAGMA journal_mode=DELETE")
            connection.execute("PRAGMA synchronous=EXTRA")  # syncs the folder too: the journal's removal is the commit
    except BaseException:
        connection.close()
        raise
    return connection


def open_reader(path: Path, *, sealed: bool = False) -> sqlite3.Connection:
    """Open ``path`` for reading; ``sealed`` promises that it never changes, so SQLite takes no locks."""
    mode = "mode=ro&immutable=1" if sealed else "mode=ro"
    uri = f"file:{quote(str(path.absolute()))}?{mode}"
    connection = sqlite3.connect(
        uri, uri=True, timeout=limits.log_busy_s, isolation_level=None, check_same_thread=False
    )
    try:
        connection.execute("PRAGMA query_only=1")
        connection.execute("PRAGMA mmap_size=0")
    except BaseException:
        connection.close()
        raise
    return connection


@contextmanager
def mapped(path: Path) -> Generator[None]:
    """Turn what the driver raises while it works on ``path`` into this project's errors."""
    try:
        yield
    except GroundswellError:
        raise
    except sqlite3.Error as error:
        raise _translate(path, error) from error
    except OSError as error:
        raise Unavailable(f"{path}: {error.strerror or error}; free or repair the disk, then retry") from error


def _translate(path: Path, error: sqlite3.Error) -> GroundswellError:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in _BUSY:
        return Unavailable(f"{path} is locked by another program; close it, or retry")
    if code == sqlite3.SQLITE_FULL:
        return Unavailable(f"{path}: the disk is full; free space, then retry")
    if code in _AWAY or isinstance(error, sqlite3.InterfaceError | sqlite3.ProgrammingError):
        return Unavailable(f"{path}: {error}; check the disk and the file's permissions, then retry")
    return Corrupt(
        f"{path} is damaged ({error}); stop Groundswell, keep a copy of the data folder, and bring the newest backup "
        "back with groundswell restore"
    )
