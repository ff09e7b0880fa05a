"""A copy of the lake at its current and tagged snapshots, made while others commit.

Invariants
    the copy is whole: it holds every file that its own metadata names
    it shares no file that ever changes with the original; data files never change, so they may be hard links

Tagged and current snapshots cannot expire, so their files stay while they are copied. The others are left out.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Final

from pyiceberg.exceptions import NamespaceAlreadyExistsError
from pyiceberg.table import Table

from groundswell.errors import InvalidInput
from groundswell.lake.catalog import IDENTIFIER, NAMESPACE, open_catalog, updated_metadata
from groundswell.lake.drivers import driver_errors
from groundswell.lake.files import TABLE_FOLDER, ensure_folder, sync_folder
from groundswell.lake.updates import drop_snapshots

__all__ = ["copy_lake", "kept_snapshots"]

_FOLDERS: Final = ("data", "metadata")


def kept_snapshots(table: Table) -> AbstractSet[int]:
    """Return the snapshots that a copy holds."""
    return {ref.snapshot_id for ref in table.metadata.refs.values()}


def copy_lake(table: Table, named: AbstractSet[str], source: str, target: Path) -> None:
    """Make a lake in the folder ``target``.

    Args:
        table: the table as loaded.
        named: paths of the files that ``kept_snapshots`` name.
        source: the table's folder.
        target: the folder of the new lake; must hold none.

    Raises:
        InvalidInput: ``target`` holds a lake.
        Unavailable: the disk is full.
    """
    folder = f"{target.absolute()}/{TABLE_FOLDER}"
    if Path(folder).exists():
        raise InvalidInput("target folder", str(target), "must not hold a lake", next_step="name another folder")
    with driver_errors("copying the lake"):
        for name in _FOLDERS:
            ensure_folder(f"{folder}/{name}")
        for path in sorted(named):
            copy = f"{folder}{path.removeprefix(source)}"
            ensure_folder(str(Path(copy).parent))
            _copy(path, copy)
        for made in {str(Path(f"{folder}{path.removeprefix(source)}").parent) for path in named}:
            sync_folder(made)
        _register(table, target)


def _copy(path: str, copy: str) -> None:
    try:
        os.link(path, copy)
    except OSError:  # another file system
        shutil.copyfile(path, copy)
        with Path(copy).open("rb") as written:
            os.fsync(written.fileno())


def _register(table: Table, target: Path) -> None:
    """Give the copy a catalog and metadata that names only what was copied."""
    metadata = table.metadata
    left_out = {one.snapshot_id for one in metadata.snapshots} - kept_snapshots(table)
    if left_out:
        metadata = updated_metadata(metadata, table.metadata_location, (drop_snapshots(left_out),))
    metadata = metadata.model_copy(update={"metadata_log": []})
    catalog = open_catalog(target)
    try:
        catalog.write_metadata(metadata, table.metadata_location)
        catalog.create_namespace(NAMESPACE)
        catalog.register_table(IDENTIFIER, table.metadata_location)
    except NamespaceAlreadyExistsError as error:
        raise InvalidInput("target folder", str(target), "must not hold a lake") from error
    finally:
        catalog.close()
