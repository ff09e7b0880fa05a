"""Groundswell: experiments and ads data, exactly once, from one event to a number you can trust.

import groundswell
gs = groundswell.open("groundswell-data")
gs.scorecard("new_checkout")
"""

from __future__ import annotations

from typing import TYPE_CHECKING

__all__ = ["__version__", "open"]

__version__ = "0.1.0"

if TYPE_CHECKING:
    from groundswell.wiring import open_installation as open  # noqa: A004  # the module's own verb, as in gzip.open


def __getattr__(name: str) -> object:
    if name == "open":
        from groundswell.wiring import open_installation

        return open_installation
    msg = f"module 'groundswell' has no attribute {name!r}"
    raise AttributeError(msg)
