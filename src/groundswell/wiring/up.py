"""``groundswell up``: server and ingest of one installation as supervised children."""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import threading
from collections.abc import Callable
from typing import IO, Final

from groundswell.errors import Unavailable
from groundswell.model.clock import SystemClock
from groundswell.wiring.layout import DATA_VARIABLE, Layout
from groundswell.wiring.supervisor import Supervisor, wait_ready

__all__ = ["check_port", "free_port", "run_up", "start_children"]

POLL_S: Final = 0.5


def run_up(layout: Layout, *, host: str, port: int, workers: int, say: Callable[[str], None]) -> None:
    """Run until a signal asks to stop."""
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    port = port or free_port(host)
    check_port(host, port)
    alone = _only_one(layout)
    supervisor = start_children(layout, host=host, port=port, workers=workers)
    try:
        wait_ready(host, port, clock=supervisor.clock, supervisor=supervisor)
        say(f"pages      http://{host}:{port}/")
        say(f"events     POST http://{host}:{port}/v1/events")
        say(f"flags      POST http://{host}:{port}/ofrep/v1/evaluate/flags")
        say(f"data       {layout.root}")
        say("Ctrl-C stops it.")
        while not stopping.wait(POLL_S):
            for died in supervisor.poll():
                say(f"{died} stopped and is started again")
    finally:
        supervisor.stop()
        alone.close()
    say("stopped: everything that was acknowledged is on disk")


def check_port(host: str, port: int) -> None:
    """Raise ``Unavailable`` where another program has the port: workers share a port, so they would not notice."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a port that was just left is free
        try:
            listener.bind((host, port))
        except OSError as error:
            msg = f"port {port} of {host} cannot be used: {error.strerror}; name another with --port"
            raise Unavailable(msg) from None


def _only_one(layout: Layout) -> IO[bytes]:
    """Hold the folder's lock until it is closed. Raise ``Unavailable`` where another `up` has it."""
    lock = (layout.root / "up.lock").open("ab")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.close()
        msg = f"another `groundswell up` runs on {layout.root}; stop it first, or name another folder with --data"
        raise Unavailable(msg) from None
    return lock


def start_children(layout: Layout, *, host: str, port: int, workers: int = 2) -> Supervisor:
    """Start the server and ingest of an installation."""
    supervisor = Supervisor(layout.root / "logs", SystemClock(), {**os.environ, DATA_VARIABLE: str(layout.root)})
    supervisor.start("serve", ["serve", "--host", host, "--port", str(port), "--workers", str(workers)])
    supervisor.start("ingest", ["ingest"])
    return supervisor


def free_port(host: str) -> int:
    """Return a port that is free now."""
    with socket.socket() as listener:
        listener.bind((host, 0))
        return int(listener.getsockname()[1])
