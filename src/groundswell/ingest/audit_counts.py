"""The audit's recounts: events, refusals and dead letters, record by record."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Final, NamedTuple

import pyarrow as pa

from groundswell.ingest.audit_damage import LogDamage, read_topic
from groundswell.ingest.dead_index import DeadIndex
from groundswell.ingest.dead_records import decode_dead
from groundswell.log.contract import DEAD_TOPIC, EVENTS_TOPIC, INTAKE_TOPIC, EventLog
from groundswell.model.ledger import IntakeCounts
from groundswell.wire.intake import decode_intake
from groundswell.wire.record import decode_record

__all__ = [
    "DeadCount",
    "IntakeCount",
    "LogCount",
    "count_dead",
    "count_intake",
    "count_log",
    "value_counts",
]

_NAMED_MAX: Final = 5  # records that a finding names


class LogCount(NamedTuple):
    """Events of the events topic, by source."""

    settled: Mapping[str, int]  # below the committed offsets
    in_flight: Mapping[str, int]
    dropped: bool  # the log no longer holds its first records
    miscounted: tuple[str, ...]  # records whose content differs from their counts


class IntakeCount(NamedTuple):
    """The intake topic: ``unexplained`` has (source, refused, refused with a reason) where the two differ."""

    by_source: Mapping[str, IntakeCounts]
    unexplained: tuple[tuple[str, int, int], ...]
    begins: int


class DeadCount(NamedTuple):
    """Dead letters below the committed offsets, each once."""

    by_source: Mapping[str, int]
    begins: int


def value_counts(column: pa.Array | pa.ChunkedArray) -> Counter[str]:
    """Return how often each value is there."""
    counted = column.value_counts()
    return Counter(dict(zip(counted.field("values").to_pylist(), counted.field("counts").to_pylist(), strict=True)))


def count_log(
    log: EventLog, committed: Mapping[int, int], ends: Mapping[int, int], damage: LogDamage | None = None
) -> LogCount:
    """Count the events in the records themselves; those that cannot be read are noted in ``damage``."""
    settled: Counter[str] = Counter()
    in_flight: Counter[str] = Counter()
    miscounted: list[str] = []
    for partition, end in ends.items():
        for record in read_topic(log, EVENTS_TOPIC, partition, end, damage=damage):
            content = decode_record(record.payload)
            counts: Counter[str] = Counter()
            for rows in (content.batch, content.dead):
                if rows.num_rows:
                    counts += value_counts(rows.column("source"))
            if counts != Counter({source: events for source, events in record.counts.items() if events}):
                miscounted.append(f"partition {partition}, offset {record.offset}")
            (settled if record.offset < committed.get(partition, 0) else in_flight).update(counts)
    return LogCount(settled, in_flight, any(log.begins(EVENTS_TOPIC).values()), tuple(miscounted[:_NAMED_MAX]))


def count_intake(log: EventLog, ends: Mapping[int, int], damage: LogDamage | None = None) -> IntakeCount:
    """Count what senders were told, in the records themselves."""
    by_source: dict[str, IntakeCounts] = {}
    reasons: Counter[str] = Counter()
    for record in read_topic(log, INTAKE_TOPIC, 0, ends[0], damage=damage):
        intake = decode_intake(record.payload)
        for source, counts in intake.counts.items():
            by_source[source] = by_source.get(source, IntakeCounts()) + counts
        for source, told in intake.reasons.items():
            reasons[source] += sum(told.values())
    unexplained = [
        (source, counts.refused, reasons[source])
        for source, counts in sorted(by_source.items())
        if counts.refused != reasons[source]
    ]
    return IntakeCount(by_source, tuple(unexplained), log.begins(INTAKE_TOPIC)[0])


def count_dead(
    log: EventLog, committed: Mapping[int, int], ends: Mapping[int, int], damage: LogDamage | None = None
) -> DeadCount:
    """Count dead letters, each once whatever crashes repeated it."""
    index = DeadIndex()
    for record in read_topic(log, DEAD_TOPIC, 0, ends[0], damage=damage):
        kind, table = decode_dead(record.payload)
        if kind == "letters":
            index.add_letters(record.offset, table)
    letters = index.letters()
    by_source: Counter[str] = Counter()
    for partition, offset, source in zip(
        letters.partition.tolist(), letters.offset.tolist(), letters.source.tolist(), strict=True
    ):
        if offset < committed.get(partition, 0):
            by_source[index.name(source) or ""] += 1
    return DeadCount(by_source, log.begins(DEAD_TOPIC)[0])
