"""The catalog: one row that names the table's newest metadata file, swapped by comparing.

Invariants
    a commit succeeds only if the row still names the very metadata file that the commit was decided on
    a metadata file is on the disk before the row names it
    metadata files never change, so one that was read need not be read again

pyiceberg's own ``commit_table`` loads the table anew and compares with that, not with what the caller decided on. So
this catalog keeps pyiceberg's tables and layout and does the swap itself.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Final

from pyiceberg.catalog import TABLE_METADATA_FILE_NAME_REGEX
from pyiceberg.catalog.sql import IcebergTables, SqlCatalog
from pyiceberg.exceptions import CommitFailedException, NoSuchTableError
from pyiceberg.io import FileIO
from pyiceberg.serializers import FromInputFile
from pyiceberg.table import CommitTableResponse, Table
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.update import (
    TableRequirement,
    TableUpdate,
    _apply_table_update,  # pyright: ignore[reportPrivateUsage] (see updated_metadata; the version is pinned)
    _TableMetadataUpdateContext,  # pyright: ignore[reportPrivateUsage]
    _update_table_metadata_log,  # pyright: ignore[reportPrivateUsage]
)
from pyiceberg.typedef import Identifier
from sqlalchemy import URL, select, update
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from groundswell.errors import Corrupt, InvalidInput, Unavailable
from groundswell.lake.drivers import driver_errors, reading_metadata
from groundswell.lake.files import FOLDER_PROPERTY, TABLE_FOLDER, LocalFiles, ensure_folder, sync_folder

__all__ = ["CATALOG", "IDENTIFIER", "NAMESPACE", "TABLE", "SwapCatalog", "open_catalog", "updated_metadata"]

CATALOG: Final = "groundswell"
NAMESPACE: Final = "groundswell"
TABLE: Final = "events"
IDENTIFIER: Final = (NAMESPACE, TABLE)

_BUSY_S: Final = 30  # a commit holds SQLite's write lock for milliseconds; longer means a stuck process
_RACES_MAX: Final = 5
_LOADS_MAX: Final = 5  # a metadata file may be deleted between reading its name and reading it


class SwapCatalog(SqlCatalog):
    """pyiceberg's SQL catalog with a strict compare-and-swap. Knows one table."""

    def __init__(self, name: str, **properties: str) -> None:
        super().__init__(name, **properties)
        self._lock = threading.Lock()
        self._cached: tuple[str, TableMetadata] | None = None
        self._snapshots: dict[tuple[int, int | None], str] = {}

    def metadata_location(self) -> str:
        """Return the name of the newest metadata file."""
        where = (
            IcebergTables.catalog_name == self.name,
            IcebergTables.table_namespace == NAMESPACE,
            IcebergTables.table_name == TABLE,
        )
        with Session(self.engine) as session:
            location = session.scalar(select(IcebergTables.metadata_location).where(*where))
        if location is None:
            raise NoSuchTableError(f"{NAMESPACE}.{TABLE}")
        return location

    def load_table(self, identifier: str | Identifier) -> Table:
        del identifier
        for attempt in range(_LOADS_MAX):
            location = self.metadata_location()
            try:
                return self._table(location, self._metadata(location))
            except FileNotFoundError as error:
                if attempt == _LOADS_MAX - 1 or location == self.metadata_location():
                    path = LocalFiles(self.properties).path(location)  # of a copied lake, not where it was copied from
                    raise Corrupt(f"metadata file {path} is missing; restore the lake from a backup") from error
        raise AssertionError

    def _table(self, location: str, metadata: TableMetadata) -> Table:
        return Table(IDENTIFIER, metadata, location, self._files(metadata, location), self)

    def _files(self, metadata: TableMetadata, location: str) -> FileIO:
        return self._load_file_io(metadata.properties, location)

    def _metadata(self, location: str) -> TableMetadata:
        with self._lock:
            if self._cached and self._cached[0] == location:
                return self._cached[1]
        files = LocalFiles(self.properties)
        with reading_metadata(files.path(location)):
            metadata = FromInputFile.table_metadata(files.new_input(location))
        with self._lock:
            self._cached = (location, metadata)
        return metadata

    def commit_table(
        self, table: Table, requirements: tuple[TableRequirement, ...], updates: tuple[TableUpdate, ...]
    ) -> CommitTableResponse:
        """Swap ``table.metadata_location`` for new metadata.

        Raises:
            CommitFailedException: the row names another metadata file by now; nothing was changed.
        """
        for requirement in requirements:
            requirement.validate(table.metadata)
        base = table.metadata_location
        metadata = updated_metadata(table.metadata, base, updates)
        location = table.location_provider().new_table_metadata_file_location(_version(base) + 1)
        files = LocalFiles(self.properties)
        self.write_metadata(metadata, location)
        if not self._swap(base, location):
            Path(files.path(location)).unlink(missing_ok=True)
            raise CommitFailedException(f"{NAMESPACE}.{TABLE} has moved on from {base}")
        with self._lock:
            self._cached = (location, metadata)
        self._drop_old_metadata(files, table.metadata, metadata)
        return CommitTableResponse.model_construct(metadata=metadata, metadata_location=location)

    def write_metadata(self, metadata: TableMetadata, location: str) -> None:
        """Write a metadata file and wait until it is on the disk; nothing names it yet."""
        files = LocalFiles(self.properties)
        path = Path(files.path(location))
        try:
            with files.new_output(location).create() as stream:
                stream.write(self._serialized(metadata))
        except OSError:
            path.unlink(missing_ok=True)
            raise
        sync_folder(str(path.parent))

    def _serialized(self, metadata: TableMetadata) -> bytes:
        """Return ``metadata`` as JSON; each snapshot is put into words once: it never changes."""
        with self._lock:
            known, self._snapshots = self._snapshots, {}
            for one in metadata.snapshots:
                key = (one.snapshot_id, one.parent_snapshot_id)  # an expired parent is forgotten
                self._snapshots[key] = known.get(key) or one.model_dump_json(exclude_none=True)
            snapshots = ",".join(self._snapshots.values())
        rest = metadata.model_dump_json(exclude_none=True, exclude={"snapshots"})
        return f'{{"snapshots":[{snapshots}],{rest[1:]}'.encode()

    def _swap(self, base: str, location: str) -> bool:
        statement = (
            update(IcebergTables)
            .where(
                IcebergTables.catalog_name == self.name,
                IcebergTables.table_namespace == NAMESPACE,
                IcebergTables.table_name == TABLE,
                IcebergTables.metadata_location == base,
            )
            .values(metadata_location=location, previous_metadata_location=base)
        )
        with Session(self.engine) as session:
            rows = session.connection().execute(statement).rowcount
            session.commit()
        return rows == 1

    @staticmethod
    def _drop_old_metadata(files: LocalFiles, base: TableMetadata, metadata: TableMetadata) -> None:
        kept = {entry.metadata_file for entry in metadata.metadata_log}
        for entry in base.metadata_log:
            if entry.metadata_file not in kept:
                Path(files.path(entry.metadata_file)).unlink(missing_ok=True)

    def close(self) -> None:
        self.engine.dispose()


