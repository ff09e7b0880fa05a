"""A clock that stands still until told otherwise.

Invariants
    wall time and monotonic time move together, and only by ``advance`` and ``sleep``
    ``set_us`` moves the wall clock alone, back too, as a corrected machine clock does
"""

from __future__ import annotations

import threading
from typing import Final

from groundswell.errors import InvalidInput
from groundswell.model.clock import US_PER_S, parse_us

__all__ = ["ManualClock"]

_START_US: Final = parse_us("start", "2026-01-05T00:00:00Z")


class ManualClock:
    """A :class:`~groundswell.model.clock.Clock` for tests and simulation. Safe to share between threads.

    >>> clock = ManualClock(start_us=0)
    >>> clock.advance(1.5)
    >>> clock.now_us(), clock.monotonic_s()
    (1500000, 1.5)
    """

    def __init__(self, start_us: int = _START_US) -> None:
        self._lock = threading.Lock()
        self._now_us = start_us
        self._elapsed_us = 0

    def now_us(self) -> int:
        with self._lock:
            return self._now_us

    def monotonic_s(self) -> float:
        with self._lock:
            return self._elapsed_us / US_PER_S

    def sleep(self, seconds: float) -> None:
        """Advance instead of waiting."""
        self.advance(max(seconds, 0.0))

    def advance(self, seconds: float) -> None:
        """Let ``seconds`` pass.

        Raises:
            InvalidInput: ``seconds`` is negative; ``set_us`` moves the wall clock back.
        """
        if seconds < 0:
            raise InvalidInput("seconds", seconds, "must be >= 0", next_step="use set_us to move the wall clock back")
        step_us = round(seconds * US_PER_S)
        with self._lock:
            self._now_us += step_us
            self._elapsed_us += step_us

    def set_us(self, now_us: int) -> None:
        """Set the wall clock; monotonic time stays."""
        with self._lock:
            self._now_us = now_us
