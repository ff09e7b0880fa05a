"""The manual clock and the forgetful disk do what they say."""

from __future__ import annotations

from pathlib import Path

import pytest

from groundswell.errors import InvalidInput
from groundswell.testing.clock import ManualClock
from groundswell.testing.disk import ForgetfulFiles


def left_after(files: ForgetfulFiles, place: Path) -> dict[str, str]:
    files.crash(place)
    return {path.name: path.read_text() for path in place.iterdir()}


def test_time_stands_still_until_told() -> None:
    clock = ManualClock(start_us=5)

    assert (clock.now_us(), clock.monotonic_s()) == (5, 0.0)
    assert (clock.now_us(), clock.monotonic_s()) == (5, 0.0)


def test_sleep_and_advance_move_both_times() -> None:
    clock = ManualClock(start_us=0)

    clock.sleep(1.5)
    clock.advance(0.25)

    assert (clock.now_us(), clock.monotonic_s()) == (1_750_000, 1.75)


def test_a_corrected_wall_clock_leaves_monotonic_time() -> None:
    clock = ManualClock(start_us=1_000_000)
    clock.advance(1)

    clock.set_us(0)

    assert (clock.now_us(), clock.monotonic_s()) == (0, 1.0)


def test_time_does_not_run_backwards() -> None:
    with pytest.raises(InvalidInput, match=r"seconds == -1, must be >= 0; use set_us"):
        ManualClock().advance(-1)


def test_what_was_not_synced_is_gone(tmp_path: Path) -> None:
    folder = tmp_path / "disk"
    folder.mkdir()
    files = ForgetfulFiles(folder)
    (folder / "a").write_text("old")
    files.sync_file(folder / "a")
    files.sync_folder(folder)

    (folder / "a").write_text("new")
    (folder / "b").write_text("unnamed")
    files.sync_file(folder / "b")

    assert left_after(files, tmp_path / "left") == {"a": "old"}


def test_a_rename_counts_once_its_folder_is_synced(tmp_path: Path) -> None:
    folder = tmp_path / "disk"
    folder.mkdir()
    (folder / "name").write_text("old")
    files = ForgetfulFiles(folder)
    (folder / "name.new").write_text("new")
    files.sync_file(folder / "name.new")
    (folder / "name.new").replace(folder / "name")

    before = left_after(files, tmp_path / "before")
    files.sync_folder(folder)

    assert before == {"name": "old"}
    assert left_after(files, tmp_path / "after") == {"name": "new"}


def test_a_name_without_content_is_an_empty_file(tmp_path: Path) -> None:
    folder = tmp_path / "disk"
    folder.mkdir()
    files = ForgetfulFiles(folder)
    (folder / "a").write_text("never synced")
    files.sync_folder(folder)

    assert left_after(files, tmp_path / "left") == {"a": ""}


def test_a_copy_has_everything(tmp_path: Path) -> None:
    folder = tmp_path / "disk"
    folder.mkdir()
    files = ForgetfulFiles(folder)
    (folder / "a").write_text("not synced")

    files.copy(tmp_path / "copy")

    assert (tmp_path / "copy" / "a").read_text() == "not synced"
