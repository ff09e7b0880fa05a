from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from groundswell.errors import Unavailable
from groundswell.wiring.layout import Layout
from groundswell.wiring.up import check_port, free_port, run_up

HOST = "127.0.0.1"
HOLD = """
import fcntl, sys, time
lock = open(sys.argv[1], "ab")
fcntl.flock(lock, fcntl.LOCK_EX)
print("held", flush=True)
time.sleep(60)
"""


def test_a_taken_port_is_said_at_once_and_not_shared() -> None:
    with socket.socket() as holder:
        holder.bind((HOST, 0))
        holder.listen()
        port = holder.getsockname()[1]

        with pytest.raises(Unavailable, match=rf"port {port} of 127\.0\.0\.1 cannot be used: .*--port"):
            check_port(HOST, port)


def test_a_port_that_was_just_left_is_free() -> None:
    check_port(HOST, free_port(HOST))


def test_a_second_up_on_the_same_folder_is_refused_in_one_line(tmp_path: Path) -> None:
    layout = Layout.create(tmp_path / "data")
    command = [sys.executable, "-c", HOLD, str(layout.root / "up.lock")]
    holder = subprocess.Popen(command, stdout=subprocess.PIPE)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(Unavailable, match="another `groundswell up` runs on"):
            run_up(layout, host=HOST, port=0, workers=1, say=lambda _: None)
    finally:
        holder.kill()
        holder.wait()
        if holder.stdout is not None:
            holder.stdout.close()
