"""``import``, ``sql``, ``trace``, ``dead-letters``, ``audit``, ``backup``, ``restore``: the data itself."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from groundswell.cli.context import Data, opened
from groundswell.cli.output import choose, say, say_json, say_line, show_progress, show_table
from groundswell.errors import InvalidInput

if TYPE_CHECKING:
    from groundswell.ingest.dead_letters import Letter
    from groundswell.ingest.importer import ImportProgress

__all__ = ["register"]

AUDIT_EXIT = 10  # apart from the codes that every command has

Output = Annotated[str, typer.Option("--output", "-o", help="text or json.")]
Reason = Annotated[str | None, typer.Option("--reason", help="Only this reason.", show_default=False)]
Source = Annotated[str | None, typer.Option("--source", help="Only this source.", show_default=False)]


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    app.command("import")(_import)
    app.command("sql")(_sql)
    app.command("trace")(_trace)
    app.command("audit")(_audit)
    app.command("backup")(_backup)
    app.command("restore")(_restore)
    letters = typer.Typer(help="Events that wait for a fix.", no_args_is_help=True, rich_markup_mode=None)
    letters.command("list")(_letters_list)
    letters.command("show")(_letters_show)
    letters.command("replay")(_letters_replay)
    app.add_typer(letters, name="dead-letters")


def _import(
    files: Annotated[list[Path], typer.Argument(help="CSV, TSV, JSON lines or Parquet files, also .gz and .zst.")],
    mapping: Annotated[Path, typer.Option("--mapping", "-m", help="What a row means, as a YAML file.")],
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="A parameter of the mapping, NAME=VALUE; repeatable.", show_default=False),
    ] = None,
    data: Data = None,
    ingest: Annotated[bool, typer.Option("--ingest/--no-ingest", help="Bring it into the lake at once.")] = True,
    processes: Annotated[int, typer.Option("--processes", help="Decoding processes; 0 chooses.", min=0)] = 0,
) -> None:
    """Bring files in through the same log and ingest as live events. Doing it again changes nothing."""
    from groundswell.ingest.importer import FileImporter
    from groundswell.ingest.mapping import load_mapping

    parameters = dict(_pair(setting) for setting in settings or [])
    with opened(data) as installation:
        meaning = load_mapping(mapping, parameters)
        importer = FileImporter(
            installation.log,
            installation.store,
            installation.store.definitions(),
            clock=installation.clock,
            faults=installation.faults,
            processes=processes,
        )
        for file in files:
            report = importer.run(file, meaning, told=lambda progress, name=file.name: _told(name, progress))
            whole = report.progress
            say(
                f"{file.name}: imported before, nothing to do"
                if report.already
                else f"{file.name}: {whole.rows:,} rows, {whole.accepted:,} events accepted "
                f"({whole.dead_lettered:,} of them dead letters), {whole.refused:,} refused"
            )
            for fault in report.faults:
                show_progress(f"  row {fault.row}: {fault.message}")
        if ingest:
            installation.ingest().drain()
            say("everything is in the lake")


def _pair(setting: str) -> tuple[str, str]:
    name, equals, value = setting.partition("=")
    if not name or not equals:
        raise InvalidInput("--set", setting, "must be NAME=VALUE", next_step="write --set policy=random")
    return name, value


def _told(name: str, progress: ImportProgress) -> None:
    show_progress(f"  {name}: {progress.rows:,} rows")


def _sql(
    text: Annotated[str, typer.Argument(help="A read-only query; the table is `events`.")],
    data: Data = None,
    snapshot: Annotated[int | None, typer.Option("--snapshot", help="Read this snapshot.", show_default=False)] = None,
    output: Output = "text",
) -> None:
    """Ask the lake in SQL (DuckDB, read-only)."""
    choose(output, "text", "json")
    with opened(data) as installation:
        table = installation.sql(text, snapshot_id=snapshot)
    if output == "json":
        say_json(table.to_pylist())
    else:
        show_table(table.column_names, [tuple(row.values()) for row in table.to_pylist()])


def _trace(
    what: Annotated[str, typer.Argument(help="An event id, or a unit (a user, anonymous or device id).")],
    data: Data = None,
    output: Output = "text",
) -> None:
    """Follow one event or one unit: log, duplicates, dead letters, lake, and which experiments counted it."""
    choose(output, "text", "json")
    with opened(data) as installation:
        traced = installation.trace(what)
    if output == "json":
        say_json(traced)
        return
    for line in traced.lines():
        say_line(line)


def _audit(data: Data = None, output: Output = "text") -> None:
    """Recount log and lake from the records and prove the promises, or name what is off.

    The exit code is 0, or 10 and the number of the first promise that is off: 12, 13 or 14.
    """
    choose(output, "text", "json")
    with opened(data) as installation:
        report = installation.audit()
    if output == "json":
        say_json(report)
    else:
        for line in report.lines():
            say_line(line)
    if report.exit_code:
        raise typer.Exit(AUDIT_EXIT + report.exit_code)


def _backup(
    to: Annotated[Path, typer.Argument(help="The file to write, such as groundswell.tar.")],
    data: Data = None,
) -> None:
    """Write a consistent copy of everything into one file, while everything runs."""
    from groundswell.wiring.backup import backup

    with opened(data) as installation:
        size = backup(installation, to)
    say(f"wrote {to}, {size:,} bytes")


def _restore(
    file: Annotated[Path, typer.Argument(help="A file that `backup` wrote.")],
    data: Data = None,
) -> None:
    """Bring a backup back into a new data folder."""
    from groundswell.wiring.backup import restore

    root = restore(file, data)
    say(f"restored into {root}; prove it with: groundswell audit --data {root}")


def _letters_list(
    data: Data = None,
    reason: Reason = None,
    source: Source = None,
    limit: Annotated[int, typer.Option("--limit", help="At most this many.", min=1)] = 50,
    output: Output = "text",
) -> None:
    """List dead letters that wait, newest first, and count them by reason."""
    from groundswell.model.clock import format_us

    choose(output, "text", "json")
    with opened(data) as installation:
        letters = installation.dead_letters()
        page, _ = letters.page(reason=reason, source=source, cursor=None, limit=limit)
        reasons = letters.reasons()
    if output == "json":
        say_json({"reasons": reasons, "letters": [_as_object(letter) for letter in page]})
        return
    show_table(("reason", "waiting"), sorted(reasons.items()))
    show_table(
        ("id", "source", "received", "type", "field", "message"),
        [(one.id, one.source, format_us(one.received_at_us), one.type, one.field, one.message) for one in page],
    )


def _as_object(letter: Letter) -> dict[str, object]:
    return {**letter._asdict(), "raw": letter.raw.decode("utf-8", "replace")}


def _letters_show(letter_id: Annotated[str, typer.Argument(help="Its id.")], data: Data = None) -> None:
    """Show one dead letter with its content as it was sent."""
    with opened(data) as installation:
        letter = installation.dead_letters().show(letter_id)
    say_line(f"{letter.id}  {letter.source}  {letter.reason}: {letter.message}")
    for line in letter.raw.decode("utf-8", "replace").split("\n"):
        say_line(f"  {line}")  # set in, so that content cannot pass for what we say


def _letters_replay(
    ids: Annotated[list[str] | None, typer.Argument(help="Ids; none means all that match.", show_default=False)] = None,
    data: Data = None,
    reason: Reason = None,
    source: Source = None,
) -> None:
    """Decode dead letters again with today's definitions and send what is sound on its way."""
    with opened(data) as installation:
        report = installation.dead_letters().replay(
            installation.store.definitions(), ids=ids, reason=reason, source=source
        )
        installation.ingest().drain()
    say(f"{report.replayed:,} replayed; {report.failed:,} of those chosen still wait")
