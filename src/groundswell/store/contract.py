"""What the control store hands out.

Invariants
    a version of the definitions never changes once it is written; any past version can be asked for
    what is deleted leaves a tombstone, never a hole
    a key is shown once, when it is made; the store holds only its hash
    the ledger of imports and the audit trail only grow
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

from groundswell.model.definitions import Definition, Kind

__all__ = [
    "Applied",
    "AuditEntry",
    "FieldChange",
    "ImportRecord",
    "KeyInfo",
    "ObjectChange",
    "Revision",
    "Scorecard",
    "ScorecardInfo",
]


class FieldChange(NamedTuple):
    """One field before and after, as a person would write it in YAML; None where it is not set."""

    field: str
    before: str | None
    after: str | None


class ObjectChange(NamedTuple):
    """What happened to one object."""

    kind: Kind
    name: str
    action: Literal["added", "changed", "restored", "deleted"]
    fields: tuple[FieldChange, ...] = ()


class Applied(NamedTuple):
    """What an ``apply`` did, or with ``dry_run`` would do. ``version`` is the one that now stands."""

    version: int
    changes: tuple[ObjectChange, ...]
    dry_run: bool = False


class Revision(NamedTuple):
    """One version of one object. ``definition`` None is a tombstone; ``revision`` counts this object's own versions."""

    revision: int
    version: int
    at_us: int
    by: str
    change: ObjectChange
    definition: Definition | None


class AuditEntry(NamedTuple):
    """Who did what, when. ``version`` is set where the definitions changed."""

    at_us: int
    by: str
    action: str
    kind: str
    name: str
    version: int | None


class KeyInfo(NamedTuple):
    """A write key without its secret. ``key_id`` is its public part."""

    key_id: str
    source: str
    created_at_us: int
    created_by: str
    revoked_at_us: int | None
    revoked_by: str | None


class ImportRecord(NamedTuple):
    """One file brought in with one mapping. The same pair is one record for ever, however often it is tried."""

    digest: str
    mapping_digest: str
    name: str
    state: Literal["started", "finished"]
    attempts: int
    started_at_us: int
    finished_at_us: int | None
    rows: int | None
    counts: Mapping[str, int]


class ScorecardInfo(NamedTuple):
    """A published scorecard without its body. Its snapshot is kept until ``keep_until_us``."""

    scorecard_id: int
    experiment: str
    snapshot_id: int
    definitions_version: int
    as_of_us: int
    published_at_us: int
    published_by: str
    keep_until_us: int


class Scorecard(NamedTuple):
    """A published scorecard: ``body`` is its JSON, ``moments`` what it was computed from, both byte for byte."""

    info: ScorecardInfo
    body: bytes
    moments: bytes
