"""Console blocks are executed: every ``$`` line of a page runs in one fresh folder and prints what the page shows.

``...`` stands for what differs from run to run.
"""

from __future__ import annotations

import doctest
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BLOCK = re.compile(r"^```console\n(.*?)^```", re.DOTALL | re.MULTILINE)
PAGES = [
    page
    for page in sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
    if any("$ groundswell" in block for block in BLOCK.findall(page.read_text(encoding="utf-8")))
]
SKIPPED = ("groundswell demo", "groundswell up")  # the demo has its own test; up does not end by itself
NEEDS_DATA = "../shared/data"


def _steps(page: Path) -> list[tuple[str, str]]:
    steps: list[tuple[str, str]] = []
    for block in BLOCK.findall(page.read_text(encoding="utf-8")):
        for line in block.splitlines():
            if line.startswith("$ "):
                steps.append((line[2:], ""))
            elif steps and line.startswith("> "):  # a continued command
                steps[-1] = (steps[-1][0] + "\n" + line[2:], "")
            elif steps:
                steps[-1] = (steps[-1][0], steps[-1][1] + line + "\n")
    return [(command, shown) for command, shown in steps if not command.startswith(SKIPPED)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_page_s_commands_print_what_it_shows(page: Path, tmp_path: Path) -> None:
    steps = _steps(page)
    if any(NEEDS_DATA in command for command, _ in steps) and not (ROOT / NEEDS_DATA).exists():
        pytest.skip("the page reads real data that is not on this machine")
    shutil.copytree(ROOT / "examples", tmp_path / "main" / "examples")
    if (ROOT / NEEDS_DATA).exists():
        (tmp_path / "shared").symlink_to((ROOT / "../shared").resolve())
    binaries = tmp_path / "bin"
    binaries.mkdir()
    program = binaries / "groundswell"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m groundswell "$@"\n')
    program.chmod(0o755)
    environment = {**os.environ, "PATH": f"{binaries}:{os.environ['PATH']}", "COLUMNS": "120"}

    checker = doctest.OutputChecker()
    for command, shown in steps:
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=tmp_path / "main",
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        printed = done.stdout + done.stderr
        if shown.strip():
            assert checker.check_output(shown, printed, doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE), (
                f"$ {command}\nthe page shows:\n{shown}\nthe program printed:\n{printed}"
            )
        else:
            assert done.returncode == 0, f"$ {command}\n{printed}"
