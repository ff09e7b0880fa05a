"""The lake on Iceberg: pyiceberg's formats, a SQL catalog, local files.

Invariants
    a commit compares with the very metadata that ``decide`` was asked about, by the name of its file
    every snapshot's summary carries the whole ``IngestState``
    a commit whose answer was lost is looked for by its snapshot id before anything is tried again
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import pyarrow as pa
from pyiceberg.exceptions import (
    CommitFailedException,
    NamespaceAlreadyExistsError,
    NoSuchTableError,
    TableAlreadyExistsError,
)
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Snapshot as IcebergSnapshot
from pyiceberg.table.update import TableUpdate
from pyiceberg.types import (
    BooleanType,
    DoubleType,
    IcebergType,
    IntegerType,
    LongType,
    NestedField,
    PrimitiveType,
    StringType,
    TimestamptzType,
)
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from groundswell import limits
from groundswell.errors import CommitConflict, Corrupt, GroundswellError, InvalidInput, SnapshotGone
from groundswell.lake import upkeep
from groundswell.lake.catalog import CATALOG, IDENTIFIER, NAMESPACE, TABLE, SwapCatalog, open_catalog
from groundswell.lake.columns import FIRST_SCHEMA, check_table, missing_columns
from groundswell.lake.contract import Change, IngestState, LakeFile, Snapshot
from groundswell.lake.copying import copy_lake, kept_snapshots
from groundswell.lake.drivers import driver_errors
from groundswell.lake.files import FOLDER_PROPERTY, ensure_folder, local_path, sync_folder
from groundswell.lake.manifests import ManifestReader, stage
from groundswell.lake.parquet import (
    column_names,
    damaged_columns,
    from_data_file,
    read_file,
    to_data_file,
    write_file,
)
from groundswell.lake.reading import check_columns, file_order
from groundswell.lake.retention import check_tag
from groundswell.lake.steps import EXPIRED, STAGE, SWAP, SWAPPED, WRITE, WRITTEN
from groundswell.lake.summary import snapshot_by_id, state_of, summarize, to_snapshot
from groundswell.lake.updates import set_tag
from groundswell.model.clock import Clock
from groundswell.model.definitions import Definitions
from groundswell.model.faults import Faults, NoFaults

__all__ = ["IcebergLake"]

_RACES_MAX: Final = 16
_US_PER_MS: Final = 1_000
_MS_PER_S: Final = 1_000
_METADATA_FILES_MAX: Final = 32  # older ones are deleted; a reader has that many commits' time to read one
_PROPERTIES: Final = {
    "commit.retry.num-retries": "0",  # pyiceberg's own retry would append twice
    "commit.manifest-merge.enabled": "true",
    "write.metadata.delete-after-commit.enabled": "true",
    "write.metadata.previous-versions-max": str(_METADATA_FILES_MAX),
    "write.parquet.compression-codec": "zstd",
    "groundswell.format": "1",
}
_TYPES: Final[Mapping[pa.DataType, PrimitiveType]] = {
    pa.string(): StringType(),
    pa.int64(): LongType(),
    pa.int32(): IntegerType(),
    pa.float64(): DoubleType(),
    pa.bool_(): BooleanType(),
    pa.timestamp("us", tz="UTC"): TimestamptzType(),
}
_ARROW_TYPES: Final[Mapping[IcebergType, pa.DataType]] = {theirs: ours for ours, theirs in _TYPES.items()}


class IcebergLake:
    """The ``Lake`` contract on an Iceberg table.

    Args:
        where: the lake's folder, or the properties ``uri`` and ``warehouse`` of a catalog elsewhere.
        clock: what the lake takes the time from.
        faults: told of each of ``steps.LAKE_STEPS`` and ``steps.EXPIRY_STEPS``.

    Raises:
        Unavailable: the catalog is locked or away.
        Corrupt: the catalog or the newest metadata is damaged.
    """

    def __init__(self, where: Path | Mapping[str, str], *, clock: Clock, faults: Faults | None = None) -> None:
        self._clock = clock
        self._faults = faults or NoFaults()
        self._catalog = open_catalog(where)
        self._manifests = ManifestReader()
        self._listed: tuple[int, list[LakeFile]] | None = None  # the files of the snapshot asked for last
        self._commits = threading.RLock()  # threads of one process need not race
        with driver_errors("opening the lake"):
            self._folder = _create_table(self._catalog)

    def close(self) -> None:
        """Release the catalog's connections."""
        self._catalog.close()

    def _load(self) -> Table:
        with driver_errors("loading the lake's table"):
            return self._catalog.load_table(IDENTIFIER)

    # --- columns and files -------------------------------------------------------------------------------------

    def ensure_columns(self, definitions: Definitions) -> None:
        for _ in range(_RACES_MAX):
            table = self._load()
            fields = missing_columns(_arrow_schema(table), definitions)
            if not fields:
                return
            try:
                with driver_errors("adding columns"), table.update_schema() as update:
                    for field in fields:
                        update.add_column(field.name, _TYPES[field.type])
            except CommitConflict:
                continue
            return
        raise CommitConflict(f"lost {_RACES_MAX} races in a row while adding columns")

    def columns(self, files: Sequence[LakeFile] | None = None) -> pa.Schema:
        schema = _arrow_schema(self._load())
        if files is None:
            return schema
        present: set[str] = set()
        for file in files:
            with self._reading(file):
                present.update(column_names(file.path))
        return pa.schema([field for field in schema if field.name in present])

    def write(self, table: pa.Table, *, sorted_run: int = 0) -> LakeFile:
        target = self._load()
        check_table(_arrow_schema(target), table)
        self._faults.reach(WRITE)
        file = write_file(table, f"{self._folder}/data", _field_ids(target), sorted_run=sorted_run)
        self._faults.reach(WRITTEN)
        return file

    # --- commits -----------------------------------------------------------------------------------------------

    def commit(self, decide: Callable[[IngestState], Change | None]) -> Snapshot | None:
        with self._commits:
            if len(self._load().metadata.snapshots) >= limits.live_snapshots_max:
                self.expire()
            for _ in range(_RACES_MAX):
                table = self._load()
                state = state_of(table.metadata, table.metadata.current_snapshot())
                change = decide(state)
                if change is None:
                    return None
                snapshot = self._try(table, change, change.state or state)
                if snapshot is not None:
                    return snapshot
        raise CommitConflict(f"lost {_RACES_MAX} races in a row against other committers")

    def _try(self, table: Table, change: Change, state: IngestState) -> Snapshot | None:
        """Stage and swap once. Return None after a lost race."""
        self._faults.reach(STAGE)
        now_us = self._clock.now_us()
        written: list[str] = []
        try:
            with driver_errors("committing to the lake"):
                made, updates = self._stage(table, change, summarize(state, now_us), now_us, written)
                sync_folder(f"{self._folder}/metadata")
        except GroundswellError:
            self._discard(written)
            raise
        self._faults.reach(SWAP)
        try:
            self._catalog.commit_table(table, (), updates)
        except CommitFailedException:
            self._discard(written)
            return None
        except (SQLAlchemyError, OSError) as error:
            return self._settle(made.snapshot_id, error)
        self._faults.reach(SWAPPED)
        return Snapshot(made.snapshot_id, now_us, state)

    def _stage(
        self, table: Table, change: Change, properties: Mapping[str, str], now_us: int, written: list[str]
    ) -> tuple[IcebergSnapshot, tuple[TableUpdate, ...]]:
        ids, spec_id = _field_ids(table), table.metadata.default_spec_id
        return stage(
            table,
            self._manifests,
            add=[to_data_file(file, self._location(table, file.path), ids, spec_id) for file in change.add],
            remove={self._location(table, file.path) for file in change.remove},
            properties=properties,
            timestamp_ms=_timestamp_ms(table, now_us),
            written=written,
        )

    def _settle(self, snapshot_id: int, error: Exception) -> Snapshot:
        """Look whether a commit whose answer was lost is there. Its files stay: it may still arrive."""
        metadata = self._load().metadata
        if landed := metadata.snapshot_by_id(snapshot_id):
            return to_snapshot(metadata, landed)
        with driver_errors("committing to the lake"):
            raise error

    def _discard(self, locations: Sequence[str]) -> None:
        """Delete metadata files that no snapshot will ever name. Data files are kept: they may be committed again."""
        for location in locations:
            Path(local_path(location, self._folder)).unlink(missing_ok=True)

    def _location(self, table: Table, path: str) -> str:
        """Return the name under which the table knows a file."""
        if not path.startswith(f"{self._folder}/"):
            raise InvalidInput("file", path, f"must lie below {self._folder}")
        return f"{table.metadata.location}{path.removeprefix(self._folder)}"

    # --- snapshots ---------------------------------------------------------------------------------------------

    def current(self) -> Snapshot | None:
        metadata = self._load().metadata
        newest = metadata.current_snapshot()
        return to_snapshot(metadata, newest) if newest else None

    def snapshot(self, snapshot_id: int) -> Snapshot:
        metadata = self._load().metadata
        return to_snapshot(metadata, snapshot_by_id(metadata, snapshot_id))

    def snapshots(self) -> list[Snapshot]:
        metadata = self._load().metadata
        return [to_snapshot(metadata, one) for one in metadata.snapshots]

    def files(self, snapshot_id: int | None = None) -> list[LakeFile]:
        table = self._load()
        metadata = table.metadata
        chosen = metadata.current_snapshot() if snapshot_id is None else snapshot_by_id(metadata, snapshot_id)
        listed = self._listed
        if chosen is not None and listed is not None and listed[0] == chosen.snapshot_id:
            return list(listed[1])
        ids = _field_ids(table)
        with driver_errors("listing the files of a snapshot"):
            data = self._manifests.data_files(table, chosen)
        files = [from_data_file(one, local_path(one.file_path, self._folder), ids) for one in data]
        files.sort(key=file_order)
        if chosen is not None:
            self._listed = (chosen.snapshot_id, files)
        return list(files)

    def read(
        self,
        files: Sequence[LakeFile],
        columns: Sequence[str],
        *,
        unit_hash: tuple[int, int] | None = None,
        coded: Collection[str] = (),
    ) -> pa.Table:
        wanted = check_columns(_arrow_schema(self._load()), columns, coded)
        parts = [wanted.empty_table()]
        for file in files:
            with self._reading(file):
                parts.append(read_file(file.path, wanted, unit_hash))
        return pa.concat_tables(parts)

    def damaged_columns(self, file: LakeFile) -> Mapping[str, str]:
        """Read a data file wholly, checksums of pages included; return what is wrong with each damaged column.

        Raises:
            Corrupt: nothing of the file can be read.
            SnapshotGone: it was deleted, and no live snapshot names it.
        """
        with self._reading(file):
            return damaged_columns(file.path, f"reading {file.path}")

    @contextmanager
    def _reading(self, file: LakeFile) -> Generator[None]:
        with driver_errors(f"reading {file.path}"):
            try:
                yield
            except FileNotFoundError as error:
                raise self._missing(file.path) from error

    def _missing(self, path: str) -> GroundswellError:
        if path in self._named(self._load()):
            return Corrupt(f"data file {path} is missing, and a live snapshot names it; restore it from a backup")
        return SnapshotGone(f"data file {path} was deleted: no live snapshot names it; begin again with a newer one")

    def _named(self, table: Table) -> set[str]:
        with driver_errors("listing the files of all snapshots"):
            return upkeep.named_files(table, self._manifests, table.metadata.snapshots, self._folder)

    # --- upkeep ------------------------------------------------------------------------------------------------

    def tag(self, name: str, snapshot_id: int, *, keep_s: int) -> None:
        check_tag(name, keep_s)
        for _ in range(_RACES_MAX):
            table = self._load()
            tagged = snapshot_by_id(table.metadata, snapshot_id)
            age_ms = self._clock.now_us() // _US_PER_MS - tagged.timestamp_ms
            update = set_tag(name, snapshot_id, age_ms + keep_s * _MS_PER_S)
            if self._update(table, (update,), "tagging a snapshot"):
                return
        raise CommitConflict(f"lost {_RACES_MAX} races in a row while tagging")

    def expire(self) -> int:
        now_us = self._clock.now_us()
        with driver_errors("deleting files of expired snapshots"):
            upkeep.delete_due(self._folder, now_us)
        for _ in range(_RACES_MAX):
            table = self._load()
            plan = upkeep.plan_expiry(table.metadata, now_us)
            if not plan.updates:
                return 0
            gone_ids = {life.snapshot_id for life in plan.snapshots}
            with driver_errors("listing the files of expired snapshots"):
                gone = [one for one in table.metadata.snapshots if one.snapshot_id in gone_ids]
                doomed = upkeep.named_files(table, self._manifests, gone, self._folder)
            if not self._update(table, plan.updates, "expiring snapshots"):
                continue
            self._faults.reach(EXPIRED)
            doomed -= self._named(self._load())
            with driver_errors("listing files for deletion"):
                upkeep.postpone(self._folder, doomed, plan.snapshots)
                upkeep.delete_due(self._folder, now_us)
            return len(plan.snapshots)
        raise CommitConflict(f"lost {_RACES_MAX} races in a row while expiring snapshots")

    def remove_orphans(self) -> int:
        with driver_errors("looking for orphans"):
            old = upkeep.old_files(self._folder, self._clock.now_us())
            waiting = upkeep.waiting(self._folder)
        table = self._load()  # after the folder was listed: what was committed in between is named
        logged = [table.metadata_location, *(entry.metadata_file for entry in table.metadata.metadata_log)]
        orphans = old - waiting - self._named(table) - {local_path(one, self._folder) for one in logged}
        with driver_errors("deleting orphans"):
            for path in orphans:
                Path(path).unlink(missing_ok=True)
        return len(orphans)

    def copy_to(self, folder: Path) -> None:
        """Make a lake in ``folder`` that holds the current and the tagged snapshots, while others commit.

        Data files become hard links where they can.

        Raises:
            InvalidInput: ``folder`` holds a lake.
            Unavailable: the disk is full.
        """
        table = self._load()
        kept = kept_snapshots(table)
        with driver_errors("listing the files of kept snapshots"):
            snapshots = [one for one in table.metadata.snapshots if one.snapshot_id in kept]
            named = upkeep.named_files(table, self._manifests, snapshots, self._folder)
        copy_lake(table, named, self._folder, folder)

    def _update(self, table: Table, updates: tuple[TableUpdate, ...], what: str) -> bool:
        """Swap the table's metadata. Return False after a lost race."""
        try:
            with driver_errors(what):
                self._catalog.commit_table(table, (), updates)
        except CommitConflict:
            return False
        return True

    def location(self) -> Mapping[str, str]:
        return {
            "catalog": CATALOG,
            "uri": self._catalog.properties["uri"],
            "namespace": NAMESPACE,
            "table": TABLE,
            "warehouse": self._catalog.properties["warehouse"],
            "metadata": self._load().metadata_location,
        }


