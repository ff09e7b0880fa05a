"""What every command shares: the data folder and who is asking."""

from __future__ import annotations

import getpass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from groundswell.wiring import Installation

__all__ = ["Data", "opened", "who"]

Data = Annotated[
    Path | None,
    typer.Option(
        "--data",
        "-d",
        envvar="GROUNDSWELL_DATA",
        help="The data folder (default: ./groundswell-data).",
        show_default=False,
    ),
]


def opened(data: Path | None, *, create: bool = False) -> Installation:
    """Open the data folder that a command was given."""
    from groundswell.wiring import open_installation

    return open_installation(data, create=create)


def who() -> str:
    """Return the user's name, for the audit trail."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        return "unknown"
