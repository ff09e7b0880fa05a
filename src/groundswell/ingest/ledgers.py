"""Both conservation ledgers by source, from the log's tallies and the lake's state: cheap enough for a page.

The tallies are kept by the log for ever and the state by every snapshot. ``audit`` recounts both from the records.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from groundswell.lake.contract import IngestState, Lake
from groundswell.log.contract import EVENTS_TOPIC, INTAKE_TOPIC, EventLog
from groundswell.model.ledger import IntakeCounts, LakeCounts, SourceLedger
from groundswell.wire.intake import tallied_intake

__all__ = ["read_ledgers"]

_ATTEMPTS_MAX = 20  # traffic moves the log while it is read; a quiet moment of a millisecond is enough


def read_ledgers(log: EventLog, lake: Lake) -> list[SourceLedger]:
    """Return the ledgers of every source that ever sent anything, by name.

    While events arrive faster than the log can be read, the two sides may be a few events apart.
    """
    ledgers: list[SourceLedger] = []
    for _ in range(_ATTEMPTS_MAX):
        before = _ends(log)
        ledgers = _read(log, lake)
        if _ends(log) == before:
            break
    return ledgers


def _ends(log: EventLog) -> tuple[Mapping[int, int], Mapping[int, int]]:
    return log.ends(EVENTS_TOPIC), log.ends(INTAKE_TOPIC)


def _read(log: EventLog, lake: Lake) -> list[SourceLedger]:
    snapshot = lake.current()
    state = snapshot.state if snapshot else IngestState()
    in_flight = log.pending(EVENTS_TOPIC, state.offsets)
    replayed: Counter[str] = Counter()
    names: set[str] = set(state.ledger)
    for (source, origin), events in log.tally(EVENTS_TOPIC).items():
        names.add(source)
        if origin == "replay":
            replayed[source] += events
    counted: Counter[str] = Counter()
    for (name, _), count in log.tally(INTAKE_TOPIC).items():
        counted[name] += count
    intake = tallied_intake(counted)
    return [
        SourceLedger(
            source=source,
            intake=intake.get(source, IntakeCounts()),
            replayed=replayed[source],
            lake=state.ledger.get(source, LakeCounts()),
            in_flight=in_flight.get(source, 0),
        )
        for source in sorted(names | intake.keys())
    ]
