"""``apply``, ``get``, ``delete``, ``history``, ``schema``, ``keys``: what people define, and who may send."""

from __future__ import annotations

import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Final

import typer

from groundswell.cli.context import Data, opened, who
from groundswell.cli.output import say, say_json, show_table
from groundswell.errors import Conflict, InvalidInput, NotFound

if TYPE_CHECKING:
    from groundswell.model.definitions import Definitions, Kind
    from groundswell.store.contract import Applied
    from groundswell.store.manifest import Manifest

__all__ = ["register"]

_STDIN: Final = "-"
KindArgument = Annotated[
    str, typer.Argument(metavar="KIND", help="property, event, metric, experiment or source; or KIND/NAME.")
]
NameArgument = Annotated[str | None, typer.Argument(metavar="NAME", help="Its name.", show_default=False)]
By = Annotated[str | None, typer.Option("--by", help="Who does it (default: you).", show_default=False)]
Output = Annotated[str, typer.Option("--output", "-o", help="yaml or json.")]
TableOutput = Annotated[str, typer.Option("--output", "-o", help="table or json.")]


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    app.command("apply")(_apply)
    app.command("get")(_get)
    app.command("delete")(_delete)
    app.command("history")(_history)
    app.command("schema")(_schema)
    keys = typer.Typer(help="Write keys: who may send events.", no_args_is_help=True, rich_markup_mode=None)
    keys.command("create")(_keys_create)
    keys.command("revoke")(_keys_revoke)
    keys.command("list")(_keys_list)
    app.add_typer(keys, name="keys")


def _apply(
    files: Annotated[
        list[Path], typer.Option("--file", "-f", help="A YAML file, a folder of them, or - for stdin; repeatable.")
    ],
    data: Data = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would change.")] = False,
    expect: Annotated[
        int | None,
        typer.Option("--expect", help="Apply only if this is the version that stands.", show_default=False),
    ] = None,
    by: By = None,
) -> None:
    """Apply definitions: show what changes, then change all of it or nothing."""
    from groundswell.store.render import change_lines

    manifest = _manifest(files)
    try:
        with opened(data, create=not dry_run) as installation:
            applied = installation.store.apply(manifest, by=by or who(), dry_run=dry_run, expected_version=expect)
    except NotFound:
        if not dry_run:
            raise
        applied = _dry_run_on_nothing(manifest)  # a first dry run leaves no data folder behind
    for line in change_lines(applied.changes):
        say(line)
    say(_outcome(applied))


def _dry_run_on_nothing(manifest: Manifest) -> Applied:
    from groundswell.model.clock import SystemClock
    from groundswell.store.control import Store

    with TemporaryDirectory() as folder:
        store = Store.open(Path(folder) / "control.sqlite", SystemClock())
        try:
            return store.apply(manifest, by=who(), dry_run=True)
        finally:
            store.close()


def _manifest(files: list[Path]) -> Manifest:
    from groundswell.store.manifest import Manifest, read_manifest

    if [str(file) for file in files] == [_STDIN]:
        return Manifest.parse(sys.stdin.buffer.read(), file="<stdin>")
    if any(str(file) == _STDIN for file in files):
        raise InvalidInput("--file", _STDIN, "must stand alone", next_step="write what it would hold to a file")
    return read_manifest(files)


def _outcome(applied: Applied) -> str:
    if not applied.changes:
        return f"nothing to change; version {applied.version} stands"
    if applied.dry_run:
        return f"dry run: nothing was applied; version {applied.version} stands"
    return f"applied as version {applied.version}"


def _get(
    kind: Annotated[
        str | None,
        typer.Argument(metavar="[KIND]", help="property, event, metric, experiment or source; or KIND/NAME."),
    ] = None,
    name: NameArgument = None,
    data: Data = None,
    version: Annotated[
        int | None, typer.Option("--version", help="As of this version (default: now).", show_default=False)
    ] = None,
    output: Output = "yaml",
) -> None:
    """Show definitions, as YAML that can be applied again."""
    from groundswell.store.render import to_plain, to_yaml

    _choose("--output", output, ("yaml", "json"))
    with opened(data) as installation:
        definitions = installation.store.definitions(version)
    document = to_plain(definitions) if kind is None else _chosen(definitions, *_parse_kind(kind, name))
    if output == "json":
        say_json(document)
    elif document:
        say(to_yaml(document).rstrip("\n"))


def _chosen(definitions: Definitions, kind: Kind, name: str | None) -> dict[str, object]:
    from groundswell.model.check import did_you_mean
    from groundswell.model.definitions import SECTIONS
    from groundswell.store.render import plain, to_plain

    if name is None:
        section = to_plain(definitions).get(SECTIONS[kind])
        return {} if section is None else {SECTIONS[kind]: section}
    found = definitions.of(kind).get(name)
    if found is None:
        hint = did_you_mean(name, definitions.of(kind))
        raise NotFound(f"there is no {kind} {name} in version {definitions.version}" + (f"; {hint}" if hint else ""))
    return {SECTIONS[kind]: {name: plain(found)}}


