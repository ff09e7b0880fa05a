"""Versions of definitions in the database. Each function works inside its caller's transaction."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import sqlalchemy as sa

from groundswell.errors import Conflict, NotFound
from groundswell.model.definitions import SECTIONS, Definition, Definitions, Kind
from groundswell.store import tables
from groundswell.store.bodies import FORMAT, decode_body, encode_body
from groundswell.store.contract import AuditEntry, ObjectChange, Revision
from groundswell.store.render import changed_fields

__all__ = ["Change", "current_version", "history", "load", "load_known", "merge", "revise", "write_audit"]


class Change(NamedTuple):
    """One object's next body; None deletes it."""

    what: ObjectChange
    definition: Definition | None


def current_version(connection: sa.Connection, *, lock: bool = False) -> int:
    """Return the version that stands; with ``lock``, nobody else writes until the transaction ends."""
    query = sa.select(tables.counters.c.definitions_version)
    return connection.execute(query.with_for_update() if lock else query).scalar_one()


def load(connection: sa.Connection, version: int | None = None) -> Definitions:
    """Return what stood at ``version`` (None: now), built-ins left out.

    Raises:
        NotFound: there is no such version yet.
    """
    newest = current_version(connection)
    wanted = newest if version is None else version
    if not 0 <= wanted <= newest:
        raise NotFound(f"there is no version {wanted} of the definitions; the newest is {newest}")
    objects = tables.objects
    last = (
        sa.select(objects.c.kind, objects.c.name, sa.func.max(objects.c.version).label("version"))
        .where(objects.c.version <= wanted)
        .group_by(objects.c.kind, objects.c.name)
        .subquery()
    )
    return _collect(connection, wanted, last, objects.c.body.is_not(None))


def load_known(connection: sa.Connection) -> Definitions:
    """Return the last definition of everything that ever stood, deleted or not, built-ins left out."""
    objects = tables.objects
    last = (
        sa.select(objects.c.kind, objects.c.name, sa.func.max(objects.c.version).label("version"))
        .where(objects.c.body.is_not(None))
        .group_by(objects.c.kind, objects.c.name)
        .subquery()
    )
    return _collect(connection, current_version(connection), last, sa.true())


def _collect(
    connection: sa.Connection, version: int, last: sa.Subquery, condition: sa.ColumnElement[bool]
) -> Definitions:
    objects = tables.objects
    rows = connection.execute(
        sa.select(objects.c.kind, objects.c.name, objects.c.format, objects.c.body)
        .join(
            last,
            (objects.c.kind == last.c.kind) & (objects.c.name == last.c.name) & (objects.c.version == last.c.version),
        )
        .where(condition)
        .order_by(objects.c.name)
    )
    sections: dict[str, dict[str, Definition]] = {section: {} for section in SECTIONS.values()}
    for kind, name, body_format, body in rows:
        sections[SECTIONS[kind]][name] = decode_body(kind, name, body_format, body)
    return Definitions(version=version, **sections)  # pyright: ignore[reportArgumentType] - decode_body gave each kind its type


def merge(before: Definitions, declared: Iterable[tuple[Kind, str, Definition]]) -> Definitions:
    """Return ``before`` with the declared objects in place of their namesakes."""
    sections: dict[str, dict[str, Definition]] = {SECTIONS[kind]: dict(before.of(kind)) for kind in SECTIONS}
    for kind, name, definition in declared:
        sections[SECTIONS[kind]][name] = definition
    return Definitions(version=before.version, **sections)  # pyright: ignore[reportArgumentType] - each stands in its section


def revise(connection: sa.Connection, changes: Sequence[Change], *, version: int, at_us: int, by: str) -> None:
    """Write the next version of the definitions.

    Raises:
        Conflict: another transaction wrote this version first.
    """
    rows = [
        {
            "kind": what.kind,
            "name": what.name,
            "version": version,
            "at_us": at_us,
            "made_by": by,
            "format": FORMAT,
            "body": None if definition is None else encode_body(definition),
        }
        for what, definition in changes
    ]
    connection.execute(tables.objects.insert(), rows)
    trail = [AuditEntry(at_us, by, what.action, what.kind, what.name, version) for what, _ in changes]
    write_audit(connection, *trail)
    moved = connection.execute(
        tables.counters.update()
        .where(tables.counters.c.definitions_version == version - 1)
        .values(definitions_version=version)
    )
    if moved.rowcount != 1:
        raise Conflict(f"version {version} of the definitions was written by someone else; apply again")


def history(connection: sa.Connection, kind: Kind, name: str) -> list[Revision]:
    """Return every version of one object, oldest first.

    Raises:
        NotFound: there never was one.
    """
    objects = tables.objects
    rows = connection.execute(
        sa.select(objects.c.version, objects.c.at_us, objects.c.made_by, objects.c.format, objects.c.body)
        .where((objects.c.kind == kind) & (objects.c.name == name))
        .order_by(objects.c.version)
    ).all()
    revisions: list[Revision] = []
    before: Definition | None = None
    for revision, (version, at_us, by, body_format, body) in enumerate(rows, start=1):
        after = None if body is None else decode_body(kind, name, body_format, body)
        action = "deleted" if after is None else "added" if revision == 1 else "changed" if before else "restored"
        change = ObjectChange(kind, name, action, changed_fields(before, after))
        revisions.append(Revision(revision, version, at_us, by, change, after))
        before = after
    if not revisions:
        raise NotFound(f"there is no {kind} {name}, and never was")
    return revisions


def write_audit(connection: sa.Connection, *entries: AuditEntry) -> None:
    """Add lines to the audit trail."""
    rows = [
        {
            "at_us": entry.at_us,
            "made_by": entry.by,
            "action": entry.action,
            "kind": entry.kind,
            "name": entry.name,
            "version": entry.version,
        }
        for entry in entries
    ]
    connection.execute(tables.audit.insert(), rows)
