"""Logs for tests and simulation: one in memory that keeps the contract, and one that does what networks do to it.

Invariants
    ``MemoryEventLog`` keeps every promise of :class:`~groundswell.log.contract.EventLog` but durability
    ``FaultyEventLog`` never loses what it acknowledged and never changes a record; it is late, forgetful and repetitive
    the same seed and the same calls give the same faults
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from random import Random

from groundswell import limits
from groundswell.errors import Corrupt, RetentionGap, Unavailable
from groundswell.log import steps
from groundswell.log.contract import Entry, EventLog, Origin, Record, SegmentSummary
from groundswell.log.rules import (
    ORIGINS,
    SegmentRules,
    chain_digest,
    check_entries,
    check_partition,
    encode_counts,
    record_checksum,
    topic_digest,
    topic_layout,
    topic_name,
)
from groundswell.model.clock import US_PER_S, Clock
from groundswell.model.faults import Faults, NoFaults
from groundswell.testing.clock import ManualClock

__all__ = ["FaultyEventLog", "LogFaults", "MemoryEventLog"]

Stream = tuple[str, int]


@dataclass(slots=True)
class _Segment:
    number: int
    created_us: int
    first: dict[Stream, int]  # offset at which each stream enters this segment
    records: dict[Stream, list[Record]]
    bytes: int = 0
    last_us: int = 0
    summary: SegmentSummary | None = None
    gone: set[str] = field(default_factory=set)  # topics whose records were dropped

    def end(self, stream: Stream) -> int:
        return self.first[stream] + len(self.records[stream])


class MemoryEventLog:
    """The contract, in memory. Steps told to ``faults`` are those of an append."""

    def __init__(
        self,
        *,
        clock: Clock | None = None,
        partitions: int = limits.log_partitions,
        rules: SegmentRules | None = None,
        faults: Faults | None = None,
    ) -> None:
        self._clock = clock or ManualClock()
        self._rules = rules or SegmentRules()
        self._faults = faults or NoFaults()
        self._layout = topic_layout(partitions)
        self._streams = [(topic, index) for topic, count in self._layout.items() for index in range(count)]
        self._lock = threading.RLock()
        self._closed = False
        self._tally: dict[str, Counter[tuple[str, Origin]]] = {topic: Counter() for topic in self._layout}
        self._ends = dict.fromkeys(self._streams, 0)
        self._segments: list[_Segment] = []
        self._roll()

    def partitions(self, topic: str) -> int:
        return self._layout[topic_name(self._layout, topic)]

    def append(self, entries: Sequence[Entry]) -> list[tuple[int, int]]:
        check_entries(self._layout, entries)
        with self._lock:
            self._check_open()
            if not entries:
                return []
            self._faults.reach(steps.APPEND)
            positions: list[tuple[int, int]] = []
            segment = self._segments[-1]
            now_us = self._clock.now_us()
            if any(segment.records.values()) and self._full(segment, now_us):
                segment = self._roll()
            for entry in entries:
                stream = (entry.topic, entry.partition)
                offset = self._ends[stream]
                record = Record(*stream, offset, now_us, bytes(entry.payload), dict(entry.counts), entry.origin)
                segment.records[stream].append(record)
                segment.bytes += len(entry.payload)
                segment.last_us = now_us
                self._ends[stream] = offset + 1
                for source, events in entry.counts.items():
                    self._tally[entry.topic][(source, entry.origin)] += events
                positions.append((entry.partition, offset))
            self._faults.reach(steps.COMMITTED)
        self._faults.reach(steps.APPENDED)
        return positions

    def read(self, topic: str, partition: int, start: int, *, bytes_max: int, stop: int | None = None) -> list[Record]:
        check_partition(self._layout, topic, partition)
        stream = (topic, partition)
        with self._lock:
            self._check_open()
            begin, end = self.begins(topic)[partition], self._ends[stream]
            if start < begin:
                raise RetentionGap(f"{topic}/{partition} begins at offset {begin}; offset {start} was dropped")
            if start > end:
                raise Corrupt(
                    f"{topic}/{partition} ends at offset {end}; offset {start} was asked for, so records were lost"
                )
            records: list[Record] = []
            size = 0
            for segment in self._segments:
                if topic in segment.gone or segment.end(stream) <= start:
                    continue
                for record in segment.records[stream][max(start - segment.first[stream], 0) :]:
                    size += len(record.payload)
                    if (stop is not None and record.offset >= stop) or (records and size > bytes_max):
                        return records
                    records.append(record)
            return records

    def begins(self, topic: str) -> dict[int, int]:
        topic_name(self._layout, topic)
        with self._lock:
            kept = next(segment for segment in self._segments if topic not in segment.gone)
            return {index: kept.first[(topic, index)] for index in range(self._layout[topic])}

    def ends(self, topic: str) -> dict[int, int]:
        topic_name(self._layout, topic)
        with self._lock:
            return {index: self._ends[(topic, index)] for index in range(self._layout[topic])}

    def tally(self, topic: str) -> dict[tuple[str, Origin], int]:
        with self._lock:
            return dict(self._tally[topic_name(self._layout, topic)])

    def pending(self, topic: str, committed: Mapping[int, int]) -> dict[str, int]:
        totals: Counter[str] = Counter()
        with self._lock:
            for index, begin in self.begins(topic).items():
                start = min(max(committed.get(index, 0), begin), self._ends[(topic, index)])
                for record in self.read(topic, index, start, bytes_max=limits.integer_max):
                    totals.update(record.counts)
        return dict(totals)

    def segments(self) -> list[SegmentSummary]:
        with self._lock:
            return [segment.summary for segment in self._segments if segment.summary is not None]

    def maintain(self, keep: Mapping[str, Mapping[int, int]]) -> int:
        with self._lock:
            self._check_open()
            now_us = self._clock.now_us()
            last = self._segments[-1]
            if any(last.records.values()) and self._full(last, now_us):
                self._roll()
            for segment in self._segments[:-1]:
                if segment.summary is None:
                    segment.summary = self._seal(segment, now_us)
            dropped = 0
            for topic in self._layout:
                dropped += self._drop(topic, keep.get(topic, {}), now_us)
            return dropped

    def close(self) -> None:
        self._closed = True

    def _check_open(self) -> None:
        if self._closed:
            raise Unavailable("the log is closed; open it again")

    def _full(self, segment: _Segment, now_us: int) -> bool:
        age_us = now_us - segment.created_us
        return segment.bytes >= self._rules.bytes_max or age_us >= self._rules.age_s_max * US_PER_S

    def _roll(self) -> _Segment:
        segment = _Segment(
            number=len(self._segments) + 1,
            created_us=self._clock.now_us(),
            first=dict(self._ends),
            records={stream: [] for stream in self._streams},
        )
        self._segments.append(segment)
        return segment

    def _seal(self, segment: _Segment, now_us: int) -> SegmentSummary:
        ranges: dict[str, dict[int, tuple[int, int]]] = {topic: {} for topic in self._layout}
        tally: dict[str, Counter[tuple[str, Origin]]] = {topic: Counter() for topic in self._layout}
        checksums: dict[str, list[int]] = {topic: [] for topic in self._layout}
        for stream, records in segment.records.items():
            topic, index = stream
            ranges[topic][index] = (segment.first[stream], segment.end(stream))
            for record in records:
                checksums[topic].append(_checksum(record))
                for source, events in record.counts.items():
                    tally[topic][(source, record.origin)] += events
        before = self._segments[segment.number - 2].summary if segment.number > 1 else None
        digest = chain_digest(before.digest if before else "", {t: topic_digest(c) for t, c in checksums.items()})
        return SegmentSummary(
            segment.number, now_us, ranges, {t: dict(c) for t, c in tally.items()}, digest, dropped=False
        )

    def _drop(self, topic: str, keep: Mapping[int, int], now_us: int) -> int:
        """Drop ``topic``'s records, oldest segment first; return how many segments became empty of every topic."""
        emptied = 0
        for segment in self._segments[:-1]:
            summary = segment.summary
            if summary is None or now_us - segment.last_us < self._rules.retention_of(topic) * US_PER_S:
                break
            if any(upto > keep.get(index, upto) for index, (_, upto) in summary.ranges[topic].items()):
                break
            if topic in segment.gone:
                continue
            for stream in self._streams:
                if stream[0] == topic:
                    segment.records[stream] = []
            segment.gone.add(topic)
            held = [stream for stream, records in segment.records.items() if records]
            if not held and not summary.dropped:
                segment.summary = summary._replace(dropped=True)
                segment.gone.update(self._layout)
                emptied += 1
        return emptied


