from __future__ import annotations

from pathlib import Path

import pytest

from groundswell.errors import Corrupt, InvalidInput, NotFound
from groundswell.wiring import open_installation
from groundswell.wiring.layout import Layout


def test_a_missing_folder_is_named_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"no data in .*elsewhere.*--data"):
        open_installation(tmp_path / "elsewhere")


def test_a_folder_with_other_files_is_not_taken_over(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")

    with pytest.raises(InvalidInput, match="must be empty"):
        Layout.create(tmp_path)

    assert (tmp_path / "thesis.txt").read_text() == "mine"


def test_a_folder_of_a_newer_format_is_refused(tmp_path: Path) -> None:
    layout = Layout.create(tmp_path / "data")
    layout.marker.write_text('{"format": 99}')

    with pytest.raises(Corrupt, match="install a newer Groundswell"):
        Layout.find(tmp_path / "data")


def test_an_unreadable_marker_is_corrupt_and_says_which_file(tmp_path: Path) -> None:
    layout = Layout.create(tmp_path / "data")
    layout.marker.write_text("{")

    with pytest.raises(Corrupt, match=r"groundswell\.json is unreadable"):
        Layout.find(tmp_path / "data")


def test_creating_twice_changes_nothing(tmp_path: Path) -> None:
    first = Layout.create(tmp_path / "data")
    before = first.marker.read_bytes()

    assert Layout.create(tmp_path / "data") == first
    assert first.marker.read_bytes() == before
