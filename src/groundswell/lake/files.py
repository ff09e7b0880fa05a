"""Local files that survive a power cut, as Iceberg wants to see them.

Invariants
    a file that was closed without an error is on the disk, and so is every folder made for it
    the name of a file in its folder is on the disk once ``sync_folder`` has returned
    a location is looked up in the lake's own folder, wherever the lake was when the location was written: a copied or
    moved lake never touches the files of the one it was copied from
"""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Final

from pyiceberg.io import InputFile, OutputFile, OutputStream
from pyiceberg.io.pyarrow import PyArrowFileIO

__all__ = ["TABLE_FOLDER", "LocalFiles", "ensure_folder", "local_path", "sync_file", "sync_folder"]

TABLE_FOLDER: Final = "groundswell/events"  # of the table, below the warehouse
FOLDER_PROPERTY: Final = "groundswell.table-folder"
_SCHEME: Final = "file://"


def local_path(location: str, table_folder: str) -> str:
    """Return the path of a file that Iceberg knows as ``location``."""
    path = location.removeprefix(_SCHEME)
    if path.startswith(table_folder):
        return path
    _, found, below = path.rpartition(f"/{TABLE_FOLDER}/")
    return f"{table_folder}/{below}" if found else path


def sync_file(path: str) -> None:
    """Wait until the bytes of ``path`` are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_folder(path: str) -> None:
    """Wait until the names in folder ``path`` are on the disk."""
    sync_file(path)


def ensure_folder(path: str) -> None:
    """Make folder ``path`` and those above it, durably."""
    missing: list[Path] = []
    folder = Path(path)
    while not folder.is_dir():
        missing.append(folder)
        folder = folder.parent
    for made in reversed(missing):
        made.mkdir(exist_ok=True)
        sync_folder(str(made.parent))


class _DurableStream:
    """Bytes that are on the disk when ``close`` returns."""

    def __init__(self, path: str, *, overwrite: bool) -> None:
        self._file: BinaryIO = Path(path).open("wb" if overwrite else "xb")  # noqa: SIM115 (closed by close)

    def write(self, b: bytes) -> int:
        return self._file.write(b)

    def tell(self) -> int:
        return self._file.tell()

    def close(self) -> None:
        if self._file.closed:
            return
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
        finally:
            self._file.close()

    def __enter__(self) -> OutputStream:
        return self

    def __exit__(
        self, exctype: type[BaseException] | None, excinst: BaseException | None, exctb: TracebackType | None
    ) -> None:
        self.close()


class _DurableFile(OutputFile):
    """A metadata file to be written."""

    def __init__(self, location: str, path: str, files: LocalFiles) -> None:
        super().__init__(location)
        self._path = path
        self._files = files

    def __len__(self) -> int:
        return Path(self._path).stat().st_size

    def exists(self) -> bool:
        return Path(self._path).exists()

    def to_input_file(self) -> InputFile:
        return self._files.new_input(self._location)

    def create(self, overwrite: bool = False) -> OutputStream:  # noqa: FBT001, FBT002 (pyiceberg's signature)
        ensure_folder(str(Path(self._path).parent))
        return _DurableStream(self._path, overwrite=overwrite)


class LocalFiles(PyArrowFileIO):
    """Iceberg's file layer on local folders. Made by pyiceberg from its properties alone."""

    @property
    def folder(self) -> str:
        return self.properties[FOLDER_PROPERTY]

    def path(self, location: str) -> str:
        return local_path(location, self.folder)

    def new_input(self, location: str) -> InputFile:  # pyright: ignore[reportIncompatibleMethodOverride] (narrower)
        return super().new_input(self.path(location))

    def new_output(self, location: str) -> OutputFile:  # pyright: ignore[reportIncompatibleMethodOverride] (wider)
        return _DurableFile(location, self.path(location), self)

    def delete(self, location: str | InputFile | OutputFile) -> None:
        name = location if isinstance(location, str) else location.location
        Path(self.path(name)).unlink()
