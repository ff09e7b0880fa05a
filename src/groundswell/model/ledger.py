"""Conservation, in two ledgers for each source.

intake:  received = refused + accepted
lake:    accepted + replayed = committed + dead_lettered + deduplicated + forgotten + in_flight
"""

from __future__ import annotations

import msgspec

__all__ = ["IntakeCounts", "LakeCounts", "SourceLedger"]


class IntakeCounts(msgspec.Struct, frozen=True):
    """What one source's senders were told. A body refused whole counts as one."""

    received: int = 0
    refused: int = 0
    accepted: int = 0

    def __add__(self, other: IntakeCounts) -> IntakeCounts:
        return IntakeCounts(
            self.received + other.received, self.refused + other.refused, self.accepted + other.accepted
        )

    @property
    def balanced(self) -> bool:
        return self.received == self.refused + self.accepted


class LakeCounts(msgspec.Struct, frozen=True):
    """What became of one source's accepted events, below the committed offsets.

    ``conflicts`` (same id, other content; the first was kept) are among the deduplicated.
    """

    committed: int = 0
    dead_lettered: int = 0
    deduplicated: int = 0
    forgotten: int = 0
    conflicts: int = 0

    def __add__(self, other: LakeCounts) -> LakeCounts:
        return LakeCounts(
            self.committed + other.committed,
            self.dead_lettered + other.dead_lettered,
            self.deduplicated + other.deduplicated,
            self.forgotten + other.forgotten,
            self.conflicts + other.conflicts,
        )

    @property
    def settled(self) -> int:
        return self.committed + self.dead_lettered + self.deduplicated + self.forgotten


class SourceLedger(msgspec.Struct, frozen=True, kw_only=True):
    """Both conservation ledgers of one source, as of the newest commit."""

    source: str
    intake: IntakeCounts = IntakeCounts()
    replayed: int = 0  # dead letters sent through ingest once more
    lake: LakeCounts = LakeCounts()
    in_flight: int = 0  # accepted or replayed, and not yet committed

    @property
    def entered(self) -> int:
        """Left side of the second ledger."""
        return self.intake.accepted + self.replayed

    @property
    def intake_off_by(self) -> int:
        """0 where received = refused + accepted."""
        return self.intake.received - self.intake.refused - self.intake.accepted

    @property
    def lake_off_by(self) -> int:
        """0 where accepted + replayed = committed + dead-lettered + deduplicated + forgotten + in flight."""
        return self.entered - self.lake.settled - self.in_flight
