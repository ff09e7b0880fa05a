"""The steps of the lake at which a run may be killed, each reached just before what its comment says."""

from __future__ import annotations

from typing import Final

__all__ = [
    "COMPACTION_COMMIT",
    "COMPACTION_COMMITTED",
    "COMPACTION_READ",
    "COMPACTION_STEPS",
    "COMPACTION_WRITE",
    "EXPIRED",
    "EXPIRY_STEPS",
    "LAKE_STEPS",
    "STAGE",
    "SWAP",
    "SWAPPED",
    "WRITE",
    "WRITTEN",
]

WRITE: Final = "lake.write"  # a data file is written
WRITTEN: Final = "lake.written"  # the file is on the disk; its name is told
STAGE: Final = "lake.stage"  # the change is decided; manifests are written
SWAP: Final = "lake.swap"  # manifests are on the disk; the catalog is asked to swap
SWAPPED: Final = "lake.swapped"  # the swap is done; its snapshot is told

EXPIRED: Final = "lake.expired"  # snapshots have expired; the files that only they named are listed

COMPACTION_READ: Final = "compaction.read"  # the files of a batch, or of a range, are read
COMPACTION_WRITE: Final = "compaction.write"  # a file of the new run is written
COMPACTION_COMMIT: Final = "compaction.commit"  # the new run takes the place of what it was made from
COMPACTION_COMMITTED: Final = "compaction.committed"  # the commit is done; the report is made

LAKE_STEPS: Final = (WRITE, WRITTEN, STAGE, SWAP, SWAPPED)
EXPIRY_STEPS: Final = (EXPIRED,)
COMPACTION_STEPS: Final = (COMPACTION_READ, COMPACTION_WRITE, COMPACTION_COMMIT, COMPACTION_COMMITTED)
