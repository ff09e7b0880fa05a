"""What a busy process knows of definitions and keys: a snapshot in memory, refreshed when the store's version moves.

Invariants
    a reader sees definitions and keys of one moment, and never waits for the database once the first load succeeded
    while the database answers, what is known is at most ``max_age_s`` old
    while it does not, the last known is served, and ``problem`` says why
"""

from __future__ import annotations

import math
import threading
from typing import NamedTuple

from groundswell import limits
from groundswell.errors import GroundswellError
from groundswell.model.clock import Clock
from groundswell.model.definitions import Definitions
from groundswell.store.control import Store
from groundswell.store.keys import KeyRing

__all__ = ["ControlView"]


class _Known(NamedTuple):
    definitions: Definitions
    key_ring: KeyRing
    checked_s: float  # when the database last answered


class ControlView:
    """Definitions and keys, from memory. Threads may share it.

    The thread that finds the snapshot too old asks the database (a read of one row); the others go on with what they
    know.
    A process that must never wait sets ``max_age_s`` to infinity and calls ``refresh`` from a thread of its own.
    """

    def __init__(self, store: Store, clock: Clock, *, max_age_s: float = limits.definitions_poll_s) -> None:
        self._store = store
        self._clock = clock
        self._max_age_s = max_age_s
        self._new_key_age_s = min(limits.unknown_key_poll_s, max_age_s) if math.isfinite(max_age_s) else None
        self._refreshing = threading.Lock()
        self._tried_s = clock.monotonic_s()
        self._known = _Known(store.definitions(), store.key_ring(), self._tried_s)
        self._problem: GroundswellError | None = None

    def definitions(self) -> Definitions:
        """Return the definitions as last known."""
        return self._fresh(self._max_age_s).definitions

    def resolve_key(self, key: str) -> str:
        """Return the source that ``key`` writes to. Raises ``Unauthorized`` where it is unknown or revoked."""
        key_ring = self._fresh(self._max_age_s).key_ring
        if self._new_key_age_s is not None and not key_ring.knows(key):
            key_ring = self._fresh(self._new_key_age_s).key_ring  # it may have been made a moment ago
        return key_ring.resolve(key)

    @property
    def problem(self) -> GroundswellError | None:
        """Why the last refresh failed; None where it did not."""
        return self._problem

    @property
    def age_s(self) -> float:
        """Seconds since the database last answered."""
        return self._clock.monotonic_s() - self._known.checked_s

    def refresh(self) -> bool:
        """Ask the database now; return whether it answered. Only an error that is not of the tree escapes."""
        with self._refreshing:
            return self._refresh()

    def _fresh(self, max_age_s: float) -> _Known:
        due = self._clock.monotonic_s() - self._tried_s >= max_age_s
        if due and self._refreshing.acquire(blocking=False):
            try:
                self._refresh()
            finally:
                self._refreshing.release()
        return self._known

    def _refresh(self) -> bool:
        now_s = self._clock.monotonic_s()
        known = self._known
        try:
            definitions_version, keys_version = self._store.versions()
            definitions, key_ring = known.definitions, known.key_ring
            if definitions_version != definitions.version:
                definitions = self._store.definitions()
            if keys_version != key_ring.version:
                key_ring = self._store.key_ring()
        except GroundswellError as error:
            self._problem = error
            return False
        else:
            self._known = _Known(definitions, key_ring, now_s)
            self._problem = None
            return True
        finally:
            self._tried_s = now_s
