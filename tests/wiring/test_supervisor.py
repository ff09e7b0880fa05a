from __future__ import annotations

import os
import signal
from pathlib import Path

from groundswell.model.clock import SystemClock
from groundswell.wiring.layout import Layout
from groundswell.wiring.supervisor import Supervisor, wait_ready
from groundswell.wiring.up import free_port, start_children


def _wait(clock: SystemClock, seconds: float, until: object) -> bool:
    assert callable(until)
    end_s = clock.monotonic_s() + seconds
    while clock.monotonic_s() < end_s:
        if until():
            return True
        clock.sleep(0.1)
    return False


def test_a_child_that_dies_is_started_again_and_named(tmp_path: Path) -> None:
    clock = SystemClock()
    supervisor = Supervisor(tmp_path, clock, dict(os.environ))
    supervisor.start("version", ["--version"])
    died: list[str] = []

    try:
        again = _wait(clock, 20, lambda: died.extend(supervisor.poll()) or len(died) >= 2)
    finally:
        supervisor.stop()

    assert again
    assert died[0] == "version (exit 0)"
    assert supervisor.tail("version").count("groundswell 0.") >= 2


def test_a_killed_server_and_a_killed_ingest_come_back(tmp_path: Path) -> None:
    layout = Layout.create(tmp_path / "data")
    port = free_port("127.0.0.1")
    supervisor = start_children(layout, host="127.0.0.1", port=port, workers=1)
    try:
        wait_ready("127.0.0.1", port, clock=supervisor.clock, supervisor=supervisor)
        before = supervisor.pids()
        for pid in before.values():
            os.kill(pid, signal.SIGKILL)  # the parent alone: its workers must not stay on the port

        def revived() -> bool:
            supervisor.poll()
            now = supervisor.pids()
            return now.keys() == before.keys() and all(now[name] != before[name] for name in now)

        assert _wait(SystemClock(), 30, revived)
        wait_ready("127.0.0.1", port, clock=supervisor.clock, supervisor=supervisor)
    finally:
        supervisor.stop()
