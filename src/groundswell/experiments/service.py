"""Scorecards on demand: choose the snapshot and the definitions, ask the engine once, arrange, publish.

Invariants
    one call of the engine serves any number of experiments
    a published scorecard keeps its moments and its definitions version, and its snapshot is tagged for as long
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from groundswell.engine.contract import Engine
from groundswell.engine.plan_of import plan_experiment
from groundswell.errors import NotComputable, NotFound
from groundswell.experiments.analysis import build_scorecard
from groundswell.experiments.explain import Explanation, Step
from groundswell.experiments.moments_form import moments_json
from groundswell.experiments.scorecard import Scorecard
from groundswell.lake.contract import Lake, Snapshot
from groundswell.model.clock import US_PER_S, Clock, parse_us
from groundswell.model.definitions import Definitions, ExperimentDef
from groundswell.model.plan import Aggregates, Plan
from groundswell.store.control import Store

__all__ = ["Computed", "Scorecards"]

PUBLISHED_KEEP_S: Final = 400 * 86_400  # a year and a month: last year's decision can be questioned


@dataclass(frozen=True, slots=True)
class Computed:
    """Scorecards of one sweep, and what they were made from."""

    scorecards: dict[str, Scorecard]
    aggregates: Aggregates
    definitions: Definitions
    snapshot: Snapshot


class Scorecards:
    """Computes, publishes and recomputes scorecards."""

    def __init__(self, lake: Lake, engine: Engine, store: Store, *, clock: Clock) -> None:
        self._lake = lake
        self._engine = engine
        self._store = store
        self._clock = clock

    def compute(
        self,
        names: Sequence[str] | None = None,
        *,
        snapshot_id: int | None = None,
        definitions_version: int | None = None,
        as_of_us: int | None = None,
    ) -> Computed:
        """Return scorecards of ``names`` (None: every experiment that has started) in one sweep.

        Raises:
            NotFound: no such experiment in that version of the definitions.
            SnapshotGone: the snapshot has expired.
            NotComputable: nothing is in the lake yet.
        """
        definitions = self._store.definitions(definitions_version)
        snapshot = self._snapshot(snapshot_id)
        chosen = self._chosen(names, definitions)
        plan = Plan(
            tuple(plan_experiment(name, definitions.experiments[name], definitions.metrics) for name in chosen),
            as_of_us,
        )
        aggregates = self._engine.execute(plan, snapshot.snapshot_id)
        now_us = self._clock.now_us()
        cards = {
            name: build_scorecard(
                name,
                definitions,
                aggregates,
                snapshot,
                computed_at_us=now_us,
                end_planned=self._end_planned(name, definitions),
            )
            for name in chosen
        }
        return Computed(cards, aggregates, definitions, snapshot)

    def _end_planned(self, name: str, definitions: Definitions) -> bool:
        """Return whether the end was defined before it had come: nobody chose it by the data."""
        end = definitions.experiments[name].end
        if end is None:
            return False
        since_us: int | None = None  # when this end began to stand
        for revision in sorted(self._store.history("experiment", name), key=lambda one: one.version):
            if revision.version > definitions.version:
                break
            same = isinstance(revision.definition, ExperimentDef) and revision.definition.end == end
            since_us = (since_us or revision.at_us) if same else None
        return since_us is not None and since_us <= parse_us("end", end)

    def _snapshot(self, snapshot_id: int | None) -> Snapshot:
        if snapshot_id is not None:
            return self._lake.snapshot(snapshot_id)
        current = self._lake.current()
        if current is None or not current.state.watermarks_us:
            raise NotComputable(
                "the lake is empty: nothing was ingested yet; send events, then run `groundswell ingest`"
            )
        return current

    @staticmethod
    def _chosen(names: Sequence[str] | None, definitions: Definitions) -> list[str]:
        if names is None:
            return [name for name, one in definitions.experiments.items() if one.start is not None]
        for name in names:
            if name not in definitions.experiments:
                known = ", ".join(sorted(definitions.experiments)) or "none"
                msg = f"experiment == {name!r}, is not defined in version {definitions.version}; defined: {known}"
                raise NotFound(msg)
        return list(names)

    def publish(self, name: str, *, by: str, snapshot_id: int | None = None) -> tuple[Scorecard, int]:
        """Compute one scorecard and keep it: its body, its moments, its snapshot for ``PUBLISHED_KEEP_S``.

        Returns:
            The scorecard and the number under which it was published.
        """
        computed = self.compute([name], snapshot_id=snapshot_id)
        card = computed.scorecards[name]
        tag = f"scorecard-{name}-{computed.snapshot.snapshot_id}"
        # the tag comes first: whatever is published can be recomputed
        self._lake.tag(tag, computed.snapshot.snapshot_id, keep_s=PUBLISHED_KEEP_S)
        number = self._store.save_scorecard(
            name,
            snapshot_id=computed.snapshot.snapshot_id,
            definitions_version=computed.definitions.version,
            as_of_us=computed.aggregates.as_of_us,
            body=card.to_json(),
            moments=moments_json(computed.aggregates),
            keep_until_us=self._clock.now_us() + PUBLISHED_KEEP_S * US_PER_S,
            by=by,
        )
        return card, number

    def explain(self, name: str, *, against: int, snapshot_id: int | None = None) -> Explanation:
        """Return why today's scorecard differs from the one at snapshot ``against``, one cause a step."""
        old = self._lake.snapshot(against)
        version = old.state.definitions_version or None
        before = self.compute([name], snapshot_id=against, definitions_version=version)
        redefined = self.compute([name], snapshot_id=against)
        old_as_of_us = before.aggregates.as_of_us
        later = self.compute([name], snapshot_id=snapshot_id, as_of_us=old_as_of_us)
        today = self.compute([name], snapshot_id=snapshot_id)
        return Explanation(
            before.scorecards[name],
            (
                Step("definitions", redefined.scorecards[name]),
                Step("late events", later.scorecards[name]),
                Step("new time", today.scorecards[name]),
            ),
        )
