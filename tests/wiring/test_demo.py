from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import groundswell

PEOPLE = "2000"


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    folder = tmp_path_factory.mktemp("demo") / "groundswell-demo"
    command = [sys.executable, "-m", "groundswell", "demo", "--folder", str(folder), "--people", PEOPLE]
    return folder, subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)


def test_the_demo_keeps_every_promise_and_says_so(demo: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    _, done = demo

    assert done.returncode == 0, done.stdout + done.stderr
    assert "BROKEN" not in done.stdout
    assert done.stdout.count("kept") >= 6
    assert "SAMPLE RATIO MISMATCH" in done.stdout


def test_what_the_demo_leaves_can_be_opened_and_recomputed(
    demo: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    folder, _ = demo

    with groundswell.open(folder / "data") as installation:
        first = installation.scorecard("new_checkout")
        again = installation.scorecard(
            "new_checkout",
            snapshot_id=first.card.snapshot_id,
            definitions_version=first.card.definitions_version,
        )

    assert first.card.units["control"] + first.card.units["treatment"] == int(PEOPLE)
    left, right = first.to_dict(), again.to_dict()
    left.pop("computed_at")
    right.pop("computed_at")
    assert left == right
    assert "new_checkout" in first.to_html()


def test_a_demo_does_not_clear_a_folder_that_it_did_not_make(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")

    done = subprocess.run(
        [sys.executable, "-m", "groundswell", "demo", "--folder", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 2
    assert done.stderr.startswith("error: --folder ==")
    assert "Traceback" not in done.stderr
    assert (tmp_path / "thesis.txt").exists()
