"""One seed, one run: clients send, processes die, and then everything must add up.

    groundswell simulate --seed 7

The same seed gives the same run. A failure's message names the seed that replays it.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Final

from groundswell.errors import PromiseBroken, Transient
from groundswell.ingest.committer import Committer
from groundswell.ingest.ledgers import read_ledgers
from groundswell.lake.compaction import compact
from groundswell.lake.contract import Lake
from groundswell.log.contract import DEAD_TOPIC, EVENTS_TOPIC, INTAKE_TOPIC, EventLog
from groundswell.model.clock import parse_us
from groundswell.model.ledger import IntakeCounts, SourceLedger
from groundswell.simulate.clients import Clients
from groundswell.simulate.pipeline import SOURCE, Killed, Pipeline, SeededFaults
from groundswell.testing.clock import ManualClock
from groundswell.testing.lake import CommitFault, FaultyLake, MemoryLake
from groundswell.testing.log import FaultyEventLog, MemoryEventLog
from groundswell.wire.intake import decode_intake

__all__ = ["run_seed", "simulate"]

STEPS: Final = 400
KILL_CHANCE: Final = 0.04
FAULTY_COMMITS: Final = 0.15
COMMIT_FAULTS: Final[tuple[CommitFault, ...]] = ("fails", "answer_lost", "race_lost", "conflict")
WORKERS: Final = 2
START: Final = "2026-01-05T00:00:00Z"

MakeCommitter = Callable[[Lake, SeededFaults], Committer]


def run_seed(seed: int) -> str:
    """Run one seed and return a line that tells what happened.

    Raises:
        PromiseBroken: something was lost, doubled or does not add up; the message names the seed.
    """
    with tempfile.TemporaryDirectory(prefix="groundswell-simulate-") as folder:
        return simulate(seed, Path(folder))


def simulate(
    seed: int,
    folder: Path,
    *,
    make_committer: MakeCommitter = lambda lake, faults: Committer(lake, faults=faults),
    steps: int = STEPS,
) -> str:
    """Run ``steps`` random steps under faults, then drain without them, then check."""
    rng = Random(seed)
    clock = ManualClock(parse_us("start", START))
    faults = SeededFaults(rng, KILL_CHANCE)
    log = FaultyEventLog(MemoryEventLog(clock=clock, faults=faults), rng)
    lake = FaultyLake(MemoryLake(clock=clock), clock=clock, faults=_commit_faults(rng, faults))
    clients = Clients(rng)
    pipeline = Pipeline(
        log,
        lake,
        folder,
        clock=clock,
        faults=faults,
        workers=WORKERS,
        make_committer=make_committer,
        compact=lambda: compact(lake, clock=clock, faults=faults),
    )
    for _ in range(steps):
        _step(rng, pipeline, clients, clock)
    faults.chance = 0.0
    log.settle()
    for request in clients.outstanding():
        pipeline.collect(request.body)
    pipeline.drain()
    wrong = _check(log, lake, clients)
    if wrong:
        msg = f"seed {seed}: " + "; ".join(wrong) + f"; replay it with `groundswell simulate --seed {seed}`"
        raise PromiseBroken(msg)
    kills = sum(faults.killed.values())
    rows = sum(file.rows for file in lake.files())
    return (
        f"seed {seed}: {rows} events once each after {kills} kills at {len(faults.killed)} steps; every ledger adds up"
    )


def _commit_faults(rng: Random, faults: SeededFaults) -> Iterator[CommitFault | None]:
    while True:
        yield rng.choice(COMMIT_FAULTS) if faults.chance and rng.random() < FAULTY_COMMITS else None


def _step(rng: Random, pipeline: Pipeline, clients: Clients, clock: ManualClock) -> None:
    chance = rng.random()
    if chance < 0.45:
        request = clients.request(clock.now_us())
        try:
            pipeline.collect(request.body)
        except (Killed, Transient):
            clients.lost(request)
        else:
            if rng.random() < 0.05:
                clients.lost(request)  # the answer is lost on its way, so the client sends again
    elif chance < 0.75:
        pipeline.work(rng.randrange(pipeline.workers))
    elif chance < 0.93:
        pipeline.commit()
    elif chance < 0.97:
        pipeline.compact()
    else:
        clock.sleep(rng.randrange(1, 3600))


def _check(log: EventLog, lake: Lake, clients: Clients) -> list[str]:
    expected = clients.expected
    table = lake.read(lake.files(), ["event_id", "source"])
    found = Counter(table.column("event_id").to_pylist())
    wrong: list[str] = []
    if lost := sorted(expected.committed - found.keys()):
        wrong.append(f"{len(lost)} events were lost, {lost[0]} first")
    if doubled := sorted(event for event, times in found.items() if times > 1):
        wrong.append(f"{len(doubled)} events are in the lake more than once, {doubled[0]} first")
    if foreign := sorted(found.keys() - expected.committed):
        wrong.append(f"{len(foreign)} events are in the lake that belong elsewhere, {foreign[0]} first")
    return wrong + _ledgers(log, lake)


def _ledgers(log: EventLog, lake: Lake) -> list[str]:
    ledgers = {one.source: one for one in read_ledgers(log, lake)}
    one = ledgers.get(SOURCE, SourceLedger(source=SOURCE))
    recounted = IntakeCounts()
    for record in log.read(INTAKE_TOPIC, 0, 0, bytes_max=2**40):
        recounted += decode_intake(record.payload).counts[SOURCE]
    in_log = sum(log.tally(EVENTS_TOPIC).values())
    rows = sum(file.rows for file in lake.files())
    wrong: list[str] = []
    if one.intake_off_by or one.intake != recounted:
        wrong.append(f"intake ledger {one.intake}, recounted {recounted}")
    if one.intake.accepted != in_log:
        wrong.append(f"accepted {one.intake.accepted} != {in_log} events in the log")
    if one.lake_off_by or one.in_flight:
        wrong.append(f"accepted {one.entered} != settled {one.lake.settled} + in flight {one.in_flight}")
    if one.lake.committed != rows:
        wrong.append(f"committed {one.lake.committed} != {rows} rows in the lake")
    if log.ends(DEAD_TOPIC)[0] == 0 and one.lake.dead_lettered:
        wrong.append(f"{one.lake.dead_lettered} dead letters were counted and none was written")
    return wrong
