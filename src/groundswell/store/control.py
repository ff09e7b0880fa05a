"""The control store: one door to definitions, keys, imports, published scorecards and the audit trail.

Invariants
    an ``apply`` or ``delete`` happens wholly or not at all, and moves the version by one
    what stands keeps every rule of ``model.check``: it is checked under the write lock that commits it
    nothing that was published or imported is ever changed
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa

from groundswell.errors import Conflict, InvalidDefinitions, InvalidInput, NotFound
from groundswell.model.check import check, needed_by
from groundswell.model.clock import Clock
from groundswell.model.definitions import BUILTIN_EVENTS, BUILTIN_PROPERTIES, Definition, Definitions, Kind
from groundswell.store import keys, objects, records, tables
from groundswell.store.connect import Database
from groundswell.store.contract import (
    Applied,
    AuditEntry,
    ImportRecord,
    KeyInfo,
    ObjectChange,
    Revision,
    Scorecard,
    ScorecardInfo,
)
from groundswell.store.objects import Change
from groundswell.store.render import changed_fields

if TYPE_CHECKING:
    from groundswell.store.manifest import Manifest

__all__ = ["Store"]


class Store:
    """An open control store. Threads may share it; processes open their own."""

    def __init__(self, database: Database, clock: Clock, random_bytes: Callable[[int], bytes]) -> None:
        self._database = database
        self._clock = clock
        self._random_bytes = random_bytes

    @classmethod
    def open(
        cls,
        where: str | os.PathLike[str],
        clock: Clock,
        *,
        create: bool = True,
        random_bytes: Callable[[int], bytes] = secrets.token_bytes,
    ) -> Store:
        """Open a store by its file or URL, making it where there is none. See ``Database.open`` for what it raises."""
        return cls(Database.open(where, clock, create=create), clock, random_bytes)

    @property
    def path(self) -> Path:
        """The database file."""
        return self._database.path

    def close(self) -> None:
        """Release the file."""
        self._database.close()

    def copy_to(self, target: Path) -> None:
        """Write a consistent copy of the store while others use it. Raises ``Conflict`` where ``target`` exists."""
        self._database.copy_to(target)

    # --- definitions -------------------------------------------------------------------------------------------

    def version(self) -> int:
        """Return the version of the definitions that stands; cheap enough to poll."""
        with self._database.reading() as connection:
            return objects.current_version(connection)

    def versions(self) -> tuple[int, int]:
        """Return the versions of definitions and of keys that stand; cheap enough to poll."""
        with self._database.reading() as connection:
            row = connection.execute(sa.select(tables.counters.c.definitions_version, tables.counters.c.keys_version))
            definitions, key_ring = row.one()
            return definitions, key_ring

    def definitions(self, version: int | None = None) -> Definitions:
        """Return everything defined at ``version`` (None: now), built-ins included.

        Raises:
            NotFound: there is no such version yet.
        """
        with self._database.reading() as connection:
            return objects.load(connection, version).with_builtins()

    def objects(self, kind: Kind) -> Mapping[str, Definition]:
        """Return living objects of a kind by name, built-ins left out."""
        with self._database.reading() as connection:
            return objects.load(connection).of(kind)

    def apply(
        self, manifest: Manifest | Definitions, *, by: str, dry_run: bool = False, expected_version: int | None = None
    ) -> Applied:
        """Put the manifest's objects in place of their namesakes; what it does not name stays as it is.

        Args:
            manifest: what shall stand.
            by: who does it.
            dry_run: only say what would change.
            expected_version: the version that the caller looked at; None takes what stands.

        Raises:
            InvalidDefinitions: a rule would be broken (all problems at once); nothing was applied.
            Conflict: another version stands than ``expected_version``.
        """
        from groundswell.store.manifest import Manifest

        _check_by(by)
        if isinstance(manifest, Definitions):
            manifest = Manifest.of(manifest)
        with self._database.reading() if dry_run else self._database.writing() as connection:
            return self._apply(connection, manifest, by, expected_version, dry_run=dry_run)

    def _apply(
        self, connection: sa.Connection, manifest: Manifest, by: str, expected_version: int | None, *, dry_run: bool
    ) -> Applied:
        now_us = self._clock.now_us()
        version = objects.current_version(connection, lock=not dry_run)
        if expected_version is not None and expected_version != version:
            raise Conflict(
                f"the definitions are at version {version}, not {expected_version}: someone else applied first; "
                "look at what changed, then apply again"
            )
        before = objects.load(connection)
        known = objects.load_known(connection)
        after = objects.merge(before, manifest.objects())
        problems = [manifest.located(problem) for problem in check(after, known=known, now_us=now_us)]
        if problems:
            raise InvalidDefinitions(problems)
        changes = _differences(before, after, known)
        if changes and not dry_run:
            version += 1
            objects.revise(connection, changes, version=version, at_us=now_us, by=by)
        return Applied(version, tuple(change.what for change in changes), dry_run)

    def delete(self, kind: Kind, name: str, *, by: str) -> Applied:
        """Leave a tombstone in an object's place; past versions still have it.

        Raises:
            NotFound: no such object stands.
            Conflict: something that stands needs it.
            InvalidInput: it is built in.
        """
        _check_by(by)
        if name in (BUILTIN_PROPERTIES if kind == "property" else BUILTIN_EVENTS if kind == "event" else ()):
            raise InvalidInput(kind, name, "is built in and cannot be deleted")
        with self._database.writing() as connection:
            version = objects.current_version(connection, lock=True) + 1
            before = objects.load(connection)
            one = before.of(kind).get(name)
            if one is None:
                raise NotFound(f"there is no {kind} {name}; list what there is with: groundswell get {kind}")
            users = needed_by(before, kind, name)
            if kind == "source":
                users += [
                    f"key {keys.PREFIX}{info.key_id}"
                    for info in keys.listed(connection)
                    if info.source == name and info.revoked_at_us is None
                ]
            if users:
                raise Conflict(f"{kind} {name} is needed by {', '.join(users)}; change or delete those first")
            what = ObjectChange(kind, name, "deleted", changed_fields(one, None))
            now_us = self._clock.now_us()
            objects.revise(connection, [Change(what, None)], version=version, at_us=now_us, by=by)
            return Applied(version, (what,))

    def history(self, kind: Kind, name: str) -> list[Revision]:
        """Return every version of one object, oldest first. Raises ``NotFound`` where there never was one."""
        with self._database.reading() as connection:
            return objects.history(connection, kind, name)

    def audit_trail(self) -> list[AuditEntry]:
        """Return who did what, oldest first."""
        columns = tables.audit.c
        query = sa.select(
            columns.at_us, columns.made_by, columns.action, columns.kind, columns.name, columns.version
        ).order_by(columns.id)
        with self._database.reading() as connection:
            return [AuditEntry(*row) for row in connection.execute(query)]

    # --- keys --------------------------------------------------------------------------------------------------

    def create_key(self, source: str, *, by: str) -> str:
        """Make a write key for a source and return it: it is shown this once. Raises ``NotFound``."""
        _check_by(by)
        with self._database.writing() as connection:
            return keys.create(connection, source, by=by, at_us=self._clock.now_us(), random_bytes=self._random_bytes)

    def revoke_key(self, key_or_id: str, *, by: str) -> KeyInfo:
        """Revoke a key by its id, a clear beginning of it, or its text. Raises ``NotFound`` or ``InvalidInput``."""
        _check_by(by)
        with self._database.writing() as connection:
            return keys.revoke(connection, key_or_id, by=by, at_us=self._clock.now_us())

    def keys(self) -> list[KeyInfo]:
        """Return every key ever made, oldest first, revoked ones included."""
        with self._database.reading() as connection:
            return keys.listed(connection)

    def key_ring(self) -> keys.KeyRing:
        """Return all keys for lookups in memory."""
        with self._database.reading() as connection:
            return keys.keyring(connection)

    def resolve_key(self, key: str) -> str:
        """Return the source of a key, asking the database (``ControlView`` asks memory). Raises ``Unauthorized``."""
        return self.key_ring().resolve(key)

    # --- imports -----------------------------------------------------------------------------------------------

    def import_started(self, digest: str, mapping_digest: str, name: str, rows: int | None = None) -> ImportRecord:
        """Note an import's begin. A record that says ``finished`` means that nothing is left to do."""
        with self._database.writing() as connection:
            return records.start_import(connection, digest, mapping_digest, name, rows=rows, at_us=self._clock.now_us())

    def import_finished(
        self, digest: str, mapping_digest: str, *, rows: int, counts: Mapping[str, int] | None = None
    ) -> ImportRecord:
        """Note an import's end. Raises ``NotFound`` before its start, ``Conflict`` if it ended with other figures."""
        with self._database.writing() as connection:
            return records.finish_import(
                connection, digest, mapping_digest, rows=rows, counts=counts or {}, at_us=self._clock.now_us()
            )

    def find_import(self, digest: str, mapping_digest: str) -> ImportRecord | None:
        """Return the record of one file and mapping, or None."""
        with self._database.reading() as connection:
            return records.find_import(connection, digest, mapping_digest)

    def imports(self) -> list[ImportRecord]:
        """Return every import, oldest first."""
        with self._database.reading() as connection:
            return records.list_imports(connection)

    # --- published scorecards ----------------------------------------------------------------------------------

    def save_scorecard(
        self,
        experiment: str,
        snapshot_id: int,
        *,
        definitions_version: int,
        as_of_us: int,
        body: bytes,
        moments: bytes,
        keep_until_us: int,
        by: str,
    ) -> int:
        """Publish a scorecard: its JSON and the moments it was computed from. Return its id."""
        _check_by(by)
        now_us = self._clock.now_us()
        info = ScorecardInfo(0, experiment, snapshot_id, definitions_version, as_of_us, now_us, by, keep_until_us)
        with self._database.writing() as connection:
            return records.save_scorecard(connection, info, body, moments)

    def scorecards(self, experiment: str | None = None) -> list[ScorecardInfo]:
        """Return published scorecards without their bodies, newest first."""
        with self._database.reading() as connection:
            return records.list_scorecards(connection, experiment)

    def scorecard(self, scorecard_id: int) -> Scorecard:
        """Return a published scorecard. Raises ``NotFound``, or ``Corrupt`` where its bytes changed."""
        with self._database.reading() as connection:
            return records.load_scorecard(connection, scorecard_id)


def _differences(before: Definitions, after: Definitions, known: Definitions) -> list[Change]:
    changes: list[Change] = []
    for kind in objects.SECTIONS:
        for name, one in after.of(kind).items():
            old = before.of(kind).get(name)
            fields = changed_fields(old, one)
            if old is None:
                action = "restored" if name in known.of(kind) else "added"
                changes.append(Change(ObjectChange(kind, name, action, fields), one))
            elif fields:
                changes.append(Change(ObjectChange(kind, name, "changed", fields), one))
    return changes


def _check_by(by: str) -> None:
    if not by.strip() or not by.isprintable() or len(by) > 256:
        raise InvalidInput("by", by, "must say who does this, in at most 256 printable characters")