def updated_metadata(metadata: TableMetadata, location: str, updates: tuple[TableUpdate, ...]) -> TableMetadata:
    """Apply ``updates`` as pyiceberg's ``update_table_metadata`` does, without its deep copy of every snapshot.

    An update makes new lists and never changes what it was given; the copy would be half of a commit's cost.
    """
    context = _TableMetadataUpdateContext()
    updated = metadata
    for one in updates:
        updated = _apply_table_update(one, updated, context)
    return _update_table_metadata_log(updated, location, metadata.last_updated_ms)


def _version(location: str) -> int:
    match = TABLE_METADATA_FILE_NAME_REGEX.fullmatch(location.rpartition("/")[2])
    return int(match.group(1)) if match else 0


def open_catalog(where: Path | Mapping[str, str]) -> SwapCatalog:
    """Open a catalog, and make it where there is none.

    Args:
        where: the lake's folder (a SQLite catalog in it); or ``uri`` (a database) and ``warehouse`` (a local folder).

    Raises:
        InvalidInput: the warehouse is not a local folder.
        Unavailable: the database is locked or away.
        Corrupt: the database is damaged.
    """
    with driver_errors("opening the lake"):
        if isinstance(where, Path):
            warehouse = where.absolute()
            ensure_folder(str(warehouse))
            database = warehouse / "catalog.db"
            _set_up_sqlite(database)
            uri = URL.create("sqlite", database=str(database), query={"timeout": str(_BUSY_S)}).render_as_string()
        else:
            uri, place = where["uri"], where["warehouse"]
            if "://" in place and not place.startswith("file://"):
                raise InvalidInput("warehouse", place, "must be a local folder")
            warehouse = Path(place.removeprefix("file://")).absolute()
            ensure_folder(str(warehouse))
        properties = {
            "uri": uri,
            "warehouse": f"file://{warehouse}",
            "py-io-impl": f"{LocalFiles.__module__}.{LocalFiles.__name__}",
            FOLDER_PROPERTY: f"{warehouse}/{TABLE_FOLDER}",
        }
        return _open_or_make(properties)


def _open_or_make(properties: Mapping[str, str]) -> SwapCatalog:
    """Processes that open a new database at once may all find no tables in it; all but one then fail to make them."""
    for _ in range(_RACES_MAX):
        try:
            return SwapCatalog(CATALOG, **properties)
        except SQLAlchemyError as error:
            if "already exists" not in str(error):
                raise
    raise Unavailable("other processes are making the catalog; try again")


def _set_up_sqlite(database: Path) -> None:
    """Readers must not block the committer: write-ahead log, kept by the file itself. Commits are fsynced (FULL)."""
    try:
        with closing(sqlite3.connect(database, timeout=_BUSY_S)) as connection:
            connection.execute("PRAGMA journal_mode=WAL")
    except sqlite3.OperationalError as error:
        raise Unavailable(f"catalog {database} is locked, full or away ({error})") from error
    except sqlite3.DatabaseError as error:
        raise Corrupt(f"catalog {database} is damaged ({error}); restore it from a backup") from error
