"""What pages, flags and collector ask, answered from one installation.

Invariants
    definitions and keys are answered from memory, at most a second old, and still when the store is away
    a scorecard is computed once for everybody who looks at it, several in one sweep
"""

from __future__ import annotations

import threading
from collections import Counter
from typing import Final

import msgspec

from groundswell.errors import GroundswellError, NotFound, Unauthorized
from groundswell.experiments.scorecard import Scorecard
from groundswell.ingest.dead_letters import Letter
from groundswell.ingest.ledgers import read_ledgers
from groundswell.ingest.refusals import Refusals
from groundswell.lake.contract import Snapshot
from groundswell.log.contract import EVENTS_TOPIC
from groundswell.model.clock import US_PER_S, parse_us
from groundswell.model.definitions import Definitions, ExperimentDef
from groundswell.store.view import ControlView
from groundswell.web.ports import (
    Commit,
    DeadLetter,
    DeadLetterPage,
    ExperimentSummary,
    Headline,
    Overview,
    PartitionLag,
    RunState,
    Throughput,
)
from groundswell.wiring.cards import CardCache
from groundswell.wiring.installation import Installation

__all__ = ["InstalledPorts"]

INTERVAL_S: Final = 10
INTERVALS: Final = 30
BEHIND_US: Final = 60 * US_PER_S  # a partition with events that wait is behind once its data is older than this


