"""Writes docs/reference/cli.md from the command line itself; ``--check`` fails where the page is out of date."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Final

import typer

from groundswell.cli.app import build
from groundswell.cli.output import say, say_error

__all__ = ["main", "reference"]

PAGE: Final = Path("docs/reference/cli.md")
HEAD: Final = """# Command line

Written by `python -m groundswell.cli.reference`; do not edit.

Every command takes `--help`. Exit codes: 0 done, 1 a promise is broken (`demo`, `simulate`; `audit` has its own),
2 bad input or usage, 3 try again later, 70 a bug, 130 interrupted.
"""


def reference() -> str:
    """Return the page."""
    root: Any = typer.main.get_command(build())
    return "\n".join([HEAD, *_commands(root, "groundswell")]).rstrip() + "\n"


def _commands(group: Any, path: str) -> list[str]:
    lines: list[str] = []
    for name, command in sorted(group.commands.items()):
        if command.hidden:
            continue
        full = f"{path} {name}"
        if hasattr(command, "commands"):
            lines.extend(_commands(command, full))
        else:
            lines.extend(_one(command, full))
    return lines


def _one(command: Any, full: str) -> list[str]:
    arguments = [parameter for parameter in command.params if parameter.param_type_name == "argument"]
    options = [parameter for parameter in command.params if parameter.param_type_name == "option"]
    usage = " ".join([full, *(_argument(argument) for argument in arguments)])
    lines = [f"## {full}", "", f"`{usage}`", "", " ".join((command.help or "").split()), ""]
    rows = [_option(option) for option in options if option.name != "help" and not option.hidden]
    if rows:
        lines += ["| option | meaning |", "|---|---|", *rows, ""]
    return lines


def _argument(argument: Any) -> str:
    shown = argument.metavar or argument.name.upper()
    return shown if argument.required else f"[{shown}]"


def _option(option: Any) -> str:
    names = ", ".join(f"`{name}`" for name in option.opts)
    default = option.default
    shown = "" if default in (None, False, ()) or callable(default) else f" Default: `{default}`."
    return f"| {names} | {option.help or ''}{shown} |"


def main() -> None:
    """Write the page, or with ``--check`` compare it."""
    text = reference()
    if "--check" in sys.argv[1:]:
        if not PAGE.exists() or PAGE.read_text(encoding="utf-8") != text:
            say_error(f"{PAGE} is out of date; run: python -m groundswell.cli.reference")
            sys.exit(1)
        return
    PAGE.write_text(text, encoding="utf-8")
    say(f"wrote {PAGE}")


if __name__ == "__main__":
    main()
