"""The commands, as a user types them."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from groundswell.cli import definitions
from groundswell.errors import Conflict, InvalidDefinitions, InvalidInput, NotFound
from groundswell.store import Manifest
from groundswell.store.schema import schema_text

Run = Callable[..., str]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command on a data folder of its own; return what it printed, or let its error through."""
    monkeypatch.setenv("GROUNDSWELL_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("LOGNAME", "ada")
    app = typer.Typer()
    definitions.register(app)

    def run(*arguments: str | Path) -> str:
        result = CliRunner().invoke(app, [str(one) for one in arguments], catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return result.stdout

    return run


@pytest.fixture
def file(tmp_path: Path, example: str) -> Path:
    path = tmp_path / "shop.yaml"
    path.write_text(example)
    return path


def test_apply_shows_what_changes_and_the_version(run: Run, file: Path) -> None:
    first = run("apply", "-f", file).splitlines()
    second = run("apply", "-f", file).splitlines()

    assert first[0] == "+ property revenue"
    assert first[-1] == "applied as version 1"
    assert second == ["nothing to change; version 1 stands"]


def test_a_dry_run_leaves_nothing_behind(run: Run, file: Path, tmp_path: Path) -> None:
    shown = run("apply", "-f", file, "--dry-run").splitlines()

    assert shown[-1] == "dry run: nothing was applied; version 0 stands"
    assert not (tmp_path / "data").exists()
    assert run("apply", "-f", file).splitlines()[:-1] == shown[:-1]
    file.write_text("events: {view: }")
    assert run("apply", "-f", file, "--dry-run") == "+ event view\ndry run: nothing was applied; version 1 stands\n"
    assert "view" not in run("get")


def test_apply_reads_folders_files_and_stdin(run: Run, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = file.parent / "more"
    other.mkdir()
    (other / "views.yaml").write_text("events: {view: }")

    assert "+ event view" in run("apply", "-f", file, "-f", other)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"events: {like: }")))
    assert definitions_from_stdin() == [("event", "like")]
    with pytest.raises(InvalidInput, match="must stand alone"):
        run("apply", "-f", "-", "-f", file)


def definitions_from_stdin() -> list[tuple[str, str]]:
    manifest = getattr(definitions, "_manifest")([Path("-")])  # noqa: B009 - a private name
    assert isinstance(manifest, Manifest)
    return list(manifest.declared)


def test_what_get_prints_can_be_applied_again(run: Run, file: Path, tmp_path: Path) -> None:
    run("apply", "-f", file)
    printed = run("get")
    (tmp_path / "again.yaml").write_text(printed)

    assert run("apply", "-f", tmp_path / "again.yaml") == "nothing to change; version 1 stands\n"
    assert run("apply", "-d", tmp_path / "elsewhere", "-f", tmp_path / "again.yaml").endswith("applied as version 1\n")
    assert run("get", "-d", tmp_path / "elsewhere") == printed


@pytest.mark.parametrize(
    "arguments", [("metric", "buyers"), ("metrics", "buyers"), ("metric/buyers",), ("metrics/buyers",)]
)
def test_get_shows_one_object(run: Run, file: Path, arguments: tuple[str, ...]) -> None:
    run("apply", "-f", file)

    assert run("get", *arguments) == "metrics:\n  buyers: {type: conversion, event: purchase, window: 7d}\n"
    assert json.loads(run("get", *arguments, "-o", "json")) == {
        "metrics": {"buyers": {"type": "conversion", "event": "purchase", "window": "7d"}}
    }


def test_get_shows_a_past_version_and_an_empty_section(run: Run, file: Path) -> None:
    run("apply", "-f", file)
    run("delete", "property", "watch_ms")

    assert "watch_ms: int" in run("get", "properties", "--version", "1")
    assert "watch_ms" not in run("get", "properties")
    run("delete", "source/web")
    assert run("get", "sources") == ""


