"""The permanent ledger of imports, and published scorecards. Each function works inside its caller's transaction."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import msgspec
import sqlalchemy as sa

from groundswell.errors import Conflict, Corrupt, NotFound
from groundswell.store import tables
from groundswell.store.contract import ImportRecord, Scorecard, ScorecardInfo

__all__ = [
    "find_import",
    "finish_import",
    "list_imports",
    "list_scorecards",
    "load_scorecard",
    "save_scorecard",
    "start_import",
]


def start_import(
    connection: sa.Connection, digest: str, mapping_digest: str, name: str, *, rows: int | None, at_us: int
) -> ImportRecord:
    """Note that an import begins; return its record, which says ``finished`` where nothing is left to do."""
    found = find_import(connection, digest, mapping_digest)
    if found is not None and found.state == "finished":
        return found
    if found is None:
        connection.execute(
            tables.imports.insert().values(
                digest=digest,
                mapping_digest=mapping_digest,
                name=name,
                state="started",
                attempts=1,
                started_at_us=at_us,
                rows=rows,
                counts="{}",
            )
        )
        return ImportRecord(digest, mapping_digest, name, "started", 1, at_us, None, rows, {})
    _update(connection, found, attempts=found.attempts + 1)
    return found._replace(attempts=found.attempts + 1)


def finish_import(
    connection: sa.Connection,
    digest: str,
    mapping_digest: str,
    *,
    rows: int,
    counts: Mapping[str, int],
    at_us: int,
) -> ImportRecord:
    """Note that an import is complete. Twice with the same figures is once.

    Raises:
        NotFound: it was never started.
        Conflict: it was finished with other figures.
    """
    found = find_import(connection, digest, mapping_digest)
    if found is None:
        raise NotFound(f"import {digest} was never started")
    if found.state == "finished":
        if (found.rows, found.counts) != (rows, dict(counts)):
            raise Conflict(
                f"import {digest} was finished with {found.rows} rows and {found.counts}, not {rows} and {counts}"
            )
        return found
    text = msgspec.json.encode(dict(counts)).decode()
    _update(connection, found, state="finished", finished_at_us=at_us, rows=rows, counts=text)
    return found._replace(state="finished", finished_at_us=at_us, rows=rows, counts=dict(counts))


def find_import(connection: sa.Connection, digest: str, mapping_digest: str) -> ImportRecord | None:
    """Return the record of one file and mapping."""
    columns = tables.imports.c
    where = (columns.digest == digest) & (columns.mapping_digest == mapping_digest)
    return next(iter(_imports(connection, where)), None)


def list_imports(connection: sa.Connection) -> list[ImportRecord]:
    """Return every import, oldest first."""
    return _imports(connection, sa.true())


def _imports(connection: sa.Connection, where: sa.ColumnElement[bool]) -> list[ImportRecord]:
    columns = tables.imports.c
    query = sa.select(
        columns.digest,
        columns.mapping_digest,
        columns.name,
        columns.state,
        columns.attempts,
        columns.started_at_us,
        columns.finished_at_us,
        columns.rows,
        columns.counts,
    )
    ordered = query.where(where).order_by(columns.started_at_us, columns.digest, columns.mapping_digest)
    return [
        ImportRecord(*row[:-1], counts=msgspec.json.decode(row[-1], type=dict[str, int]))
        for row in connection.execute(ordered)
    ]


def _update(connection: sa.Connection, record: ImportRecord, **values: object) -> None:
    columns = tables.imports.c
    where = (columns.digest == record.digest) & (columns.mapping_digest == record.mapping_digest)
    connection.execute(tables.imports.update().where(where).values(**values))


# --- scorecards ------------------------------------------------------------------------------------------------


def save_scorecard(connection: sa.Connection, info: ScorecardInfo, body: bytes, moments: bytes) -> int:
    """Keep a published scorecard; return its id. ``info.scorecard_id`` is not used."""
    values = info._asdict() | {"body": body, "moments": moments, "digest": _digest(body, moments)}
    del values["scorecard_id"]
    query = tables.scorecards.insert().values(**values).returning(tables.scorecards.c.id)
    return connection.execute(query).scalar_one()


def list_scorecards(connection: sa.Connection, experiment: str | None) -> list[ScorecardInfo]:
    """Return published scorecards, of one experiment or of all, newest first."""
    columns = tables.scorecards.c
    where = sa.true() if experiment is None else columns.experiment == experiment
    query = sa.select(*_info_columns()).where(where).order_by(columns.published_at_us.desc(), columns.id.desc())
    return [ScorecardInfo(*row) for row in connection.execute(query)]


def load_scorecard(connection: sa.Connection, scorecard_id: int) -> Scorecard:
    """Return a published scorecard.

    Raises:
        NotFound: there is none.
        Corrupt: its bytes are not those that were published.
    """
    columns = tables.scorecards.c
    query = sa.select(*_info_columns(), columns.digest, columns.body, columns.moments)
    row = connection.execute(query.where(columns.id == scorecard_id)).one_or_none()
    if row is None:
        raise NotFound(f"there is no published scorecard {scorecard_id}")
    *info, digest, body, moments = tuple(row)
    if _digest(body, moments) != digest:
        raise Corrupt(f"published scorecard {scorecard_id} does not match its digest; restore it from a backup")
    return Scorecard(ScorecardInfo(*info), body, moments)


def _info_columns() -> list[sa.Column[object]]:
    columns = tables.scorecards.c
    names = ("id", *(field for field in ScorecardInfo._fields if field != "scorecard_id"))
    return [columns[name] for name in names]


def _digest(body: bytes, moments: bytes) -> str:
    return hashlib.sha256(hashlib.sha256(body).digest() + hashlib.sha256(moments).digest()).hexdigest()
