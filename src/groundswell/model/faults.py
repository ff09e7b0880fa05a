"""Named steps at which a simulation may kill, delay or fail. In production a step costs one call and does nothing."""

from __future__ import annotations

from typing import Protocol

__all__ = ["Faults", "NoFaults"]


class Faults(Protocol):
    """Told of each step that the commit protocol is about to take."""

    def reach(self, step: str) -> None:
        """Return, or raise what the step should suffer."""
        ...


class NoFaults:
    """Nothing ever fails by design."""

    def reach(self, step: str) -> None:
        del step
