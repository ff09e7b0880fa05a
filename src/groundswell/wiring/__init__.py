"""Wiring: the only place that chooses implementations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from groundswell.wiring.installation import Installation, open_installation

__all__ = ["Installation", "open_installation"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from groundswell.wiring import installation

        return getattr(installation, name)
    msg = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(msg)
