"""``groundswell trace``: what ingest knows of an event or a unit, and which experiments counted it."""

from __future__ import annotations

import msgspec

from groundswell.experiments.counted import counted_lines
from groundswell.ingest.trace import Trace
from groundswell.ingest.trace import trace as trace_events
from groundswell.lake.contract import Lake
from groundswell.log.contract import EventLog
from groundswell.model.definitions import Definitions

__all__ = ["trace"]


def trace(log: EventLog, lake: Lake, definitions: Definitions, what: str) -> Trace:
    """Follow ``what``, an event id or a unit.

    Raises:
        NotFound: neither log nor lake know it.
    """
    traced = trace_events(log, lake, what)
    units = sorted({event.unit for event in traced.events if event.unit is not None})
    if traced.snapshot_id is None or len(units) != 1:
        return traced
    lines = counted_lines(lake, lake.snapshot(traced.snapshot_id), units[0], definitions)
    return msgspec.structs.replace(traced, counted=tuple(lines))
