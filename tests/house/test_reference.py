"""Nothing a user can reach is missing from the docs."""

from __future__ import annotations

from pathlib import Path

import pytest

from groundswell.cli.reference import reference

ROOT = Path(__file__).resolve().parents[2]


def test_the_page_of_commands_is_the_command_line() -> None:
    page = (ROOT / "docs/reference/cli.md").read_text(encoding="utf-8")

    assert page == reference(), "run: python -m groundswell.cli.reference"


def test_every_route_is_documented() -> None:
    from groundswell.web.openapi import openapi_document

    page = (ROOT / "docs/reference/http.md").read_text(encoding="utf-8")
    routes = list(openapi_document()["paths"])

    assert routes
    assert [route for route in routes if route not in page] == []


@pytest.mark.parametrize("folder", ["start", "concepts", "operating", "reference", "internals", "decisions"])
def test_every_page_is_reachable_from_the_index(folder: str) -> None:
    index = (ROOT / "docs/README.md").read_text(encoding="utf-8")
    pages = [path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs" / folder).glob("*.md")]

    assert [page for page in pages if page not in index] == []
