"""What one worker hands to the committer: files, and the ranges of the log that they came from.

Invariants
    a contribution covers each of its ranges wholly: every event in it is counted once, as committed, dead-lettered
    or deduplicated
    it says nothing about the state before ``from``, so it may be accepted only where ``from`` is committed
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from groundswell.lake.contract import Change, IngestState, LakeFile
from groundswell.model.ledger import LakeCounts

__all__ = ["Contribution", "OffsetRange", "merge", "state_covers", "state_precedes"]

OffsetRange = tuple[int, int]  # [from, to)


@dataclass(frozen=True, slots=True)
class Contribution:
    """Files and the ranges they cover. Keys of the mappings are partitions of the events topic."""

    ranges: Mapping[int, OffsetRange]
    files: tuple[LakeFile, ...] = ()
    counts: Mapping[str, LakeCounts] = field(default_factory=dict)  # by source
    watermarks_us: Mapping[int, int] = field(default_factory=dict)
    definitions_version: int = 0

    @property
    def rows(self) -> int:
        """Rows in its files."""
        return sum(file.rows for file in self.files)

    @property
    def events(self) -> int:
        """Events it settles, of whatever fate."""
        return sum(count.settled for count in self.counts.values())


def state_precedes(state: IngestState, contribution: Contribution) -> bool:
    """Return whether each range starts exactly where ``state`` stands."""
    return all(state.offsets.get(partition, 0) == start for partition, (start, _) in contribution.ranges.items())


def state_covers(state: IngestState, contribution: Contribution) -> bool:
    """Return whether ``state`` stands at or past the end of each range."""
    return all(state.offsets.get(partition, 0) >= stop for partition, (_, stop) in contribution.ranges.items())


def merge(state: IngestState, contributions: Iterable[Contribution]) -> Change:
    """Return the change that adds ``contributions`` to ``state``, each of which follows those before it."""
    offsets = dict(state.offsets)
    watermarks = dict(state.watermarks_us)
    ledger = dict(state.ledger)
    version = state.definitions_version
    files: list[LakeFile] = []
    for one in contributions:
        files.extend(one.files)
        offsets.update({partition: stop for partition, (_, stop) in one.ranges.items()})
        for partition, watermark in one.watermarks_us.items():
            watermarks[partition] = max(watermark, watermarks.get(partition, watermark))
        for source, counts in one.counts.items():
            ledger[source] = ledger.get(source, LakeCounts()) + counts
        version = max(version, one.definitions_version)
    merged = IngestState(offsets=offsets, watermarks_us=watermarks, ledger=ledger, definitions_version=version)
    return Change(add=files, state=merged)