def _delete(kind: KindArgument, name: NameArgument = None, data: Data = None, by: By = None) -> None:
    """Delete a definition: past versions keep it, and scorecards on them still recompute."""
    one, named = _parse_kind(kind, name)
    if named is None:
        raise InvalidInput("NAME", None, "must be given", next_step=f"write: groundswell delete {one} NAME")
    with opened(data) as installation:
        applied = installation.store.delete(one, named, by=by or who())
    say(f"- {one} {named}")
    say(_outcome(applied))


def _history(
    kind: Annotated[
        str | None,
        typer.Argument(metavar="[KIND]", help="property, event, metric, experiment or source; or KIND/NAME."),
    ] = None,
    name: NameArgument = None,
    data: Data = None,
    output: TableOutput = "table",
) -> None:
    """Show every version of one definition; without one, who changed what and when."""
    from groundswell.model.clock import format_us

    _choose("--output", output, ("table", "json"))
    columns: tuple[str, ...]
    rows: list[tuple[object, ...]]
    with opened(data) as installation:
        if kind is None:
            columns = ("at", "by", "action", "kind", "name", "version")
            rows = [(format_us(one.at_us), *one[1:]) for one in installation.store.audit_trail()]
        else:
            one, named = _parse_kind(kind, name)
            if named is None:
                raise InvalidInput("NAME", None, "must be given", next_step=f"write: groundswell history {one} NAME")
            columns = ("revision", "version", "at", "by", "action", "changes")
            rows = [
                (
                    item.revision,
                    item.version,
                    format_us(item.at_us),
                    item.by,
                    item.change.action,
                    _fields_text(item.change.fields),
                )
                for item in installation.store.history(one, named)
            ]
    if output == "json":
        say_json([dict(zip(columns, row, strict=True)) for row in rows])
    else:
        show_table(columns, rows)


def _fields_text(fields: tuple[tuple[str, str | None, str | None], ...]) -> str:
    """Return changed fields in one cell."""
    return "; ".join(
        f"{field}: {after}" if before is None else f"{field}: {before} -> {after or 'left out'}"
        for field, before, after in fields
    )


def _schema(
    check: Annotated[
        Path | None,
        typer.Option("--check", help="Only check that this file holds the schema.", show_default=False),
    ] = None,
) -> None:
    """Print the JSON Schema of definition files, for editors."""
    from groundswell.store.schema import schema_text

    text = schema_text()
    if check is None:
        say(text.rstrip("\n"))
        return
    try:
        found = check.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput("--check", str(check), f"cannot be read ({error})") from error
    if found != text:
        raise Conflict(f"{check} is not the schema of this program; run: groundswell schema > {check}")
    say(f"{check} is up to date")


# --- keys ------------------------------------------------------------------------------------------------------


def _keys_create(
    source: Annotated[str, typer.Argument(help="The source it writes to.")], data: Data = None, by: By = None
) -> None:
    """Make a write key and show it, this once."""
    with opened(data) as installation:
        say(installation.store.create_key(source, by=by or who()))


def _keys_revoke(
    key: Annotated[str, typer.Argument(help="The key, its id, or a beginning that only it has.")],
    data: Data = None,
    by: By = None,
) -> None:
    """Revoke a write key; running collectors refuse it within a second."""
    with opened(data) as installation:
        info = installation.store.revoke_key(key, by=by or who())
    say(f"revoked gsw_{info.key_id} of source {info.source}")


def _keys_list(data: Data = None, output: TableOutput = "table") -> None:
    """List write keys without their secrets."""
    from groundswell.model.clock import format_us

    _choose("--output", output, ("table", "json"))
    columns = ("key", "source", "created", "by", "revoked", "revoked by")
    with opened(data) as installation:
        infos = installation.store.keys()
        rows = [
            (
                f"gsw_{info.key_id}",
                info.source,
                format_us(info.created_at_us),
                info.created_by,
                None if info.revoked_at_us is None else format_us(info.revoked_at_us),
                info.revoked_by,
            )
            for info in infos
        ]
    if output == "json":
        say_json([dict(zip(columns, row, strict=True)) for row in rows])
    else:
        show_table(columns, rows)


# --- arguments -------------------------------------------------------------------------------------------------


def _parse_kind(kind: str, name: str | None) -> tuple[Kind, str | None]:
    """Return kind and name from ``metric buyers``, ``metrics buyers`` or ``metric/buyers``."""
    from groundswell.model.check import did_you_mean
    from groundswell.model.definitions import SECTIONS

    word, _, rest = kind.partition("/")
    if rest and name is not None:
        raise InvalidInput("NAME", name, f"must not be given twice: {kind} names one already")
    for one, section in SECTIONS.items():
        if word in (one, section):
            return one, rest or name
    words = ", ".join(SECTIONS)
    raise InvalidInput("KIND", word, f"must be one of {words}", next_step=did_you_mean(word, SECTIONS))


def _choose(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise InvalidInput(name, value, f"must be {' or '.join(choices)}")
