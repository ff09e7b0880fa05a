"""``demo``, ``up``, ``serve``, ``ingest``, ``warm``: what runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from groundswell.cli.context import Data, opened
from groundswell.cli.output import say, show_progress

__all__ = ["register"]

Host = Annotated[str, typer.Option("--host", help="Address to listen on.")]
Workers = Annotated[int, typer.Option("--workers", help="Server processes; one a core is best.", min=1)]
Port = Annotated[int, typer.Option("--port", help="Port to listen on; 0 takes a free one.", min=0, max=65535)]


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    app.command("demo")(_demo)
    app.command("up")(_up)
    app.command("serve")(_serve)
    app.command("ingest")(_ingest)
    app.command("simulate")(_simulate)
    app.command("warm", hidden=True)(_warm)


def _demo(
    folder: Annotated[Path, typer.Option("--folder", help="Where the demo leaves its files.")] = Path(
        "groundswell-demo"
    ),
    people: Annotated[int, typer.Option("--people", help="How many people the world has.", min=100)] = 6_000,
    seed: Annotated[int, typer.Option("--seed", help="Decides everything that happens.")] = 7,
) -> None:
    """Run a small world for real and show each result beside the truth it was made with."""
    from groundswell.wiring.demo import run_demo

    run_demo(folder, people=people, seed=seed, say=say, progress=show_progress)


def _up(data: Data = None, host: Host = "127.0.0.1", port: Port = 8080, workers: Workers = 2) -> None:
    """Keep everything running: collector, flags, pages, ingest and upkeep. Ctrl-C stops it in order."""
    from groundswell.wiring.up import run_up

    with opened(data, create=True) as installation:
        run_up(installation.layout, host=host, port=port, workers=workers, say=show_progress)


def _serve(data: Data = None, host: Host = "127.0.0.1", port: Port = 8080, workers: Workers = 2) -> None:
    """Serve events, flags, pages and the API over HTTP (`up` runs this and `ingest` together)."""
    from groundswell.wiring.serve import run_server

    with opened(data, create=True) as installation:
        layout = installation.layout
    run_server(layout, host=host, port=port, workers=workers)


def _ingest(
    data: Data = None,
    once: Annotated[bool, typer.Option("--once", help="Stop when everything in the log is in the lake.")] = False,
    workers: Annotated[int, typer.Option("--workers", help="Worker threads.", min=1)] = 2,
) -> None:
    """Bring what the log holds into the lake, exactly once."""
    from groundswell.wiring.ingesting import run_ingest

    with opened(data) as installation:
        run_ingest(installation.ingest_rooms(), once=once, workers=workers, say=show_progress)


def _simulate(
    seed: Annotated[int, typer.Option("--seed", help="Decides clients, faults and their order.")] = 1,
    runs: Annotated[int, typer.Option("--runs", help="How many seeds, from --seed up.", min=1)] = 1,
) -> None:
    """Run the pipeline under seeded faults and hold it against its own ledger."""
    from groundswell.simulate.faults import run_seed

    for number in range(seed, seed + runs):
        say(run_seed(number))


def _warm() -> None:
    """Compile kernels once, so that later starts are quick."""
    from groundswell.wiring.warming import warm

    warm()
