"""What every implementation of the log shares: topics, bounds, the checks of what comes in, checksums and digests.

Invariants
    a checksum covers a record's place, time, origin and counts as well as its payload
    a segment's digest is SHA-256 over the digest of the segment before and one digest a topic
    a topic's digest is SHA-256 over its records' checksums, by partition and then by offset
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, get_args

import msgspec

from groundswell import limits
from groundswell.errors import InvalidInput
from groundswell.log.contract import DEAD_TOPIC, EVENTS_TOPIC, INTAKE_TOPIC, Entry, Origin

__all__ = [
    "ORIGINS",
    "SegmentRules",
    "chain_digest",
    "check_entries",
    "check_partition",
    "encode_counts",
    "record_checksum",
    "topic_digest",
    "topic_layout",
    "topic_name",
]

ORIGINS: Final[tuple[Origin, ...]] = get_args(Origin)  # stored as their index: append only
_PLACE: Final = struct.Struct("<qqqqI")


@dataclass(frozen=True, slots=True)
class SegmentRules:
    """When a segment is full, and when it may go."""

    bytes_max: int = limits.segment_bytes_max
    age_s_max: float = limits.segment_age_s_max
    retention_s: float = limits.log_retention_s
    dead_letter_retention_s: float = limits.dead_letter_retention_s

    def __post_init__(self) -> None:
        for name in ("bytes_max", "age_s_max", "retention_s", "dead_letter_retention_s"):
            if getattr(self, name) <= 0:
                raise InvalidInput(name, getattr(self, name), "must be > 0")

    def retention_of(self, topic: str) -> float:
        """Return how many seconds ``topic``'s records are kept at least."""
        return self.dead_letter_retention_s if topic == DEAD_TOPIC else self.retention_s


def topic_layout(partitions: int) -> dict[str, int]:
    """Return the number of partitions of every topic of a log whose events have ``partitions``.

    Raises:
        InvalidInput: ``partitions`` is out of bounds.
    """
    if not 1 <= partitions <= limits.log_partitions_max:
        raise InvalidInput("partitions", partitions, f"must be between 1 and {limits.log_partitions_max}")
    return {EVENTS_TOPIC: partitions, DEAD_TOPIC: 1, INTAKE_TOPIC: 1}


def topic_name(layout: Mapping[str, int], topic: str) -> str:
    """Return ``topic``, or raise :class:`InvalidInput` where the log has no such topic."""
    if topic not in layout:
        raise InvalidInput("topic", topic, f"must be one of {', '.join(layout)}")
    return topic


def check_partition(layout: Mapping[str, int], topic: str, partition: int) -> None:
    """Raise :class:`InvalidInput` where the log has no such topic or partition."""
    topic_name(layout, topic)
    if not 0 <= partition < layout[topic]:
        raise InvalidInput("partition", partition, f"must be >= 0 and < {layout[topic]} in topic {topic}")


def check_entries(layout: Mapping[str, int], entries: Sequence[Entry]) -> int:
    """Return the payload bytes of ``entries``.

    Raises:
        InvalidInput: an entry names no topic, partition or origin of this log, or is too large.
    """
    total = 0
    for entry in entries:
        check_partition(layout, entry.topic, entry.partition)
        if entry.origin not in ORIGINS:
            raise InvalidInput("origin", entry.origin, f"must be one of {', '.join(ORIGINS)}")
        for source, events in entry.counts.items():
            if events < 0:
                raise InvalidInput("counts", {source: events}, "must not be negative")
        if len(entry.payload) > limits.record_bytes_max:
            raise InvalidInput(
                "payload", f"{len(entry.payload)} bytes", f"must have <= {limits.record_bytes_max} bytes"
            )
        total += len(entry.payload)
    if total > limits.queue_bytes_max:
        raise InvalidInput(
            "entries",
            f"{total} bytes",
            f"must have <= {limits.queue_bytes_max} bytes",
            next_step="append in smaller calls",
        )
    return total


def encode_counts(counts: Mapping[str, int]) -> bytes:
    """Return ``counts`` as JSON with sorted keys, so that equal counts have equal bytes."""
    return msgspec.json.encode(dict(counts), order="sorted") if counts else b""


def record_checksum(place: tuple[int, int, int, int], topic: str, counts: bytes, payload: bytes) -> int:
    """Return the CRC-32 of a record; ``place`` is (partition, offset, appended_at_us, index of its origin)."""
    head = _PLACE.pack(*place, len(counts)) + topic.encode() + counts
    return zlib.crc32(payload, zlib.crc32(head))


def topic_digest(checksums: Iterable[int]) -> str:
    """Return the digest of one topic's records in a segment, from their checksums by partition and offset."""
    digest = hashlib.sha256()
    for checksum in checksums:
        digest.update(checksum.to_bytes(4, "little"))
    return digest.hexdigest()


def chain_digest(before: str, topics: Mapping[str, str]) -> str:
    """Return a segment's digest from that of the segment ``before`` (empty for the first) and its topics' digests."""
    digest = hashlib.sha256(before.encode())
    for topic in sorted(topics):
        digest.update(f"\n{topic} {topics[topic]}".encode())
    return digest.hexdigest()
