"""Every command, assembled. Nothing heavy is imported here: a command imports what it needs when it runs."""

from __future__ import annotations

import typer

from groundswell import __version__
from groundswell.cli import data, definitions, run, scorecards
from groundswell.cli.output import say

__all__ = ["build"]


def _version(asked: bool) -> None:
    if asked:
        say(f"groundswell {__version__}")
        raise typer.Exit


def build() -> typer.Typer:
    """Return the whole command line."""
    app = typer.Typer(
        name="groundswell",
        help="Experiments and ads data, exactly once, from one event to a number you can trust.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )

    @app.callback()
    def start(
        version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Show the version."),
    ) -> None:
        del version

    for room in (run, definitions, data, scorecards):
        room.register(app)
    return app
