"""How the command line speaks: results on stdout, progress and errors on stderr.

Invariants
    no text from outside reaches a terminal as a command: in tables, ``say_line``, progress and errors control
    characters and those that change the direction of writing are shown as escapes; JSON stays as it is
"""

from __future__ import annotations

import sys
import unicodedata
from collections.abc import Sequence
from typing import Final

__all__ = ["choose", "harmless", "say", "say_error", "say_json", "say_line", "show_progress", "show_table"]

_DIRECTIONS: Final = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_BYTE_MAX: Final = 0xFF


def harmless(text: str, *, lines: bool = False) -> str:
    """Return ``text`` with what a terminal would obey written as escapes; with ``lines`` line ends and tabs stay."""
    if text.isascii() and text.isprintable():
        return text
    kept = "\n\t" if lines else ""
    return "".join(_escaped(one) if one not in kept and _obeyed(one) else one for one in text)


def _obeyed(character: str) -> bool:
    """Say whether a terminal does something at ``character`` other than showing it."""
    return unicodedata.category(character) in {"Cc", "Cs", "Zl", "Zp"} or character in _DIRECTIONS


def _escaped(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code <= _BYTE_MAX else f"\\u{code:04x}"


def say(text: str = "") -> None:
    """Write a result that holds nothing from outside: a line, or a document made here."""
    sys.stdout.write(text + "\n")


def say_line(text: str) -> None:
    """Write a line of result that may hold text from outside; it stays one line."""
    say(harmless(text))


def say_error(text: str) -> None:
    """Write a line of error."""
    sys.stdout.flush()
    sys.stderr.write(f"error: {harmless(text, lines=True)}\n")


def show_progress(text: str) -> None:
    """Write a line that tells how far the work is."""
    sys.stderr.write(harmless(text, lines=True) + "\n")
    sys.stderr.flush()


def choose(output: str, *known: str) -> None:
    """Raise ``InvalidInput`` where ``output`` is not one of the forms that a command has."""
    if output not in known:
        from groundswell.errors import InvalidInput

        raise InvalidInput("--output", output, f"must be {', '.join(known[:-1])} or {known[-1]}")


def say_json(value: object) -> None:
    """Write a value as one JSON document."""
    import msgspec

    sys.stdout.write(msgspec.json.format(msgspec.json.encode(value), indent=2).decode() + "\n")


def _cell(value: object) -> str:
    if value is None:
        return ""
    return f"{value:,}" if isinstance(value, int) else harmless(str(value))


def show_table(columns: Sequence[str], rows: Sequence[Sequence[object]], *, title: str | None = None) -> None:
    """Write a table that fits a terminal and reads well in a file; columns of numbers are aligned right."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False)
    for index, column in enumerate(columns):
        numeric = bool(rows) and all(isinstance(row[index], int | float) for row in rows)
        table.add_column(harmless(column), justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*map(_cell, row))
    console = Console(file=sys.stdout, width=None if sys.stdout.isatty() else 120, highlight=False, markup=False)
    with console.capture() as captured:
        console.print(table)
    sys.stdout.write("\n".join(line.rstrip() for line in captured.get().splitlines() if line.strip()) + "\n")
