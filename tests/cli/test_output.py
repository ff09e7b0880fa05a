"""Text from outside reaches a terminal as text."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from groundswell.cli.output import harmless, say_error, say_json, say_line, show_table

Run = Callable[..., Any]
HOSTILE = "\x1b]0;owned\x07\x9b31m\u202egnp.exe\u2066\nerror: forged\rover"
OBEYED = frozenset("\x1b\x07\x9b\u202e\u2066\r")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("größer 大きい 👍🏽", "größer 大きい 👍🏽"),
        ("\x1b[2J", r"\x1b[2J"),
        ("\x9b2J", r"\x9b2J"),
        ("a\nb\tc\rd\x7f", r"a\x0ab\x09c\x0dd\x7f"),
        ("\u202eabc\u2069", r"\u202eabc\u2069"),
        ("a\u2028b\u200f", r"a\u2028b\u200f"),
        ("\ud800", r"\ud800"),
    ],
)
def test_what_a_terminal_would_obey_is_shown_as_an_escape(text: str, shown: str) -> None:
    assert harmless(text) == shown


def test_a_line_stays_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    say_line(HOSTILE)

    out = capsys.readouterr().out
    assert out.count("\n") == 1
    assert OBEYED.isdisjoint(out)


def test_a_cell_neither_commands_nor_breaks_its_row(capsys: pytest.CaptureFixture[str]) -> None:
    show_table((HOSTILE, "n"), [(HOSTILE, 1)])

    out = capsys.readouterr().out
    assert OBEYED.isdisjoint(out)
    assert not any(line.startswith("error: forged") for line in out.splitlines())


def test_an_error_that_repeats_what_it_was_given_does_not_command(capsys: pytest.CaptureFixture[str]) -> None:
    say_error(HOSTILE)

    assert OBEYED.isdisjoint(capsys.readouterr().err)


def test_json_stays_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    say_json({"text": HOSTILE})

    assert json.loads(capsys.readouterr().out) == {"text": HOSTILE}


def test_a_hostile_dead_letter_is_listed_and_shown_without_a_command(run: Run, shop: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(shop, data)
    mapping = tmp_path / "mapping.yaml"
    mapping.write_text((shop.parent / "mapping.yaml").read_text().replace("type: purchase", "type: {column: kind}"))
    (tmp_path / "rows.csv").write_text(
        "user,variant,day,spent,kind\nu\u202e1,control,2026-01-06,5,\x1b]0;x\x07\x9bgift\n"
    )
    assert run("import", "-m", mapping, tmp_path / "rows.csv", data=data).returncode == 0
    listing = json.loads(run("dead-letters", "list", "--reason", "unknown_type", "-o", "json", data=data).stdout)
    (letter,) = listing["letters"]

    listed = run("dead-letters", "list", data=data).stdout
    shown = run("dead-letters", "show", letter["id"], data=data).stdout
    asked = run("sql", "select chr(27) || chr(8238) as x from events limit 3", data=data).stdout

    assert letter["type"] == "\x1b]0;x\x07\x9bgift"
    assert r"\x1b" in listed
    assert r"\x1b\u202e" in asked
    assert OBEYED.isdisjoint(listed + shown + asked)
