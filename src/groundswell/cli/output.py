"""How the command line speaks: results on stdout, progress and errors on stderr."""

from __future__ import annotations

import sys
from collections.abc import Sequence

__all__ = ["say", "say_error", "say_json", "show_progress", "show_table"]


def say(text: str = "") -> None:
    """Write a line of result."""
    sys.stdout.write(text + "\n")


def say_error(text: str) -> None:
    """Write a line of error."""
    sys.stdout.flush()
    sys.stderr.write(f"error: {text}\n")


def show_progress(text: str) -> None:
    """Write a line that tells how far the work is."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def say_json(value: object) -> None:
    """Write a value as one JSON document."""
    import msgspec

    sys.stdout.write(msgspec.json.format(msgspec.json.encode(value), indent=2).decode() + "\n")


def show_table(columns: Sequence[str], rows: Sequence[Sequence[object]], *, title: str | None = None) -> None:
    """Write a table that fits a terminal and reads well in a file; columns of numbers are aligned right."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False)
    for index, column in enumerate(columns):
        numeric = bool(rows) and all(isinstance(row[index], int | float) for row in rows)
        table.add_column(column, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*("" if cell is None else f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in row))
    console = Console(file=sys.stdout, width=None if sys.stdout.isatty() else 120, highlight=False, markup=False)
    with console.capture() as captured:
        console.print(table)
    sys.stdout.write("\n".join(line.rstrip() for line in captured.get().splitlines() if line.strip()) + "\n")
