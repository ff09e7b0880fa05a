"""The control store: definitions and their versions, keys, the audit trail, imports, published scorecards.

Importing this package costs nothing; the database driver is loaded when ``Store`` or ``ControlView`` is first named.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from groundswell.store.control import Store
    from groundswell.store.manifest import Manifest, read_manifest
    from groundswell.store.view import ControlView

__all__ = ["ControlView", "Manifest", "Store", "read_manifest"]

_HOMES = {"ControlView": "view", "Manifest": "manifest", "Store": "control", "read_manifest": "manifest"}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"{__name__}.{home}"), name)
