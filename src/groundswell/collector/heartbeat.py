"""Heartbeats: records without rows that tell readers of the log that time passed and nothing came.

Without them a partition that no event reaches would hold back the watermark, and with it every number's ``as_of``.
One process of an installation needs to beat; more do no harm. ``FileLeader`` picks one among those of a machine.
"""

from __future__ import annotations

import fcntl
import threading
from collections.abc import Callable
from pathlib import Path
from typing import IO, Final

from groundswell.errors import Transient
from groundswell.log.contract import EVENTS_TOPIC, Entry, EventLog
from groundswell.model.clock import US_PER_S, Clock
from groundswell.wire.record import NO_DEAD, NO_ROWS, RecordContent, encode_record

__all__ = ["GRACE_S", "INTERVAL_S", "FileLeader", "Heartbeat"]

INTERVAL_S: Final = 2.0  # numbers are as fresh as this where nothing happens
GRACE_S: Final = 1.0  # an event that was received this long ago has been appended


class FileLeader:
    """Leads while it holds the lock of a file; the kernel hands it on when its process dies."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: IO[bytes] | None = None

    def __call__(self) -> bool:
        """Return whether this process leads; become the leader where there is none."""
        if self._file is not None:
            return True
        try:
            file = self._path.open("ab")
        except OSError:
            return False
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.close()
            return False
        self._file = file
        return True

    def close(self) -> None:
        """Hand on the lead."""
        if self._file is not None:
            self._file.close()
            self._file = None


class Heartbeat:
    """Appends a heartbeat to every partition of the events topic, every ``interval_s`` seconds once started.

    ``leads`` is asked before each beat whether this process is the one that beats.
    """

    def __init__(
        self,
        log: EventLog,
        clock: Clock,
        *,
        interval_s: float = INTERVAL_S,
        grace_s: float = GRACE_S,
        leads: Callable[[], bool] = lambda: True,
    ) -> None:
        self._log = log
        self._clock = clock
        self._interval_s = interval_s
        self._grace_us = round(grace_s * US_PER_S)
        self._leads = leads
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def beat(self) -> None:
        """Append one heartbeat to every partition.

        Raises:
            Unavailable: the log cannot be written.
        """
        content = RecordContent(NO_ROWS, NO_DEAD, 0, heartbeat_us=self._clock.now_us() - self._grace_us)
        payload = encode_record(content)
        self._log.append(
            [
                Entry(EVENTS_TOPIC, partition, payload, {}, "system")
                for partition in range(self._log.partitions(EVENTS_TOPIC))
            ]
        )

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Return when no beat is under way and none will follow."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self._stopped.wait(self._interval_s):
            try:
                if self._leads():
                    self.beat()
            except Transient:  # a log that is full or locked shows in readiness; the next beat tries again
                continue