def _checksum(record: Record) -> int:
    place = (record.partition, record.offset, record.appended_at_us, ORIGINS.index(record.origin))
    return record_checksum(place, record.topic, encode_counts(record.counts), record.payload)


@dataclass(frozen=True, slots=True)
class LogFaults:
    """How often each fault strikes, from 0 to 1 a call.

    ``refused``    the append raises; nothing is appended
    ``ack_lost``   the append raises; everything is appended
    ``late``       the append raises; it takes effect before some later call, or never if ``crash`` comes first
    ``redelivered`` a read begins up to ``redelivered_max`` records too early
    ``hidden``     a partition shows nothing new for this call, while others do: order between partitions is lost
    """

    refused: float = 0.05
    ack_lost: float = 0.05
    late: float = 0.05
    redelivered: float = 0.2
    redelivered_max: int = 5
    hidden: float = 0.2


class FaultyEventLog:
    """A log whose faults a careful producer and consumer survive.

    A producer that appends again after :class:`Unavailable` appends at least once; a consumer that drops offsets below
    the one it asked for reads each record once and in order.

    >>> from random import Random
    >>> log = FaultyEventLog(MemoryEventLog(), Random(1), LogFaults(refused=0.0, ack_lost=1.0, late=0.0))
    >>> log.append([Entry("events", 0, b"hello", {"web": 1})])
    Traceback (most recent call last):
    groundswell.errors.Unavailable: the answer to the append was lost; retry
    >>> log.settle()
    >>> log.ends("events")[0]
    1
    """

    def __init__(self, inner: EventLog, rng: Random, faults: LogFaults | None = None) -> None:
        self.inner = inner
        self.faults = faults or LogFaults()
        self._rng = rng
        self._late: list[Sequence[Entry]] = []
        self._shown: dict[Stream, int] = {}
        self._lock = threading.RLock()

    def partitions(self, topic: str) -> int:
        return self.inner.partitions(topic)

    def append(self, entries: Sequence[Entry]) -> list[tuple[int, int]]:
        with self._lock:
            self._land_some()
            chance = self._rng.random()
            if chance < self.faults.refused:
                raise Unavailable("the append was refused; retry")
            chance -= self.faults.refused
            if chance < self.faults.late:
                self._late.append(list(entries))
                raise Unavailable("the append timed out; retry")
            positions = self.inner.append(entries)
            if chance - self.faults.late < self.faults.ack_lost:
                raise Unavailable("the answer to the append was lost; retry")
            return positions

    def read(self, topic: str, partition: int, start: int, *, bytes_max: int, stop: int | None = None) -> list[Record]:
        with self._lock:
            self._land_some()
            shown = self.ends(topic)[partition]
            stop = shown if stop is None else min(stop, shown)
            if start >= stop:
                return self.inner.read(topic, partition, start, bytes_max=bytes_max, stop=stop)
            begin = start
            if self._rng.random() < self.faults.redelivered:
                early = self._rng.randint(1, self.faults.redelivered_max)
                begin = max(start - early, self.inner.begins(topic)[partition])
            again = self.inner.read(topic, partition, begin, bytes_max=limits.integer_max, stop=start)
            return [*again, *self.inner.read(topic, partition, start, bytes_max=bytes_max, stop=stop)]

    def begins(self, topic: str) -> dict[int, int]:
        return self.inner.begins(topic)

    def ends(self, topic: str) -> dict[int, int]:
        """Return what is shown of each partition; it lags behind and never goes back."""
        with self._lock:
            for partition, end in self.inner.ends(topic).items():
                stream = (topic, partition)
                if stream not in self._shown or self._rng.random() >= self.faults.hidden:
                    self._shown[stream] = end
            return {partition: self._shown[(topic, partition)] for partition in self.inner.ends(topic)}

    def tally(self, topic: str) -> dict[tuple[str, Origin], int]:
        return self.inner.tally(topic)

    def pending(self, topic: str, committed: Mapping[int, int]) -> dict[str, int]:
        return self.inner.pending(topic, committed)

    def segments(self) -> list[SegmentSummary]:
        return self.inner.segments()

    def maintain(self, keep: Mapping[str, Mapping[int, int]]) -> int:
        return self.inner.maintain(keep)

    def close(self) -> None:
        self.inner.close()

    def crash(self) -> None:
        """Forget appends that have not taken effect, as a broker does that loses power."""
        with self._lock:
            self._late.clear()

    def settle(self) -> None:
        """Let every late append take effect and show everything; from here on there are no faults."""
        with self._lock:
            self.faults = LogFaults(refused=0.0, ack_lost=0.0, late=0.0, redelivered=0.0, hidden=0.0)
            while self._late:
                self.inner.append(self._late.pop(0))
            self._shown.clear()

    def _land_some(self) -> None:
        while self._late and self._rng.random() < 0.5:
            self.inner.append(self._late.pop(self._rng.randrange(len(self._late))))
