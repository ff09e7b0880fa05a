"""Write keys: made once, shown once, stored as a hash.

A key is ``gsw_<id>_<secret>``: the id is public and names the key in lists and logs, the secret is 256 random bits.
Those cannot be guessed, so one round of SHA-256 protects them as well as a slow hash would, and a lookup stays cheap.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from typing import Final, NamedTuple

import sqlalchemy as sa

from groundswell.errors import InvalidInput, NotFound, Unauthorized
from groundswell.model.clock import format_us
from groundswell.store import tables
from groundswell.store.contract import AuditEntry, KeyInfo
from groundswell.store.objects import load, write_audit

__all__ = ["KeyRing", "create", "digest_of", "keyring", "listed", "revoke"]

PREFIX: Final = "gsw_"
_ID_BYTES: Final = 4
_SECRET_BYTES: Final = 32
_KEY_CHARS_MAX: Final = 128  # longer text is no key of ours; it is not hashed


class KeyRing(NamedTuple):
    """Every key at one moment, by the hash of its text. Lookups touch no database."""

    version: int
    by_digest: Mapping[str, KeyInfo]

    def knows(self, key: str) -> bool:
        """Return whether ``key`` was ever made."""
        return self._find(key) is not None

    def resolve(self, key: str) -> str:
        """Return the source that ``key`` writes to.

        Raises:
            Unauthorized: the key is unknown, or was revoked.
        """
        info = self._find(key)
        if info is None:
            raise Unauthorized("write key is unknown; list keys with: groundswell keys list")
        if info.revoked_at_us is not None:
            raise Unauthorized(
                f"write key {PREFIX}{info.key_id} of source {info.source} was revoked "
                f"at {format_us(info.revoked_at_us)}; "
                f"make a new one with: groundswell keys create {info.source}"
            )
        return info.source

    def _find(self, key: str) -> KeyInfo | None:
        return self.by_digest.get(digest_of(key)) if len(key) <= _KEY_CHARS_MAX else None


def digest_of(key: str) -> str:
    """Return what is stored of a key."""
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


def create(connection: sa.Connection, source: str, *, by: str, at_us: int, random_bytes: Callable[[int], bytes]) -> str:
    """Make a key and return it, for the only time.

    Raises:
        NotFound: no such source is defined.
    """
    if source not in load(connection).sources:
        raise NotFound(f"there is no source {source}; define it under sources, and apply")
    key_id = random_bytes(_ID_BYTES).hex()
    key = f"{PREFIX}{key_id}_{random_bytes(_SECRET_BYTES).hex()}"
    connection.execute(
        tables.keys.insert().values(
            key_id=key_id, digest=digest_of(key), source=source, created_at_us=at_us, created_by=by
        )
    )
    _changed(connection, AuditEntry(at_us, by, "created", "key", key_id, None))
    return key


def revoke(connection: sa.Connection, key_or_id: str, *, by: str, at_us: int) -> KeyInfo:
    """Revoke a key, named by its id, by a beginning of it that only it has, or by its whole text. Twice is once.

    Raises:
        NotFound: no key has this id.
        InvalidInput: several keys begin so.
    """
    wanted = key_or_id.removeprefix(PREFIX).split("_")[0]
    found = [info for info in listed(connection) if wanted and info.key_id.startswith(wanted)]
    if not found:
        raise NotFound(f"there is no key {PREFIX}{wanted}; list keys with: groundswell keys list")
    if len(found) > 1:
        raise InvalidInput("key", wanted, f"must name one key, and {len(found)} begin so", next_step="write more of it")
    info = found[0]
    if info.revoked_at_us is not None:
        return info
    connection.execute(
        tables.keys.update().where(tables.keys.c.key_id == info.key_id).values(revoked_at_us=at_us, revoked_by=by)
    )
    _changed(connection, AuditEntry(at_us, by, "revoked", "key", info.key_id, None))
    return info._replace(revoked_at_us=at_us, revoked_by=by)


def listed(connection: sa.Connection) -> list[KeyInfo]:
    """Return every key ever made, oldest first."""
    return [info for _, info in _rows(connection)]


def keyring(connection: sa.Connection) -> KeyRing:
    """Return every key for lookups."""
    version = connection.execute(sa.select(tables.counters.c.keys_version)).scalar_one()
    return KeyRing(version, dict(_rows(connection)))


def _rows(connection: sa.Connection) -> Iterable[tuple[str, KeyInfo]]:
    keys = tables.keys.c
    query = sa.select(
        keys.digest,
        keys.key_id,
        keys.source,
        keys.created_at_us,
        keys.created_by,
        keys.revoked_at_us,
        keys.revoked_by,
    ).order_by(keys.created_at_us, keys.key_id)
    return [(row[0], KeyInfo(*row[1:])) for row in connection.execute(query)]


def _changed(connection: sa.Connection, entry: AuditEntry) -> None:
    write_audit(connection, entry)
    connection.execute(tables.counters.update().values(keys_version=tables.counters.c.keys_version + 1))