def test_what_is_not_there_is_told_with_the_nearest(run: Run, file: Path) -> None:
    with pytest.raises(NotFound):
        run("get")
    run("apply", "-f", file)

    with pytest.raises(NotFound, match="no metric buyer in version 1; did you mean buyers"):
        run("get", "metric", "buyer")
    with pytest.raises(InvalidInput, match="did you mean metric"):
        run("get", "metrik")
    with pytest.raises(InvalidInput, match="must be yaml or json"):
        run("get", "-o", "xml")
    with pytest.raises(InvalidInput, match="twice"):
        run("get", "metric/buyers", "buyers")
    with pytest.raises(InvalidInput, match="NAME == None, must be given"):
        run("delete", "metric")
    with pytest.raises(NotFound, match="the newest is 1"):
        run("get", "--version", "2")


def test_delete_refuses_what_is_needed_and_says_by_whom(run: Run, file: Path) -> None:
    run("apply", "-f", file)

    with pytest.raises(Conflict, match=r"needed by experiments\.new_checkout"):
        run("delete", "metric", "buyers")

    assert run("delete", "experiment", "new_checkout") == "- experiment new_checkout\napplied as version 2\n"
    assert run("delete", "metric", "buyers").endswith("applied as version 3\n")


def test_history_tells_who_and_when(run: Run, file: Path) -> None:
    run("apply", "-f", file, "--by", "bob")
    file.write_text("metrics: {buyers: {type: conversion, event: purchase, window: 14d}}")
    run("apply", "-f", file, "--expect", "1")

    trail = json.loads(run("history", "-o", "json"))
    history = json.loads(run("history", "metric", "buyers", "-o", "json"))

    assert [(one["by"], one["action"], one["name"], one["version"]) for one in trail[-2:]] == [
        ("bob", "added", "web", 1),
        ("ada", "changed", "buyers", 2),
    ]
    assert [(one["revision"], one["by"], one["changes"]) for one in history] == [
        (1, "bob", "type: conversion; event: purchase; window: 7d"),
        (2, "ada", "window: 7d -> 14d"),
    ]
    assert "window: 7d -> 14d" in run("history", "metric/buyers")
    with pytest.raises(Conflict, match="version 2, not 1"):
        run("apply", "-f", file, "--expect", "1")


def test_errors_name_file_and_line(run: Run, file: Path) -> None:
    file.write_text("metrics:\n  m: {type: mean, event: view}\n")

    with pytest.raises(InvalidDefinitions) as caught:
        run("apply", "-f", file)

    assert str(caught.value) == (
        f"{file}:2: metrics.m.event == 'view', must be a defined event; define it under events"
    )


def test_the_schema_is_printed_and_checked(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "schema.json"
    path.write_text(run("schema"))

    assert path.read_text() == schema_text()
    assert run("schema", "--check", path) == f"{path} is up to date\n"
    path.write_text("{}")
    with pytest.raises(Conflict, match="run: groundswell schema >"):
        run("schema", "--check", path)
    with pytest.raises(InvalidInput, match="cannot be read"):
        run("schema", "--check", tmp_path / "nowhere.json")


def test_keys_are_shown_once_and_listed_without_secrets(run: Run, file: Path) -> None:
    run("apply", "-f", file)
    key = run("keys", "create", "web").strip()

    listed = json.loads(run("keys", "list", "-o", "json"))
    assert [(one["key"], one["source"], one["by"], one["revoked"]) for one in listed] == [
        (key[:12], "web", "ada", None)
    ]
    assert key not in run("keys", "list")
    assert run("keys", "revoke", key[:12], "--by", "bob") == f"revoked {key[:12]} of source web\n"
    assert json.loads(run("keys", "list", "-o", "json"))[0]["revoked by"] == "bob"
    with pytest.raises(NotFound, match="no source nowhere"):
        run("keys", "create", "nowhere")
