"""The event log: durable, ordered records in partitions of a topic. It knows bytes and counts, never events.

Invariants
    ``append`` returns only when its entries are durable; entries of one call become visible together or not at all
    offsets of a partition rise; they may have holes (Kafka), so records are counted, never subtracted
    a record is read back byte for byte as it was written, or ``Corrupt`` is raised
    records leave only as whole sealed segments past retention; reading below that raises ``RetentionGap``
    ``tally`` counts everything ever appended, dropped segments included
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple, Protocol

__all__ = [
    "DEAD_TOPIC",
    "EVENTS_TOPIC",
    "INTAKE_TOPIC",
    "Entry",
    "EventLog",
    "Origin",
    "Record",
    "SegmentSummary",
    "Tally",
]

EVENTS_TOPIC = "events"  # typed batches; partitioned by unit
DEAD_TOPIC = "dead_letters"  # dead letters and their replays; one partition
INTAKE_TOPIC = "intake"  # counts and samples of what was refused; one partition

Origin = Literal["live", "import", "replay", "system"]


class Entry(NamedTuple):
    """What a producer appends."""

    topic: str
    partition: int
    payload: bytes
    counts: Mapping[str, int]  # events by source; empty for what is not events
    origin: Origin = "live"


class Record(NamedTuple):
    """What a consumer reads."""

    topic: str
    partition: int
    offset: int
    appended_at_us: int
    payload: bytes
    counts: Mapping[str, int]
    origin: Origin


class SegmentSummary(NamedTuple):
    """A sealed segment: its ranges, its counts, and a digest chained to the segment before."""

    segment: int
    sealed_at_us: int
    ranges: Mapping[str, Mapping[int, tuple[int, int]]]  # topic -> partition -> [first, next)
    tally: Tally
    digest: str
    dropped: bool


Tally = Mapping[str, Mapping[tuple[str, Origin], int]]  # topic -> (source, origin) -> events


class EventLog(Protocol):
    """The seam. Implementations map their driver's exceptions to ``Transient`` and ``Terminal``."""

    def partitions(self, topic: str) -> int:
        """Return how many partitions ``topic`` has; fixed when the log was created."""
        ...

    def append(self, entries: Sequence[Entry]) -> list[tuple[int, int]]:
        """Make ``entries`` durable, all or nothing, and return (partition, offset) of each in order.

        Safe to call from several threads and processes; calls that wait together share one fsync.

        Raises:
            Unavailable: the disk is full or the log is locked; nothing was appended.
        """
        ...

    def read(self, topic: str, partition: int, start: int, *, bytes_max: int, stop: int | None = None) -> list[Record]:
        """Return records from offset ``start`` up to (not including) ``stop`` in order; at least one if there is any,
        then as many as fit in ``bytes_max``. Empty at the end of the log.

        Raises:
            RetentionGap: ``start`` was dropped.
            Corrupt: a record does not match its checksum, or ``start`` lies past the end: records that were once read
                are gone, and going on would skip whatever is appended in their place.
        """
        ...

    def begins(self, topic: str) -> dict[int, int]:
        """Return the first offset kept, by partition."""
        ...

    def ends(self, topic: str) -> dict[int, int]:
        """Return the offset after the last, by partition."""
        ...

    def tally(self, topic: str) -> dict[tuple[str, Origin], int]:
        """Return all events ever appended by (source, origin), dropped segments included."""
        ...

    def pending(self, topic: str, committed: Mapping[int, int]) -> dict[str, int]:
        """Return events by source at or past the ``committed`` offsets: what is in flight."""
        ...

    def segments(self) -> list[SegmentSummary]:
        """Return sealed segments, oldest first, dropped ones included."""
        ...

    def maintain(self, keep: Mapping[str, Mapping[int, int]]) -> int:
        """Seal a full or old segment, drop sealed ones that are past retention and wholly below ``keep``
        (topic -> partition -> first offset still needed; a topic that is not named needs nothing). Return how many
        segments went wholly.
        """
        ...

    def close(self) -> None:
        """Release files. Appending after it raises ``Unavailable``."""
        ...
