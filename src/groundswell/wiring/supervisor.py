"""Keeps the processes of one installation running: a child that dies is started again, with a bounded back-off.

Invariants
    only processes that it started are ever signalled
    a child is asked to stop before it is killed, so that what it accepted becomes durable
"""

from __future__ import annotations

import http.client
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Final

from groundswell.errors import Unavailable
from groundswell.model.clock import Clock

__all__ = ["Supervisor", "wait_ready"]

BACKOFF_S_MAX: Final = 10.0
HEALTHY_AFTER_S: Final = 30.0  # a child that lived this long starts again at once
STOP_S_MAX: Final = 40.0  # longer than the server gives its workers; draining takes a second or two
POLL_S: Final = 0.2


@dataclass(slots=True)
class _Child:
    name: str
    arguments: Sequence[str]
    output: IO[bytes]
    process: subprocess.Popen[bytes] | None = None
    started_s: float = 0.0
    failures: int = 0
    due_s: float = 0.0


@dataclass(slots=True)
class Supervisor:
    """Runs ``groundswell`` sub-commands as children; each writes to ``<folder>/<name>.log``."""

    folder: Path
    clock: Clock
    environment: Mapping[str, str]
    _children: list[_Child] = field(default_factory=list[_Child])

    def start(self, name: str, arguments: Sequence[str]) -> None:
        """Start ``python -m groundswell <arguments>`` under ``name``."""
        self.folder.mkdir(parents=True, exist_ok=True)
        output = (self.folder / f"{name}.log").open("ab", buffering=0)
        child = _Child(name, arguments, output)
        self._children.append(child)
        self._spawn(child)

    def poll(self) -> list[str]:
        """Start what died and is due again; return the names of those that died since the last call."""
        now_s = self.clock.monotonic_s()
        died: list[str] = []
        for child in self._children:
            if child.process is not None and child.process.poll() is not None:
                died.append(f"{child.name} (exit {child.process.returncode})")
                child.failures = 1 if now_s - child.started_s > HEALTHY_AFTER_S else child.failures + 1
                child.due_s = now_s + min(BACKOFF_S_MAX, 0.25 * 2**child.failures)
                child.process = None
            if child.process is None and now_s >= child.due_s:
                self._spawn(child)
        return died

    def pids(self) -> dict[str, int]:
        """Return the process ids of what runs."""
        return {child.name: child.process.pid for child in self._children if child.process is not None}

    def stop(self) -> None:
        """Ask every child to stop, the first started first, and wait for each."""
        for child in self._children:
            if child.process is not None:
                child.process.terminate()
                try:
                    child.process.wait(STOP_S_MAX)
                except subprocess.TimeoutExpired:
                    child.process.kill()
                    child.process.wait()
            child.output.close()
        self._children.clear()

    def tail(self, name: str, lines: int = 12) -> str:
        """Return the end of a child's log."""
        path = self.folder / f"{name}.log"
        return "\n".join(path.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])

    def _spawn(self, child: _Child) -> None:
        child.started_s = self.clock.monotonic_s()
        child.process = subprocess.Popen(
            [sys.executable, "-m", "groundswell", *child.arguments],
            stdin=subprocess.DEVNULL,
            stdout=child.output,
            stderr=subprocess.STDOUT,
            env=dict(self.environment),
            start_new_session=True,  # Ctrl-C reaches the supervisor alone; it stops the children in order
        )


def wait_ready(host: str, port: int, *, clock: Clock, supervisor: Supervisor, seconds: float = 60.0) -> None:
    """Return when the server at ``host``:``port`` says it is ready.

    Raises:
        Unavailable: it did not within ``seconds``; the message ends with what its log says.
    """
    deadline_s = clock.monotonic_s() + seconds
    while clock.monotonic_s() < deadline_s:
        connection = http.client.HTTPConnection(host, port, timeout=2)
        try:
            connection.request("GET", "/readyz")
            if connection.getresponse().status == 200:
                return
        except (OSError, http.client.HTTPException):
            supervisor.poll()
        finally:
            connection.close()
        clock.sleep(POLL_S)
    msg = f"no answer from http://{host}:{port}/readyz within {seconds:g} s; its log ends:\n{supervisor.tail('serve')}"
    raise Unavailable(msg)