def _create_table(catalog: SwapCatalog) -> str:
    """Make the table where there is none, and return its folder."""
    folder = catalog.properties[FOLDER_PROPERTY]
    ensure_folder(f"{folder}/metadata")
    ensure_folder(f"{folder}/data")
    try:
        catalog.load_table(IDENTIFIER)
    except NoSuchTableError as error:
        if any(not path.name.startswith("00000-") for path in Path(folder, "metadata").glob("*.metadata.json")):
            raise Corrupt(f"the catalog knows no table, but {folder} holds one; restore the catalog") from error
        fields = [
            NestedField(number, field.name, _TYPES[field.type], required=False)
            for number, field in enumerate(FIRST_SCHEMA, start=1)
        ]
        with suppress(NamespaceAlreadyExistsError, IntegrityError):
            catalog.create_namespace(NAMESPACE)
        with suppress(TableAlreadyExistsError):
            catalog.create_table(IDENTIFIER, Schema(*fields), location=f"file://{folder}", properties=_PROPERTIES)
    return folder


def _arrow_schema(table: Table) -> pa.Schema:
    return pa.schema([pa.field(field.name, _ARROW_TYPES[field.field_type]) for field in table.schema().fields])


def _field_ids(table: Table) -> dict[str, int]:
    return {field.name: field.field_id for field in table.schema().fields}


def _timestamp_ms(table: Table, now_us: int) -> int:
    """Iceberg wants times of snapshots that do not run backwards."""
    parent = table.metadata.current_snapshot()
    return max(now_us // _US_PER_MS, parent.timestamp_ms if parent else 0)
