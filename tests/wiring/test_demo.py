from __future__ import annotations

import doctest
import subprocess
import sys
from pathlib import Path

import pytest

import groundswell

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    home = tmp_path_factory.mktemp("demo")
    command = [sys.executable, "-m", "groundswell", "demo"]
    done = subprocess.run(command, cwd=home, capture_output=True, text=True, timeout=280, check=False)
    return home / "groundswell-demo", done


def test_the_demo_keeps_every_promise_and_says_so(demo: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    _, done = demo

    assert done.returncode == 0, done.stdout + done.stderr
    assert "BROKEN" not in done.stdout
    assert "SAMPLE RATIO MISMATCH" in done.stdout


def test_the_readme_shows_what_the_demo_prints(demo: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    _, done = demo
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    shown = readme.split("`make demo` prints:\n\n```\n")[1].split("\n```")[0]

    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    assert doctest.OutputChecker().check_output(shown + "\n...", done.stdout, flags), done.stdout


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

    assert sum(first.card.units.values()) == 6_000
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
