"""Files that survive a power cut, and a lock between processes.

Invariants
    a file made by ``replace`` is complete under its name, or its name still means what it meant before
    a name is durable once ``sync_folder`` has returned
    ``AppenderLock`` is held by one open file at a time; the kernel frees it when its holder dies
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Protocol

from groundswell.errors import Unavailable
from groundswell.model.clock import SystemClock

__all__ = ["AppenderLock", "DiskFiles", "Files"]

_POLL_S: Final = 0.0002  # a commit takes about a millisecond; all who wait ask equally often, so it is fair
_PATIENT_S: Final = 0.05  # after that the holder hangs or is copying its write-ahead log, and there is no hurry
_PATIENT_POLL_S: Final = 0.002


class Files(Protocol):
    """What makes files durable. ``testing.disk`` has one that forgets what was not synced."""

    def sync_file(self, path: Path) -> None:
        """Make the content of ``path`` durable."""
        ...

    def sync_folder(self, path: Path) -> None:
        """Make the names in the folder ``path`` durable."""
        ...


class DiskFiles:
    """The machine's own disk."""

    def sync_file(self, path: Path) -> None:
        _sync(path)

    def sync_folder(self, path: Path) -> None:
        _sync(path)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


class AppenderLock:
    """One appender at a time over all processes of a machine, in turn.

    Two advisory locks: whoever waits holds ``<name>.next``, so that a busy holder cannot take ``<name>`` again before
    the one who waits. Waiting asks again in short sleeps, because a blocking flock could not be given up when the
    holder hangs, and SQLite's own busy handler sleeps up to 100 ms.
    """

    def __init__(self, path: Path, *, wait_s: float) -> None:
        self._path = path
        self._wait_s = wait_s
        self._held = self._next = -1
        self._clock = SystemClock()  # other processes live in real time, whatever clock the log was given
        self._held = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        self._next = os.open(path.with_name(path.name + ".next"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)

    @contextmanager
    def hold(self) -> Generator[None]:
        """Hold the lock for the block.

        Raises:
            Unavailable: another process has held it for longer than ``wait_s``.
        """
        deadline = self._clock.monotonic_s() + self._wait_s
        self._take(self._next, deadline)
        try:
            self._take(self._held, deadline)
        finally:
            fcntl.flock(self._next, fcntl.LOCK_UN)
        try:
            yield
        finally:
            fcntl.flock(self._held, fcntl.LOCK_UN)

    def close(self) -> None:
        for handle in (self._held, self._next):
            if handle >= 0:
                os.close(handle)
        self._held = self._next = -1

    def __del__(self) -> None:
        self.close()

    def _take(self, handle: int, deadline: float) -> None:
        patient = self._clock.monotonic_s() + _PATIENT_S
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if error.errno not in (errno.EWOULDBLOCK, errno.EINTR):
                    raise Unavailable(f"{self._path} cannot be locked: {error}") from error
            else:
                return
            now = self._clock.monotonic_s()
            if now >= deadline:
                raise Unavailable(
                    f"{self._path} was held by another process for {self._wait_s} s, must be free within that; "
                    "see which process hangs (fuser names it), or retry"
                )
            self._clock.sleep(_POLL_S if now < patient else _PATIENT_POLL_S)
