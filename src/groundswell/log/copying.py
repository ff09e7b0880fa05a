"""A consistent copy of the SQLite log while it is appended to.

Invariants
    the copy is the log as it was at one moment: sealed segments never change, and of the others only the newest grows,
    which is read in one transaction
    nobody waits: the copy takes no lock that an appender needs
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from pathlib import Path
from typing import Final

from groundswell.errors import Corrupt, InvalidInput, Unavailable
from groundswell.log.catalog import segment_path, thinned_path
from groundswell.log.driver import mapped, open_reader
from groundswell.log.manifest import Manifest

__all__ = ["copy_log"]

_TRIES: Final = 3  # each is spoiled only by a segment that is dropped in the middle of it


def copy_log(source: Path, target: Path) -> None:
    """Write a copy of the log in ``source`` into the folder ``target``, which must not exist.

    Raises:
        InvalidInput: ``target`` exists.
        Unavailable: there is no room, or segments went faster than they were copied.
        Corrupt: a file is damaged or missing.
    """
    if target.exists():
        raise InvalidInput("target", str(target), "must not exist yet", next_step="name another folder")
    for _ in range(_TRIES):
        with mapped(target):
            target.mkdir(parents=True)
            if _copy(source, target):
                return
            shutil.rmtree(target)
    raise Unavailable(f"segments of {source} were dropped while they were copied; retry")


def _copy(source: Path, target: Path) -> bool:
    """Copy everything; return False where a sealed segment went away meanwhile."""
    _copy_database(source / "manifest.sqlite", target / "manifest.sqlite")
    manifest = Manifest(target / "manifest.sqlite")
    try:
        state = manifest.state()
        paths = [
            segment_path(source, sealed.number)
            if sealed.whole(manifest.layout)
            else thinned_path(source, sealed.number)
            for sealed in state.kept
        ]
    finally:
        manifest.close()
    for path in paths:
        if not path.exists():
            return False
        _link_or_copy(path, target / path.name)
    number = state.last.number + 1 if state.last else 1
    if not segment_path(source, number).exists():
        raise Corrupt(f"{segment_path(source, number)} is missing; restore it from a backup")
    while (path := segment_path(source, number)).exists():
        _copy_database(path, target / path.name)
        number += 1
    return True


def _link_or_copy(path: Path, to: Path) -> None:
    try:
        os.link(path, to)  # a sealed file never changes
    except OSError:
        shutil.copyfile(path, to)


def _copy_database(path: Path, to: Path) -> None:
    with mapped(path):
        reader = open_reader(path)
        copy = sqlite3.connect(to, isolation_level=None)
        try:
            reader.backup(copy)
        finally:
            copy.close()
            reader.close()
