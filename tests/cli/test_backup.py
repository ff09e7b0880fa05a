from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

Run = Callable[..., Any]


def test_a_backup_restores_into_another_folder_with_the_same_numbers(run: Run, shop: Path, tmp_path: Path) -> None:
    copy, restored = tmp_path / "shop.tar", tmp_path / "elsewhere" / "data"
    before = json.loads(run("scorecard", "new_checkout", "-o", "json", data=shop).stdout)

    saved = run("backup", copy, data=shop)
    back = run("restore", copy, data=restored)

    assert saved.returncode == 0, saved.stderr
    assert back.returncode == 0, back.stderr
    again = json.loads(run("scorecard", "new_checkout", "-o", "json", data=restored).stdout)
    assert {**again, "computed_at": ""} == {**before, "computed_at": ""}
    audit = run("audit", data=restored)
    assert audit.returncode == 0, audit.stdout


def test_what_was_restored_goes_on(run: Run, shop: Path, tmp_path: Path) -> None:
    copy, restored = tmp_path / "shop.tar", tmp_path / "data"
    run("backup", copy, data=shop)
    run("restore", copy, data=restored)
    more = tmp_path / "more.csv"
    more.write_text("user,variant,day,spent\nnew-1,control,2026-01-07,3\nu1,treatment,2026-01-06,2.5\n")

    done = run("import", "-m", shop.parent / "mapping.yaml", more, data=restored)

    assert done.returncode == 0, done.stderr
    assert run("audit", data=restored).returncode == 0
    again = run("import", "-m", shop.parent / "mapping.yaml", shop.parent / "history.csv", data=restored)
    assert "imported before, nothing to do" in again.stdout


def test_a_backup_never_overwrites_and_a_restore_never_mixes(run: Run, shop: Path, tmp_path: Path) -> None:
    taken = tmp_path / "taken.tar"
    taken.write_text("mine")
    full = tmp_path / "full"
    full.mkdir()
    (full / "thesis.txt").write_text("mine")

    assert run("backup", taken, data=shop).returncode == 2
    assert run("restore", taken, data=tmp_path / "new").returncode == 2
    assert run("restore", taken, data=full).returncode == 2
    assert taken.read_text() == "mine"
    assert (full / "thesis.txt").read_text() == "mine"
