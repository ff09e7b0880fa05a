"""Scorecards for pages: computed once for everybody who looks, several in one sweep.

Invariants
    one sweep at a time; who asks meanwhile waits for its result instead of starting another
    a scorecard is at most ``SCORECARD_AGE_S_MAX`` older than the newest snapshot and always of today's definitions
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Final, NamedTuple

from groundswell.experiments.scorecard import Scorecard
from groundswell.experiments.service import Scorecards
from groundswell.lake.contract import Lake
from groundswell.model.clock import Clock

__all__ = ["CardCache"]

SCORECARD_AGE_S_MAX: Final = 30.0  # the lake commits twice a second; a decision does not change that fast


class _Kept(NamedTuple):
    card: Scorecard
    snapshot_id: int
    computed_s: float


class CardCache:
    """Keeps the newest scorecard of each experiment. Threads may share it."""

    def __init__(self, scorecards: Scorecards, lake: Lake, clock: Clock) -> None:
        self._scorecards = scorecards
        self._lake = lake
        self._clock = clock
        self._lock = threading.Lock()
        self._kept: dict[str, _Kept] = {}

    def cards(self, names: Sequence[str], definitions_version: int) -> dict[str, Scorecard]:
        """Return the scorecards of ``names``; what is missing or too old is computed in one sweep.

        Raises:
            NotComputable: nothing is in the lake yet.
            NotFound: a name is not defined.
        """
        with self._lock:
            stale = [name for name in names if not self._fresh(name, definitions_version)]
            if stale:
                computed = self._scorecards.compute(stale, definitions_version=definitions_version)
                now_s = self._clock.monotonic_s()
                for name, card in computed.scorecards.items():
                    self._kept[name] = _Kept(card, computed.snapshot.snapshot_id, now_s)
            return {name: self._kept[name].card for name in names}

    def _fresh(self, name: str, definitions_version: int) -> bool:
        kept = self._kept.get(name)
        if kept is None or kept.card.definitions_version != definitions_version:
            return False
        if self._clock.monotonic_s() - kept.computed_s < SCORECARD_AGE_S_MAX:
            return True
        current = self._lake.current()
        return current is not None and current.snapshot_id == kept.snapshot_id
