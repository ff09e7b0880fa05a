"""Worker processes that share one port and serve an ASGI application, until a signal asks them to stop.

Invariants
    a worker that gets SIGTERM takes no new connections, finishes what it has begun, stops the application and exits
    the parent loads nothing of the application, so that a worker starts from a clean process
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from granian.constants import HTTPModes, Interfaces, Loops
from granian.http import HTTP1Settings
from granian.log import LogLevels
from granian.server import Server

from groundswell import limits

__all__ = ["STOP_S_MAX", "serve"]

STOP_S_MAX: Final = 30  # what waits is appended in far less; a worker that takes longer hangs and is killed
_BACKLOG: Final = 1024
_HEADER_BYTES_MAX: Final = 64 * 1024


def serve(
    load: Callable[[], Any],
    *,
    host: str = "127.0.0.1",
    port: int,
    workers: int = 1,
    metrics_folder: Path | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT.

    Args:
        load: makes the ASGI application. It is called in each worker, so it must be picklable: a function of a module,
            or ``functools.partial`` of one.
        host: address to bind.
        port: port to bind, the same for all workers.
        workers: processes; a core each is best.
        metrics_folder: where workers keep their counts; what an earlier run left there is removed.
    """
    if metrics_folder is not None:
        for path in metrics_folder.glob("*.metrics"):
            path.unlink(missing_ok=True)
    multiprocessing.set_start_method("spawn", force=True)  # a fork would share threads and files of the parent
    server = Server(
        "groundswell",
        address=host,
        port=port,
        interface=Interfaces.ASGI,
        workers=workers,
        loop=Loops.uvloop,
        http=HTTPModes.http1,
        websockets=False,
        backlog=_BACKLOG,
        backpressure=_BACKLOG,
        http1_settings=HTTP1Settings(
            header_read_timeout=round(limits.body_receive_s_max * 1000),
            max_buffer_size=_HEADER_BYTES_MAX * 8,
            pipeline_flush=False,
        ),
        log_level=LogLevels.warning,
        workers_kill_timeout=STOP_S_MAX,
        respawn_failed_workers=True,
    )
    server.serve(target_loader=load, wrap_loader=False)
