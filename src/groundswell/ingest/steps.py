"""The steps of the commit protocol at which a run may be killed, in the order in which they are reached.

Each is reached just before what its comment says. The tests kill a run at every one of them.
"""

from __future__ import annotations

from typing import Final

__all__ = [
    "COMMIT",
    "COMMITTED",
    "COMMIT_STEPS",
    "DEAD_LETTERS",
    "HAND_OVER",
    "IMPORT_APPEND",
    "IMPORT_FINISH",
    "IMPORT_RECORDED",
    "IMPORT_STEPS",
    "READ",
    "RECORDED",
    "REPLAY_APPEND",
    "WRITE",
]

READ: Final = "worker.read"  # records of the log are read
RECORDED: Final = "worker.recorded"  # fingerprints were admitted; columns are about to be ensured
WRITE: Final = "worker.write"  # a data file is written
DEAD_LETTERS: Final = "worker.dead_letters"  # dead letters are appended
HAND_OVER: Final = "worker.hand_over"  # a contribution goes to the committer
COMMIT: Final = "committer.commit"  # files and offsets are committed
COMMITTED: Final = "committer.committed"  # the commit is done, nobody has been told

IMPORT_APPEND: Final = "import.append"  # a batch of an imported file is appended
IMPORT_FINISH: Final = "import.finish"  # the heartbeats after the last row are appended
IMPORT_RECORDED: Final = "import.recorded"  # the import is written into the permanent ledger
REPLAY_APPEND: Final = "replay.append"  # replayed dead letters and their marks are appended

COMMIT_STEPS: Final = (READ, RECORDED, WRITE, DEAD_LETTERS, HAND_OVER, COMMIT, COMMITTED)
IMPORT_STEPS: Final = (IMPORT_APPEND, IMPORT_FINISH, IMPORT_RECORDED)
