"""A consistent copy of an installation while it runs, as one tar file.

Order is what makes it consistent: the lake is copied first, at one snapshot that is tagged meanwhile, the log after it.
So the copied log reaches at least as far as the copied lake, and a restored ingest goes on from there. Fingerprints are
not copied: they are rebuilt from the log.
"""

from __future__ import annotations

import os
import tarfile
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol, runtime_checkable

from groundswell.errors import Corrupt, InvalidInput, Unavailable
from groundswell.wiring.layout import DATA_VARIABLE, DEFAULT_FOLDER, Layout

if TYPE_CHECKING:
    from groundswell.wiring.installation import Installation

__all__ = ["Copyable", "backup", "restore"]


@runtime_checkable
class Copyable(Protocol):
    """What can write a consistent copy of itself while others use it; an engine elsewhere has its own way."""

    def copy_to(self, folder: Path) -> None: ...


TAG: Final = "backup"
TAG_KEEP_S: Final = 6 * 3600  # longer than a copy takes


def backup(installation: Installation, to: Path) -> int:
    """Write the installation into ``to`` and return its size in bytes.

    Raises:
        InvalidInput: ``to`` exists.
        Unavailable: it cannot be written.
    """
    if to.exists():
        raise InvalidInput("backup file", str(to), "must not exist yet", next_step="name another file")
    current = installation.lake.current()
    if current is not None:
        installation.lake.tag(TAG, current.snapshot_id, keep_s=TAG_KEEP_S)
    try:
        to.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="groundswell-backup-", dir=to.parent) as scratch:
            copies = Path(scratch)
            _copy(installation.lake, copies / "lake")
            _copy(installation.log, copies / "log")
            installation.store.copy_to(copies / "control.sqlite")
            partial = to.with_name(to.name + ".partial")
            with tarfile.open(partial, "w") as archive:
                archive.add(installation.layout.marker, installation.layout.marker.name)
                for name in ("lake", "log", "control.sqlite"):
                    archive.add(copies / name, name)
            with partial.open("rb") as written:
                os.fsync(written.fileno())
            partial.rename(to)
    except OSError as error:
        msg = f"the backup {to} cannot be written: {error.strerror}"
        raise Unavailable(msg) from error
    return to.stat().st_size


def _copy(room: object, folder: Path) -> None:
    if not isinstance(room, Copyable):
        kind = type(room).__name__
        raise InvalidInput("backup", kind, "must be kept in this folder", next_step="use the backup of that system")
    room.copy_to(folder)


def restore(file: Path, data: Path | None) -> Path:
    """Unpack a backup into an empty data folder and return it.

    Raises:
        InvalidInput: the folder holds something, or the file does not exist.
        Corrupt: the file is no backup.
    """
    root = Path(data or os.environ.get(DATA_VARIABLE, DEFAULT_FOLDER)).absolute()
    if root.exists() and any(root.iterdir()):
        raise InvalidInput("data folder", str(root), "must be empty", next_step="name a new one with --data")
    if not file.is_file():
        raise InvalidInput("backup file", str(file), "must be a file that `groundswell backup` wrote")
    root.mkdir(parents=True, exist_ok=True)
    try:
        with tarfile.open(file) as archive:
            archive.extractall(root, filter="data")
    except tarfile.TarError as error:
        msg = f"{file} is no backup: {error}"
        raise Corrupt(msg) from None
    return Layout.find(root).root
