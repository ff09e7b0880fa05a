"""Conservation, in two ledgers for each source.

    intake:  received = refused + accepted
    lake:    accepted + replayed = committed + dead_lettered + deduplicated + forgotten + in_flight
"""

from __future__ import annotations

import msgspec

__all__ = ["IntakeCounts", "LakeCounts"]


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
