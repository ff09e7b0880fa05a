"""What the collector asks of the control store; ``wiring`` answers."""

from __future__ import annotations

from typing import Protocol

from groundswell.model.definitions import Definitions

__all__ = ["Control"]


class Control(Protocol):
    """Definitions and write keys. Called on the event loop for each request, so it answers from memory, at most a
    second old.
    """

    def definitions(self) -> Definitions:
        """Return the newest definitions; the same object as long as nothing changed."""
        ...

    def resolve_key(self, key: str) -> str:
        """Return the source that ``key`` writes to.

        Raises:
            Unauthorized: the key is unknown, or was revoked (the message says which).
        """
        ...