class InstalledPorts:
    """Implements the ports of ``web`` and ``collector`` over an installation."""

    def __init__(self, installation: Installation) -> None:
        self._installation = installation
        self._view = ControlView(installation.store, installation.clock)
        self._cards = CardCache(installation.scorecards, installation.lake, installation.clock)
        self._letters = installation.dead_letters()  # reads on from where it was, one reader at a time
        self._refusals = Refusals(installation.log)
        self._letters_lock = threading.Lock()

    # --- from memory -------------------------------------------------------------------------------------------

    def definitions(self) -> Definitions:
        return self._view.definitions()

    def resolve_key(self, key: str) -> str:
        return self._view.resolve_key(key)

    def authorize(self, key: str | None) -> str:
        if not key:
            raise Unauthorized("no key; send `Authorization: Bearer KEY`, made with `groundswell keys create SOURCE`")
        return self._view.resolve_key(key)

    # --- pages -------------------------------------------------------------------------------------------------

    def overview(self) -> Overview:
        here = self._installation
        problems: list[str] = []
        if self._view.problem is not None:
            problems.append(
                f"the control store does not answer: {self._view.problem}; the last known definitions serve"
            )
        current = here.lake.current()
        waiting: dict[str, int] = {}
        refused: dict[str, int] = {}
        try:
            with self._letters_lock:
                waiting = self._letters.reasons()
                refused = self._refusals.reasons()
        except GroundswellError as error:
            problems.append(f"dead letters and refusals cannot be read: {error}")
        return Overview(
            at_us=here.clock.now_us(),
            definitions_version=self.definitions().version,
            sources=tuple(read_ledgers(here.log, here.lake)),
            partitions=self._partitions(current),
            data_to_us=current.state.as_of_us if current else None,
            last_commit=Commit(snapshot_id=current.snapshot_id, committed_at_us=current.committed_at_us)
            if current
            else None,
            dead_letters=waiting,
            refused=refused,
            throughput=self._throughput(),
            problems=tuple(problems),
        )

    def experiments(self) -> tuple[ExperimentSummary, ...]:
        definitions = self.definitions()
        now_us = self._installation.clock.now_us()
        states: dict[str, RunState] = {name: _state(one, now_us) for name, one in definitions.experiments.items()}
        begun = [name for name, state in states.items() if state in {"running", "ended"}]
        try:
            cards = self._cards.cards(begun, definitions.version) if begun else {}
        except GroundswellError:
            cards = {}  # each experiment's own page says why
        found = [
            _summary(name, definition, states[name], cards.get(name))
            for name, definition in definitions.experiments.items()
        ]
        order: dict[RunState, int] = {"running": 0, "scheduled": 1, "draft": 2, "ended": 3}
        return tuple(sorted(found, key=lambda one: (order[one.state], one.name)))

    def scorecard(self, name: str) -> dict[str, object]:
        definitions = self.definitions()
        if name not in definitions.experiments:
            msg = f"no experiment is named {name!r}"
            raise NotFound(msg)
        return msgspec.to_builtins(self._cards.cards([name], definitions.version)[name])

    def dead_letters(
        self, *, reason: str | None = None, source: str | None = None, cursor: str | None = None, limit: int = 50
    ) -> DeadLetterPage:
        with self._letters_lock:
            page, following = self._letters.page(reason=reason, source=source, cursor=cursor, limit=limit)
            reasons = self._letters.reasons()
        return DeadLetterPage(letters=tuple(_shown(letter) for letter in page), reasons=reasons, next_cursor=following)

    # --- parts -------------------------------------------------------------------------------------------------

    def _partitions(self, current: Snapshot | None) -> tuple[PartitionLag, ...]:
        log = self._installation.log
        watermarks = current.state.watermarks_us if current else {}
        offsets = current.state.offsets if current else {}
        ends = log.ends(EVENTS_TOPIC)
        now_us = self._installation.clock.now_us()
        found: list[PartitionLag] = []
        for partition in sorted(ends):
            others = {other: end for other, end in ends.items() if other != partition}
            waiting = sum(log.pending(EVENTS_TOPIC, {**others, partition: offsets.get(partition, 0)}).values())
            mark = watermarks.get(partition)
            found.append(
                PartitionLag(
                    partition=partition,
                    events_behind=waiting,
                    watermark_us=mark,
                    behind=bool(waiting) and (mark is None or mark < now_us - BEHIND_US),
                )
            )
        return tuple(found)

    def _throughput(self) -> Throughput:
        """Return committed events by interval, from what the live snapshots say of themselves."""
        now_us = self._installation.clock.now_us()
        ends_at_us = now_us - now_us % (INTERVAL_S * US_PER_S)
        committed: Counter[int] = Counter()
        before: int | None = None
        for snapshot in self._installation.lake.snapshots():
            total = sum(counts.committed for counts in snapshot.state.ledger.values())
            if before is not None:
                committed[(ends_at_us - snapshot.committed_at_us) // (INTERVAL_S * US_PER_S)] += total - before
            before = total
        return Throughput(
            interval_s=INTERVAL_S,
            ends_at_us=ends_at_us,
            committed=tuple(max(0, committed[interval]) for interval in range(INTERVALS - 1, -1, -1)),
        )


def _state(definition: ExperimentDef, now_us: int) -> RunState:
    if definition.start is None:
        return "draft"
    if now_us < parse_us("start", definition.start):
        return "scheduled"
    if definition.end is not None and now_us >= parse_us("end", definition.end):
        return "ended"
    return "running"


def _summary(name: str, definition: ExperimentDef, state: RunState, card: Scorecard | None) -> ExperimentSummary:
    return ExperimentSummary(
        name=name,
        state=state,
        unit=definition.unit,
        variants=definition.variants,
        start_us=parse_us("start", definition.start) if definition.start else None,
        end_us=parse_us("end", definition.end) if definition.end else None,
        metrics=definition.metrics,
        description=definition.description,
        units=sum(card.units.values()) if card else None,
        srm_ok=card.srm.ok if card else None,
        headline=_headline(card) if card else None,
    )


def _headline(card: Scorecard) -> Headline | None:
    if not card.results:
        return None
    first = card.results[0]
    interval = first.relative if card.shown == "absolute" else first.always_valid_relative
    return Headline(
        metric=first.metric,
        variant=first.variant,
        better="lower" if first.better == "lower" else "higher",
        estimate=first.relative.estimate,
        low=interval.low,
        high=interval.high,
    )


def _shown(letter: Letter) -> DeadLetter:
    return DeadLetter(
        id=letter.id,
        source=letter.source,
        reason=letter.reason,
        received_at_us=letter.received_at_us,
        field=letter.field,
        message=letter.message,
        event_id=letter.event_id,
        type=letter.type,
        content=letter.raw.decode("utf-8", "replace"),
    )
