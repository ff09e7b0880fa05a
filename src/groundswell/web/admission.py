"""A bound on how often one key may ask, so that one runaway client does not starve the others.

Invariants
    memory is one pair of numbers for each holder of a known key; unknown keys never come this far
    in any span of ``t`` seconds a holder is let in at most ``rate * (t + burst_s)`` times
"""

from __future__ import annotations

from math import inf

from groundswell.errors import Overloaded
from groundswell.model.clock import Clock

__all__ = ["RateLimit"]


class RateLimit:
    """A token bucket for each holder, in one process. Used on one event loop, so it takes no lock."""

    def __init__(self, clock: Clock, *, rate_per_s: float, burst_s: float) -> None:
        self._clock = clock
        self._rate = rate_per_s
        self._burst = max(1.0, rate_per_s * burst_s)
        self._buckets: dict[str, tuple[float, float]] = {}  # holder -> tokens, when they were counted

    def admit(self, holder: str) -> None:
        """Count one request.

        Raises:
            Overloaded: ``holder`` asked too often; carries the seconds until the next token.
        """
        now = self._clock.monotonic_s()
        tokens, counted = self._buckets.get(holder, (inf, now))
        tokens = min(self._burst, tokens + (now - counted) * self._rate)
        if tokens < 1.0:
            self._buckets[holder] = (tokens, now)
            raise Overloaded(
                f"requests of {holder!r} exceed {self._rate:g} a second; ask again later",
                retry_after_s=(1.0 - tokens) / self._rate,
            )
        self._buckets[holder] = (tokens - 1.0, now)
