"""The audit's proof of exactly-once: identities of the log against identities of the lake.

Invariants
    identities are compared by ``event_hash``, 64 bits of a keyed hash; what differs is then named by source and id
    where records of the log cannot be read, only what is lost is judged: the rest may lie in those records
    memory is bounded: identities are compared in slices of the hash, each a pass over log and lake
    a repeat is a fault only where ingest could have known: in one partition, within the window of log time
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from groundswell import limits
from groundswell.ingest.audit_damage import LogDamage, read_topic
from groundswell.lake.contract import Lake, LakeFile
from groundswell.log.contract import EVENTS_TOPIC, EventLog, Record
from groundswell.model.clock import US_PER_S
from groundswell.wire.record import decode_record

__all__ = ["IdentityFindings", "compare_identities"]

Int64s = npt.NDArray[np.int64]
_EXAMPLES: Final = 3
_REPEATS_MAX: Final = 100_000  # identities with several rows that are looked at one by one


class IdentityFindings(NamedTuple):
    """Counts of identities, with a few of each kind as source/event_id."""

    in_log: int
    in_lake: int  # rows
    lost: int
    doubled: int
    foreign: int
    late: int
    log_begins: bool  # the log no longer holds its first records
    lost_examples: Sequence[str] = ()
    doubled_examples: Sequence[str] = ()
    foreign_examples: Sequence[str] = ()


def compare_identities(
    log: EventLog,
    lake: Lake,
    files: Sequence[LakeFile],
    committed: Mapping[int, int],
    damage: LogDamage | None = None,
) -> IdentityFindings:
    """Compare all identities that the log accepted below ``committed`` with the rows of ``files``."""
    both = _Both(log, lake, files, committed, damage)
    rows = sum(file.rows for file in files)
    slices = 1 + rows // limits.audit_identities_max
    parts = [both.compare(number, slices) for number in range(slices)]
    dropped = both.dropped
    lost, repeated, foreign = (
        np.concatenate([getattr(part, name) for part in parts]) for name in ("lost", "repeated", "foreign")
    )
    foreign = foreign[:0] if dropped or damage else foreign
    repeated = repeated[:0] if damage else repeated
    doubled, late = both.judge(repeated)
    return IdentityFindings(
        in_log=sum(part.in_log for part in parts),
        in_lake=rows,
        lost=len(lost),
        doubled=len(doubled),
        foreign=len(foreign),
        late=late,
        log_begins=dropped,
        lost_examples=both.named_in_log(lost[:_EXAMPLES]),
        doubled_examples=both.named_in_lake(np.array(doubled[:_EXAMPLES], np.int64)),
        foreign_examples=both.named_in_lake(foreign[:_EXAMPLES]),
    )


class _Part(NamedTuple):
    """One slice: hashes that only the log has, that several rows of the lake have, that only the lake has."""

    in_log: int
    lost: Int64s
    repeated: Int64s
    foreign: Int64s


class _Both:
    """Log and lake side by side."""

    def __init__(
        self,
        log: EventLog,
        lake: Lake,
        files: Sequence[LakeFile],
        committed: Mapping[int, int],
        damage: LogDamage | None,
    ) -> None:
        self._damage = damage
        self._log = log
        self._lake = lake
        self._files = files
        self._committed = committed
        self.dropped = any(log.begins(EVENTS_TOPIC).values())

    def compare(self, number: int, slices: int) -> _Part:
        in_log = np.unique(_joined([_slice(_hashes(batch), number, slices) for _, batch in self._batches()]))
        lake_parts = [_slice(_hashes(self._lake.read([file], ["event_hash"])), number, slices) for file in self._files]
        in_lake, times = np.unique(_joined(lake_parts), return_counts=True)
        return _Part(
            in_log=len(in_log),
            lost=np.setdiff1d(in_log, in_lake, assume_unique=True),
            repeated=in_lake[times > 1],
            foreign=np.setdiff1d(in_lake, in_log, assume_unique=True),
        )

    def judge(self, repeated: Int64s) -> tuple[list[int], int]:
        """Return the hashes with more rows than ingest may have let through, and how many rows of others repeat."""
        if not len(repeated):
            return [], 0
        some = repeated[:_REPEATS_MAX]
        rows = self._rows_of(some)
        entries: dict[int, list[tuple[int, int]]] = defaultdict(list)
        for record, batch in self._batches():
            hashes = _hashes(batch)
            for found in hashes[np.isin(hashes, some)].tolist():
                entries[found].append((record.partition, record.appended_at_us))
        doubled: list[int] = []
        late = 0
        for one, identities in rows.items():
            # two identities that share a hash may both be there
            allowed = max(_allowed(entries.get(one, [])), len(identities))
            count = sum(identities.values())
            if one in entries and count > allowed:
                doubled.append(one)
            else:
                late += count - len(identities)
        return doubled, late

    def _rows_of(self, hashes: Int64s) -> dict[int, dict[tuple[str, str], int]]:
        """Return how many rows each identity of these hashes has."""
        found: dict[int, dict[tuple[str, str], int]] = {}
        for hash_, source, event_id in self._lake_rows(hashes):
            identities = found.setdefault(hash_, {})
            identities[(source, event_id)] = identities.get((source, event_id), 0) + 1
        return found

    def named_in_lake(self, hashes: Int64s) -> list[str]:
        return sorted({f"{source}/{event_id}" for _, source, event_id in self._lake_rows(hashes)})

    def _lake_rows(self, hashes: Int64s) -> Iterator[tuple[int, str, str]]:
        if not len(hashes):
            return
        for file in self._files:
            table = self._lake.read([file], ["event_hash", "source", "event_id"])
            yield from _identities(table, hashes)

    def named_in_log(self, hashes: Int64s) -> list[str]:
        if not len(hashes):
            return []
        return sorted(
            {
                f"{source}/{event_id}"
                for _, batch in self._batches()
                for _, source, event_id in _identities(batch, hashes)
            }
        )

    def _batches(self) -> Iterator[tuple[Record, pa.RecordBatch]]:
        """Yield the kept records below the committed offsets that hold events."""
        for partition, stop in sorted(self._committed.items()):
            for record in read_topic(self._log, EVENTS_TOPIC, partition, stop, damage=self._damage):
                batch = decode_record(record.payload).batch
                if batch.num_rows:
                    yield record, batch


def _allowed(entries: Sequence[tuple[int, int]]) -> int:
    """Return how many rows an identity may have that entered at these (partition, time): one a partition, and one
    more for each time it came again after its first was forgotten.
    """
    first: dict[int, int] = {}
    allowed = 0
    for partition, at_us in sorted(entries):
        if partition not in first or at_us - first[partition] > limits.dedupe_window_s * US_PER_S:
            first[partition] = at_us
            allowed += 1
    return allowed


def _identities(rows: Any, hashes: Int64s) -> Iterator[tuple[int, str, str]]:
    found = _hashes(rows)
    places = pa.array(np.flatnonzero(np.isin(found, hashes)))
    if len(places):
        taken = rows.take(places)
        columns = (taken.column(name).to_pylist() for name in ("event_hash", "source", "event_id"))
        yield from zip(*columns, strict=True)


def _hashes(rows: pa.Table | pa.RecordBatch) -> Int64s:
    return np.asarray(rows.column("event_hash"))


def _slice(hashes: Int64s, number: int, slices: int) -> Int64s:
    if slices == 1:
        return hashes
    return hashes[hashes.view(np.uint64) % np.uint64(slices) == number]


def _joined(parts: Sequence[Int64s]) -> Int64s:
    return np.concatenate(parts) if parts else np.zeros(0, np.int64)
