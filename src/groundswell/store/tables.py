"""The tables of the control database, said once for every database that can hold them.

Invariants
    ``objects``, ``audit`` and ``imports`` are never deleted from; ``objects`` and ``audit`` never updated
    a change of these tables is a migration in ``migrations/versions``, and moves ``SCHEMA_HEAD``
    moments in time are microseconds UTC
"""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa

__all__ = ["SCHEMA_HEAD", "audit", "counters", "imports", "keys", "metadata", "objects", "scorecards"]

SCHEMA_HEAD: Final = "0001"  # the newest migration this program knows

metadata: Final = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# one row, read by every poll and locked by every write: which version of the definitions and of the keys stands
counters: Final = sa.Table(
    "counters",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("definitions_version", sa.Integer, nullable=False),
    sa.Column("keys_version", sa.Integer, nullable=False),
)

# every version of every object; a body of NULL is a tombstone
objects: Final = sa.Table(
    "objects",
    metadata,
    sa.Column("kind", sa.String(16), primary_key=True),
    sa.Column("name", sa.String(64), primary_key=True),
    sa.Column("version", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("at_us", sa.BigInteger, nullable=False),
    sa.Column("made_by", sa.Text, nullable=False),
    sa.Column("format", sa.Integer, nullable=False),
    sa.Column("body", sa.Text, nullable=True),
)

audit: Final = sa.Table(
    "audit",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("at_us", sa.BigInteger, nullable=False),
    sa.Column("made_by", sa.Text, nullable=False),
    sa.Column("action", sa.String(32), nullable=False),
    sa.Column("kind", sa.String(16), nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("version", sa.Integer, nullable=True),
)

keys: Final = sa.Table(
    "keys",
    metadata,
    sa.Column("key_id", sa.String(16), primary_key=True),
    sa.Column("digest", sa.String(64), nullable=False, unique=True),
    sa.Column("source", sa.String(64), nullable=False),
    sa.Column("created_at_us", sa.BigInteger, nullable=False),
    sa.Column("created_by", sa.Text, nullable=False),
    sa.Column("revoked_at_us", sa.BigInteger, nullable=True),
    sa.Column("revoked_by", sa.Text, nullable=True),
)

imports: Final = sa.Table(
    "imports",
    metadata,
    sa.Column("digest", sa.String(128), primary_key=True),
    sa.Column("mapping_digest", sa.String(128), primary_key=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("started_at_us", sa.BigInteger, nullable=False),
    sa.Column("finished_at_us", sa.BigInteger, nullable=True),
    sa.Column("rows", sa.BigInteger, nullable=True),
    sa.Column("counts", sa.Text, nullable=False),
)

scorecards: Final = sa.Table(
    "scorecards",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("experiment", sa.String(64), nullable=False, index=True),
    sa.Column("snapshot_id", sa.BigInteger, nullable=False),
    sa.Column("definitions_version", sa.Integer, nullable=False),
    sa.Column("as_of_us", sa.BigInteger, nullable=False),
    sa.Column("published_at_us", sa.BigInteger, nullable=False),
    sa.Column("published_by", sa.Text, nullable=False),
    sa.Column("keep_until_us", sa.BigInteger, nullable=False),
    sa.Column("digest", sa.String(64), nullable=False),  # SHA-256 of body and moments
    sa.Column("body", sa.LargeBinary, nullable=False),
    sa.Column("moments", sa.LargeBinary, nullable=False),
)
