"""The steps of the SQLite log at which a run may be killed, each reached just before what its comment says.

``MemoryEventLog`` tells of the steps ``APPEND``, ``COMMITTED`` and ``APPENDED`` alone.
"""

from __future__ import annotations

from typing import Final

__all__ = [
    "APPEND",
    "APPENDED",
    "APPEND_STEPS",
    "CHECKPOINTED",
    "COMMITTED",
    "CREATE_STEPS",
    "DROP_COPIED",
    "DROP_DECIDED",
    "DROP_REMOVED",
    "DROP_STEPS",
    "INSERTED",
    "MANIFEST_CREATED",
    "MANIFEST_NAMED",
    "MANIFEST_WRITTEN",
    "ROLLED",
    "SEALED",
    "SEAL_CHECKPOINTED",
    "SEAL_STEPS",
    "SEGMENT_CREATED",
    "SEGMENT_NAMED",
    "SEGMENT_STEPS",
    "SEGMENT_SYNCED",
    "SEGMENT_WRITTEN",
]

APPEND: Final = "log.append"  # entries are inserted
INSERTED: Final = "log.inserted"  # the transaction commits
COMMITTED: Final = "log.committed"  # it is durable; nobody has been told
CHECKPOINTED: Final = "log.checkpointed"  # the write-ahead log was copied into the segment; the lock is given back
APPENDED: Final = "log.appended"  # the lock is given back; the caller is told

SEGMENT_WRITTEN: Final = "segment.written"  # an empty segment is synced
SEGMENT_SYNCED: Final = "segment.synced"  # it gets its name
SEGMENT_NAMED: Final = "segment.named"  # its name is synced
SEGMENT_CREATED: Final = "segment.created"  # it is used
ROLLED: Final = "log.rolled"  # the next append goes to the new segment

MANIFEST_WRITTEN: Final = "manifest.written"  # the manifest of a new log is synced
MANIFEST_NAMED: Final = "manifest.named"  # its name is synced
MANIFEST_CREATED: Final = "manifest.created"  # the log is opened

SEAL_CHECKPOINTED: Final = "seal.checkpointed"  # a full segment is whole; its summary goes into the manifest
SEALED: Final = "seal.sealed"  # the next one is sealed

DROP_COPIED: Final = "drop.copied"  # what stays of a segment has its own file; the manifest is told
DROP_DECIDED: Final = "drop.decided"  # the manifest has been told; the file that goes is removed
DROP_REMOVED: Final = "drop.removed"  # the next one is dropped

APPEND_STEPS: Final = (APPEND, INSERTED, COMMITTED, CHECKPOINTED, APPENDED)
SEGMENT_STEPS: Final = (SEGMENT_WRITTEN, SEGMENT_SYNCED, SEGMENT_NAMED, SEGMENT_CREATED, ROLLED)
CREATE_STEPS: Final = (*SEGMENT_STEPS[:-1], MANIFEST_WRITTEN, MANIFEST_NAMED, MANIFEST_CREATED)
SEAL_STEPS: Final = (SEAL_CHECKPOINTED, SEALED)
DROP_STEPS: Final = (DROP_COPIED, DROP_DECIDED, DROP_REMOVED)
