"""``groundswell trace``: what ingest knows of an event or a unit, and which experiments counted it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from groundswell.experiments.counted import counted_lines
from groundswell.ingest.trace import Trace
from groundswell.ingest.trace import trace as trace_events

if TYPE_CHECKING:
    from groundswell.wiring.installation import Installation

__all__ = ["trace"]


def trace(installation: Installation, what: str) -> Trace:
    """Follow ``what``, an event id or a unit.

    Raises:
        NotFound: neither log nor lake know it.
    """
    traced = trace_events(installation.log, installation.lake, what)
    units = sorted({event.unit for event in traced.events if event.unit is not None})
    if traced.snapshot_id is None or len(units) != 1:
        return traced
    snapshot = installation.lake.snapshot(traced.snapshot_id)
    lines = counted_lines(installation.lake, snapshot, units[0], installation.store.definitions())
    return msgspec.structs.replace(traced, counted=tuple(lines))
