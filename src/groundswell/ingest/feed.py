"""One partition of the events topic, read in order and decoded record by record.

Invariants
    ``position`` is the offset after the last record that ``take`` returned
    at most ``bytes_max`` of undecoded records are held
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from groundswell.log.contract import EVENTS_TOPIC, EventLog, Record
from groundswell.wire.record import RecordContent, decode_record

__all__ = ["Feed", "Taken"]


class Taken(NamedTuple):
    """A decoded record and where it came from."""

    record: Record
    content: RecordContent


class Feed:
    """Reads one partition ahead by a bounded number of bytes."""

    def __init__(self, log: EventLog, partition: int, position: int, *, bytes_max: int) -> None:
        self._log = log
        self._partition = partition
        self._bytes_max = bytes_max
        self._ahead: deque[Record] = deque()
        self._next = position
        self.position = position

    def take(self, rows_max: int, *, stop: int | None = None) -> list[Taken]:
        """Return the next records up to offset ``stop``, with at most ``rows_max`` events; at least one record if any.

        Raises:
            RetentionGap: the log dropped what comes next.
            Corrupt: a record does not decode.
        """
        taken: list[Taken] = []
        rows = 0
        while rows < rows_max:
            if not self._ahead and not self._fill(stop):
                break
            record = self._ahead[0]
            if stop is not None and record.offset >= stop:
                break
            events = sum(record.counts.values())
            if taken and rows + events > rows_max:
                break
            taken.append(Taken(record, decode_record(record.payload)))
            self._ahead.popleft()
            self.position = record.offset + 1
            rows += events
        return taken

    def _fill(self, stop: int | None) -> bool:
        read = self._log.read(EVENTS_TOPIC, self._partition, self._next, bytes_max=self._bytes_max, stop=stop)
        records = [record for record in read if record.offset >= self._next]  # a log may deliver again
        if records:
            self._ahead.extend(records)
            self._next = records[-1].offset + 1
        return bool(records)
