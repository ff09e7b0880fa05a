"""A server for the tests, run as a program: FOLDER PORT."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

from groundswell.collector.app import Collector
from groundswell.collector.bodies import Receiver
from groundswell.collector.heartbeat import FileLeader, Heartbeat
from groundswell.collector.server import serve
from groundswell.errors import Unauthorized
from groundswell.log.sqlite import SqliteEventLog
from groundswell.model.clock import SystemClock
from groundswell.model.definitions import Definitions, EventDef, PropertyDef


class FixedControl:
    """One source, one event type."""

    def __init__(self) -> None:
        self._known = Definitions(
            version=1,
            properties={"watch_ms": PropertyDef(type="int"), "title": PropertyDef(type="string")},
            events={"view": EventDef(properties=("watch_ms", "title"))},
        )

    def definitions(self) -> Definitions:
        return self._known

    def resolve_key(self, key: str) -> str:
        if key != "gsw_good":
            raise Unauthorized("write key is unknown")
        return "web"


def load(folder: Path) -> Collector:
    clock = SystemClock()
    log = SqliteEventLog(folder / "log", clock=clock)
    heartbeat = Heartbeat(log, clock, interval_s=0.2, leads=FileLeader(folder / "heartbeat.lock"))
    return Collector(
        log,
        FixedControl(),
        clock,
        metrics_folder=folder / "metrics",
        heartbeat=heartbeat,
        receiver=Receiver(body_s_max=1.0),
    )


if __name__ == "__main__":
    root = Path(sys.argv[1])
    serve(partial(load, root), port=int(sys.argv[2]), workers=2, metrics_folder=root / "metrics")
