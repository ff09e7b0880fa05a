"""A file layer that forgets what was not synced, as a machine does that loses power.

Invariants
    after ``crash`` a file has the content it had when it was last synced, or none if it never was
    after ``crash`` a folder has the names it had when it was last synced; a rename is two names
    what a driver syncs by itself (SQLite at a commit) is told with ``driver_synced``
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

__all__ = ["ForgetfulFiles"]

_DRIVER_SUFFIXES = ("-wal", "-journal")  # SQLite syncs their names itself


class ForgetfulFiles:
    """A :class:`~groundswell.log.files.Files` over one folder. Point ``crash`` at an empty folder to see what is left.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> files = ForgetfulFiles(folder)
    >>> _ = (folder / "synced").write_text("kept"), (folder / "not synced").write_text("lost")
    >>> files.sync_file(folder / "synced"), files.sync_folder(folder)
    (None, None)
    >>> left = Path(tempfile.mkdtemp())
    >>> files.crash(left)
    >>> {path.name: path.read_text() for path in sorted(left.iterdir())}
    {'not synced': '', 'synced': 'kept'}
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._content: dict[int, bytes] = {}  # by inode, as last synced
        self._names: dict[str, int] = {}  # as last synced
        self._held: list[int] = []  # open handles, so that no inode is used twice
        if folder.is_dir():
            self.driver_synced()
            self.sync_folder(folder)

    def __del__(self) -> None:
        for handle in self._held:
            os.close(handle)

    def sync_file(self, path: Path) -> None:
        inode = path.stat().st_ino
        if inode not in self._content:
            self._held.append(os.open(path, os.O_RDONLY))
        self._content[inode] = path.read_bytes()

    def sync_folder(self, path: Path) -> None:
        if path == self.folder:
            self._names = {each.name: each.stat().st_ino for each in path.iterdir() if each.is_file()}

    def driver_synced(self) -> None:
        """Take every file's present content, and the names of a driver's own journals, as synced."""
        for path in self.folder.iterdir():
            if path.is_file() and not path.name.endswith(("-shm", ".new")):
                self.sync_file(path)
                if path.name.endswith(_DRIVER_SUFFIXES):
                    self._names[path.name] = path.stat().st_ino

    def crash(self, into: Path) -> None:
        """Write to the empty folder ``into`` what a machine would find after power came back."""
        into.mkdir(parents=True, exist_ok=True)
        for name, inode in self._names.items():
            (into / name).write_bytes(self._content.get(inode, b""))

    def copy(self, into: Path) -> None:
        """Write to ``into`` what another process would find now: all writes, synced or not."""
        shutil.copytree(self.folder, into, dirs_exist_ok=True)
