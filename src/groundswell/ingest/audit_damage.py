"""Reading on where stored bytes are damaged: the audit names what it cannot read and recounts the rest.

Invariants
    a record that can be read is counted, whatever is damaged beside it
    work is bounded: a segment in which one record after the other is damaged is left after a few of them
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from groundswell import limits
from groundswell.errors import Corrupt
from groundswell.log.contract import EventLog, Record

__all__ = ["LogDamage", "read_topic"]

_IN_A_ROW_MAX: Final = 16  # damaged records before the rest of their segment is given up
_NAMED_MAX: Final = 5


class LogDamage:
    """What of the log cannot be read."""

    def __init__(self, log: EventLog) -> None:
        self._ranges = [one.ranges for one in log.segments()]
        self._seen: dict[tuple[str, int, int], str] = {}  # each topic is read more than once

    def __bool__(self) -> bool:
        return bool(self._seen)

    def add(self, topic: str, partition: int, offset: int, error: Corrupt) -> None:
        """Note that the record at ``offset`` cannot be read."""
        self._seen.setdefault((topic, partition, offset), str(error))

    def messages(self) -> list[str]:
        """Return what is wrong in words: each message once, a few of many."""
        return list(dict.fromkeys(self._seen.values()))[:_NAMED_MAX]

    def segment_end(self, topic: str, partition: int, offset: int, stop: int) -> int:
        """Return where the segment that holds ``offset`` ends; the newest ends at ``stop``."""
        for ranges in self._ranges:
            first, following = ranges.get(topic, {}).get(partition, (0, 0))
            if first <= offset < following:
                return min(following, stop)
        return stop


def read_topic(
    log: EventLog, topic: str, partition: int, stop: int, *, start: int | None = None, damage: LogDamage | None = None
) -> Iterator[Record]:
    """Yield the records of a partition from ``start`` (None: the first kept) up to ``stop``.

    With ``damage`` records that cannot be read are noted there and left out.

    Raises:
        Corrupt: a record cannot be read, and there is no ``damage`` to note it in.
    """
    offset = log.begins(topic).get(partition, 0) if start is None else start
    singly_until = in_a_row = 0
    while offset < stop:
        room = limits.ingest_read_bytes_max if offset >= singly_until else 1
        try:
            records = log.read(topic, partition, offset, bytes_max=room, stop=stop)
        except Corrupt as error:
            if damage is None:
                raise
            if room > 1:  # somewhere in there: one by one to the end of the segment
                singly_until, in_a_row = damage.segment_end(topic, partition, offset, stop), 0
                continue
            damage.add(topic, partition, offset, error)
            in_a_row += 1
            offset = offset + 1 if in_a_row < _IN_A_ROW_MAX else singly_until
            continue
        if not records:
            return
        in_a_row = 0
        yield from records
        offset = records[-1].offset + 1
