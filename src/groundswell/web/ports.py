"""What the pages, the flags and the API ask of the rooms below; ``wiring`` answers.

Invariants
    a port answers with whole values, never with handles; nothing here can change anything
    what is not known is None, and a reason stands beside it where a person would ask for one
    ports are called from worker threads and must be safe there; ``definitions`` and ``authorize`` are called on the
    event loop for every flag question, so they answer from memory
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Protocol

import msgspec

from groundswell.model.definitions import Definitions
from groundswell.model.ledger import SourceLedger

__all__ = [
    "Commit",
    "DeadLetter",
    "DeadLetterPage",
    "ExperimentSummary",
    "Flags",
    "Headline",
    "Overview",
    "Pages",
    "PartitionLag",
    "Ports",
    "SourceLedger",
    "Throughput",
]

RunState = Literal["draft", "scheduled", "running", "ended"]


class PartitionLag(msgspec.Struct, frozen=True, kw_only=True):
    """How far one partition of the log is behind. ``watermark_us`` None: nothing of it was ever committed."""

    partition: int
    events_behind: int
    watermark_us: int | None = None
    behind: bool = False  # events wait, and its data is older than a minute


class Commit(msgspec.Struct, frozen=True, kw_only=True):
    """The newest commit of the lake."""

    snapshot_id: int
    committed_at_us: int
    events: int | None = None


class Throughput(msgspec.Struct, frozen=True, kw_only=True):
    """Events accepted and committed in each of the last whole intervals of ``interval_s`` seconds, oldest first."""

    interval_s: int
    ends_at_us: int
    accepted: tuple[int, ...] = ()
    committed: tuple[int, ...] = ()


class Overview(msgspec.Struct, frozen=True, kw_only=True):
    """Everything the first page shows, read at one moment."""

    at_us: int
    definitions_version: int = 0
    sources: tuple[SourceLedger, ...] = ()
    partitions: tuple[PartitionLag, ...] = ()
    data_to_us: int | None = None  # every partition has everything up to it
    last_commit: Commit | None = None
    dead_letters: Mapping[str, int] = {}  # waiting, by reason
    refused: Mapping[str, int] = {}  # by reason
    throughput: Throughput | None = None
    problems: tuple[str, ...] = ()  # what could not be read, or is wrong, in words a person can act on


class Headline(msgspec.Struct, frozen=True, kw_only=True):
    """One result for the list of experiments: a relative difference and the interval shown beside it."""

    metric: str
    variant: str
    better: Literal["higher", "lower"] = "higher"
    estimate: float | None = None
    low: float | None = None
    high: float | None = None


class ExperimentSummary(msgspec.Struct, frozen=True, kw_only=True):
    """One row of the list of experiments."""

    name: str
    state: RunState
    unit: str
    variants: dict[str, int]  # weights, in the order they were defined
    start_us: int | None = None
    end_us: int | None = None
    metrics: tuple[str, ...] = ()
    description: str | None = None
    units: int | None = None  # exposed, all variants
    srm_ok: bool | None = None
    headline: Headline | None = None


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    """One accepted event that could not be counted yet. ``content`` is its JSON as sent, possibly shortened."""

    id: str
    source: str
    reason: str
    received_at_us: int
    field: str | None = None
    message: str | None = None
    event_id: str | None = None
    type: str | None = None
    content: str | None = None


class DeadLetterPage(msgspec.Struct, frozen=True, kw_only=True):
    """Some dead letters, newest first. ``reasons`` counts all that wait; ``next_cursor`` None is the last page."""

    letters: tuple[DeadLetter, ...] = ()
    reasons: Mapping[str, int] = {}
    next_cursor: str | None = None


class Flags(Protocol):
    """What OFREP asks."""

    def definitions(self) -> Definitions:
        """Return the newest definitions; the same object as long as nothing changed."""
        ...

    def authorize(self, key: str | None) -> str:
        """Return the name of who holds ``key``; its requests share one rate limit.

        Raises:
            Unauthorized: the key is missing, unknown or revoked.
        """
        ...


class Pages(Protocol):
    """What pages and the API ask. Any method may raise ``Transient`` or ``Terminal``; the page says so."""

    def overview(self) -> Overview: ...

    def experiments(self) -> tuple[ExperimentSummary, ...]:
        """Return every experiment, running ones first."""
        ...

    def scorecard(self, name: str) -> dict[str, object]:
        """Return the scorecard's JSON as a dict.

        Raises:
            NotFound: no experiment has this name.
            NotComputable: there is nothing to compute from yet; its reason says why.
        """
        ...

    def dead_letters(
        self, *, reason: str | None = None, source: str | None = None, cursor: str | None = None, limit: int = 50
    ) -> DeadLetterPage:
        """Return dead letters that wait, newest first.

        Raises:
            InvalidInput: ``cursor`` was not given by a page before.
        """
        ...


class Ports(Flags, Pages, Protocol):
    """All of them."""
