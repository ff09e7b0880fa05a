"""A server over damaged files ends with one line that says so, and so does a worker."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from groundswell.wiring.installation import Installation
from groundswell.wiring.layout import Layout
from groundswell.wiring.serve import build_application
from groundswell.wiring.up import free_port


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    made = Layout.create(tmp_path / "data")
    with Installation(made) as installation:
        installation.store.definitions()
        installation.log.ends("events")
    return made


@pytest.mark.parametrize("name", ["control.sqlite", "log/manifest.sqlite"])
def test_a_damaged_file_stops_the_server_before_a_worker_starts(layout: Layout, name: str) -> None:
    (layout.root / name).write_bytes(b"not a database" * 1000)

    done = subprocess.run(
        [sys.executable, "-m", "groundswell", "serve", "--port", str(free_port("127.0.0.1")), "--workers", "1"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "GROUNDSWELL_DATA": str(layout.root)},
    )

    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert done.stderr.startswith("error: ")
    assert Path(name).name in done.stderr


def test_a_worker_that_cannot_start_says_why_in_one_line(layout: Layout, capsys: pytest.CaptureFixture[str]) -> None:
    layout.control.write_bytes(b"not a database" * 1000)

    with pytest.raises(SystemExit) as ended:
        build_application(str(layout.root))

    told = capsys.readouterr()
    assert ended.value.code == 1
    assert len((told.out + told.err).strip().splitlines()) == 1
    assert "a worker cannot start" in told.out + told.err
    assert "control.sqlite" in told.out + told.err
