"""The committer: contributions in, one snapshot out, or none.

Invariants
    a contribution is accepted only where each of its ranges starts at the committed offset, read from the very
    metadata that the commit replaces
    files and offsets land in one commit; a contribution lands wholly or not at all
    after an unclear answer nothing is assumed: the table is loaded again and compared

A second committer, in this process or another, does no harm: one of the two finds its ranges taken and its workers fall
back to the committed offsets. Files of a rejected contribution are named by no snapshot; the lake sweeps them by age.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from groundswell.errors import CommitConflict, Transient
from groundswell.ingest import steps
from groundswell.ingest.contribution import Contribution, merge, state_covers, state_precedes
from groundswell.lake.contract import Change, IngestState, Lake, Snapshot
from groundswell.model.faults import Faults, NoFaults

__all__ = ["CommitOutcome", "Committer"]

Precedes = Callable[[IngestState, Contribution], bool]


class CommitOutcome(NamedTuple):
    """What became of each contribution, in the order given, and the snapshot that holds the accepted ones."""

    accepted: tuple[Contribution, ...]
    rejected: tuple[Contribution, ...]
    snapshot: Snapshot | None


class Committer:
    """Merges contributions and commits them.

    ``precedes`` is the comparison on which exactly-once rests; it is a parameter so that a test can break it and see
    the audit catch it.
    """

    def __init__(self, lake: Lake, *, faults: Faults | None = None, precedes: Precedes = state_precedes) -> None:
        self._lake = lake
        self._faults = faults or NoFaults()
        self._precedes = precedes

    def commit(self, contributions: Sequence[Contribution]) -> CommitOutcome:
        """Commit what fits onto the committed offsets, in one snapshot.

        Raises:
            Transient: nothing was committed; the same call may be made again.
        """
        if not contributions:
            return CommitOutcome((), (), None)
        accepted: list[Contribution] = []
        rejected: list[Contribution] = []

        def decide(state: IngestState) -> Change | None:
            accepted.clear()  # asked again after a lost race
            rejected.clear()
            change: Change | None = None
            for one in contributions:
                if not self._precedes(state, one):
                    rejected.append(one)
                    continue
                accepted.append(one)
                change = _extend(change, merge(state, (one,)))
                state = change.state or state
            return change

        self._faults.reach(steps.COMMIT)
        try:
            snapshot = self._lake.commit(decide)
        except CommitConflict:
            raise
        except Transient as error:
            return self._settle(contributions, error)
        self._faults.reach(steps.COMMITTED)
        return CommitOutcome(tuple(accepted), tuple(rejected), snapshot)

    def _settle(self, contributions: Sequence[Contribution], error: Transient) -> CommitOutcome:
        """Decide an unclear answer from what the table says now.

        A range that the table covers is settled whoever committed it: its events are in exactly once, because its first
        committer was checked as we are. What is not covered beside what is was never accepted: a commit lands wholly.
        Raises the table's own ``Transient`` where it cannot be read.
        """
        snapshot = self._lake.current()
        state = snapshot.state if snapshot else IngestState()
        covered = tuple(one for one in contributions if state_covers(state, one))
        if not covered:
            raise CommitConflict(f"the commit did not land and is tried again: {error}") from error
        rest = tuple(one for one in contributions if not state_covers(state, one))
        return CommitOutcome(covered, rest, snapshot)


def _extend(change: Change | None, more: Change) -> Change:
    return more if change is None else Change(add=[*change.add, *more.add], state=more.state)
