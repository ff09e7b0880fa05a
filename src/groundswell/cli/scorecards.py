"""``scorecard``, ``scorecards``, ``export``: reading experiments."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from groundswell.cli.context import Data, opened, who
from groundswell.cli.output import choose, say, show_table
from groundswell.errors import InvalidInput, NotFound

__all__ = ["register"]

Experiment = Annotated[str, typer.Argument(help="Name of the experiment.")]
SnapshotId = Annotated[
    int | None, typer.Option("--snapshot", help="Compute on this snapshot (default: the newest).", show_default=False)
]
Version = Annotated[
    int | None,
    typer.Option("--definitions", help="Use this version of the definitions (default: today's).", show_default=False),
]


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    app.command("scorecard")(_scorecard)
    app.command("scorecards")(_scorecards)
    app.command("export")(_export)


def _scorecard(
    experiment: Experiment,
    data: Data = None,
    snapshot: SnapshotId = None,
    definitions: Version = None,
    against: Annotated[
        int | None,
        typer.Option("--against", help="Explain what changed since this snapshot.", show_default=False),
    ] = None,
    output: Annotated[str, typer.Option("--output", "-o", help="text, json or html.")] = "text",
    publish: Annotated[
        bool, typer.Option("--publish", help="Keep it: moments, definitions, and the snapshot for 400 days.")
    ] = False,
) -> None:
    """Show an experiment: sample ratio first, then each metric with its intervals."""
    choose(output, "text", "json", "html")
    if against is not None and output != "text":
        raise InvalidInput("--output", output, "must be text with --against")
    with opened(data) as installation:
        if against is not None:
            from groundswell.experiments.explain import explanation_text

            explained = installation.explain(experiment, against=against, snapshot_id=snapshot)
            say(explanation_text(explained))
            return
        if publish:
            if definitions is not None:
                raise InvalidInput(
                    "--definitions", definitions, "cannot go with --publish: what is published is today's"
                )
            shown, number = installation.publish(experiment, by=who(), snapshot_id=snapshot)
        else:
            shown = installation.scorecard(experiment, snapshot_id=snapshot, definitions_version=definitions)
            number = None
        if output == "json":
            say(shown.to_json().decode())
        elif output == "html":
            say(shown.to_html())
        else:
            say(repr(shown))
            if number is not None:
                say(f"published as number {number}")


def _scorecards(experiment: Experiment, data: Data = None) -> None:
    """List an experiment's published scorecards."""
    from groundswell.model.clock import format_us

    with opened(data) as installation:
        if not installation.store.history("experiment", experiment):
            msg = f"experiment == {experiment!r}, was never defined; `groundswell get experiment` lists what is"
            raise NotFound(msg)
        published = installation.store.scorecards(experiment)
        show_table(
            ("number", "snapshot", "definitions", "as of", "published", "by", "kept until"),
            [
                (
                    one.scorecard_id,
                    str(one.snapshot_id),
                    one.definitions_version,
                    format_us(one.as_of_us),
                    format_us(one.published_at_us),
                    one.published_by,
                    format_us(one.keep_until_us),
                )
                for one in published
            ],
        )


def _export(
    experiment: Experiment,
    to: Annotated[Path, typer.Option("--to", help="Folder for the Parquet files; made if missing.")],
    data: Data = None,
    snapshot: SnapshotId = None,
) -> None:
    """Write an experiment's moments and its per-unit table as Parquet files."""
    with opened(data) as installation:
        for path in installation.export(experiment, to, snapshot_id=snapshot):
            say(str(path))
