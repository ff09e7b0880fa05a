"""One port for everything: events, flags, pages and API, composed by path over one installation.

Invariants
    each worker process has its own collector and its own view of definitions and keys; they meet in log and store
    the parent process opens store and log to see that they can be, and holds nothing when a worker starts
    what keeps a worker from starting is one line in the log, without a traceback
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from functools import partial
from pathlib import Path
from typing import Any, Final

import structlog

from groundswell.errors import GroundswellError
from groundswell.log.contract import EVENTS_TOPIC
from groundswell.wiring.layout import Layout

__all__ = ["build_application", "run_server"]

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

METRICS_FOLDER: Final = "metrics"


def run_server(layout: Layout, *, host: str, port: int, workers: int) -> None:
    """Serve until SIGTERM or SIGINT; what was acknowledged is on disk when it returns."""
    from groundswell.collector.server import serve

    _check(layout)
    metrics = layout.root / METRICS_FOLDER
    metrics.mkdir(exist_ok=True)
    load = partial(build_application, str(layout.root))
    serve(load, host=host, port=port, workers=workers, metrics_folder=metrics)


def _check(layout: Layout) -> None:
    """Raise what would keep a worker from starting: said once by the parent, not again and again by workers.

    Raises:
        Unavailable, Corrupt: store or log cannot be used; the message says why.
    """
    from groundswell.wiring.installation import Installation

    with Installation(layout) as installation:
        installation.store.definitions()
        installation.log.ends(EVENTS_TOPIC)


def build_application(root: str) -> Application:
    """Return the ASGI application of the installation at ``root``; ends the process where it cannot be made."""
    try:
        return _compose(root)
    except GroundswellError as error:
        structlog.get_logger(__name__).error("a worker cannot start", error=str(error))
        raise SystemExit(1) from None


def _compose(root: str) -> Application:
    from groundswell.collector.app import PATHS, Collector
    from groundswell.collector.heartbeat import FileLeader, Heartbeat
    from groundswell.web.app import build_app
    from groundswell.wiring.installation import Installation
    from groundswell.wiring.orphans import end_with_parent
    from groundswell.wiring.pages import InstalledPorts

    end_with_parent()
    layout = Layout.find(Path(root))
    installation = Installation(layout)
    ports = InstalledPorts(installation)
    heartbeat = Heartbeat(installation.log, installation.clock, leads=FileLeader(layout.root / "heartbeat.lock"))
    collector = Collector(
        installation.log,
        ports,
        installation.clock,
        metrics_folder=layout.root / METRICS_FOLDER,
        heartbeat=heartbeat,
    )
    pages = build_app(ports, installation.clock)

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan" or scope["path"] in PATHS:
            await collector(scope, receive, send)
        else:
            await pages(scope, receive, send)

    return application
