"""The data folder: what lies where.

groundswell-data/
  groundswell.json   format of this installation
  control.sqlite     definitions, keys, audit trail, imports, published scorecards
  log/               the event log, a file a segment
  lake/              Iceberg: catalog.db, groundswell/events/
  fingerprints/      who was committed within the window
      logs/, metrics/    of the processes of `groundswell up`; heartbeat.lock, up.lock
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from groundswell.errors import Corrupt, InvalidInput, NotFound, Unavailable

__all__ = ["DATA_VARIABLE", "DEFAULT_FOLDER", "Layout"]

DATA_VARIABLE: Final = "GROUNDSWELL_DATA"
DEFAULT_FOLDER: Final = "groundswell-data"
FORMAT: Final = 1


class _Marker(msgspec.Struct, frozen=True):
    format: int


@dataclass(frozen=True, slots=True)
class Layout:
    """Paths of one installation."""

    root: Path

    @property
    def marker(self) -> Path:
        return self.root / "groundswell.json"

    @property
    def control(self) -> Path:
        return self.root / "control.sqlite"

    @property
    def log(self) -> Path:
        return self.root / "log"

    @property
    def lake(self) -> Path:
        return self.root / "lake"

    @property
    def fingerprints(self) -> Path:
        return self.root / "fingerprints"

    @classmethod
    def create(cls, root: str | os.PathLike[str]) -> Layout:
        """Return the layout of ``root``, made if it is missing or empty.

        Raises:
            InvalidInput: ``root`` holds something else.
            Unavailable: it cannot be written.
        """
        layout = cls(Path(root).absolute())
        if layout.marker.exists():
            return cls.find(root)
        try:
            layout.root.mkdir(parents=True, exist_ok=True)
            if any(layout.root.iterdir()):
                raise InvalidInput("data folder", str(layout.root), "must be empty or hold Groundswell's data")
            partial = layout.marker.with_suffix(".partial")
            partial.write_bytes(msgspec.json.encode(_Marker(FORMAT)))
            partial.replace(layout.marker)
        except FileExistsError:
            raise InvalidInput("data folder", str(layout.root), "must be a folder") from None
        except OSError as error:
            msg = f"the data folder {layout.root} cannot be written: {error.strerror}"
            raise Unavailable(msg) from error
        return layout

    @classmethod
    def find(cls, root: str | os.PathLike[str]) -> Layout:
        """Return the layout of an existing installation.

        Raises:
            NotFound: nothing is there.
            Corrupt: the marker is unreadable or of a newer format.
        """
        layout = cls(Path(root).absolute())
        if not layout.marker.exists():
            msg = f"no data in {layout.root}; name the folder with --data, or begin one with `groundswell apply`"
            raise NotFound(msg)
        try:
            marker = msgspec.json.decode(layout.marker.read_bytes(), type=_Marker)
        except msgspec.DecodeError as error:
            msg = f"{layout.marker} is unreadable: {error}; restore it from a backup"
            raise Corrupt(msg) from None
        if marker.format > FORMAT:
            msg = f"{layout.root} has format {marker.format}, this program knows {FORMAT}; install a newer Groundswell"
            raise Corrupt(msg)
        return layout
