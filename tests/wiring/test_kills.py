"""Real processes, killed at random moments while people act: afterwards everything must add up."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from random import Random

from groundswell.ingest.ledgers import read_ledgers
from groundswell.log.contract import EVENTS_TOPIC
from groundswell.model.clock import SystemClock
from groundswell.simulate.phones import Phones
from groundswell.simulate.world import World
from groundswell.store.manifest import Manifest
from groundswell.wiring.installation import Installation
from groundswell.wiring.layout import Layout
from groundswell.wiring.supervisor import Supervisor, wait_ready
from groundswell.wiring.up import free_port, start_children

HOST = "127.0.0.1"
PEOPLE = 1_500
KILLS = 6
CLOCK = SystemClock()


def _killer(supervisor: Supervisor, done: threading.Event, killed: list[str]) -> None:
    rng = Random(11)
    while len(killed) < KILLS and not done.wait(rng.uniform(0.5, 2.5)):
        supervisor.poll()
        running = supervisor.pids()
        if len(running) == 2:
            name = rng.choice(sorted(running))
            os.kill(running[name], signal.SIGKILL)
            killed.append(name)
    while not done.wait(0.2):
        supervisor.poll()


def test_whoever_is_killed_while_people_act_every_event_is_in_the_lake_once(tmp_path: Path) -> None:
    world = World(seed=5, people=PEOPLE, now_us=CLOCK.now_us())
    layout = Layout.create(tmp_path / "data")
    with Installation(layout) as installation:
        installation.store.apply(Manifest.parse(world.definitions()), by="tester")
        key = installation.store.create_key("app", by="tester")
    port = free_port(HOST)
    supervisor = start_children(layout, host=HOST, port=port, workers=1)
    killed: list[str] = []
    done = threading.Event()
    killer = threading.Thread(target=_killer, args=(supervisor, done, killed))
    try:
        wait_ready(HOST, port, clock=CLOCK, supervisor=supervisor)
        killer.start()
        Phones(HOST, port, key, clock=CLOCK).run(world, progress=lambda _: None)
    finally:
        done.set()
        killer.join()
        supervisor.stop()

    with Installation(layout) as installation:
        installation.ingest().drain(timeout_s=60)
        rows = installation.sql("select event_id from events").column("event_id").to_pylist()
        (ledger,) = (one for one in read_ledgers(installation.log, installation.lake) if one.source == "app")
        in_log = sum(installation.log.tally(EVENTS_TOPIC).values())
        audit = installation.audit()

    assert len(killed) >= 2
    assert len(rows) == len(set(rows))
    assert set(rows) == world.ledger.valid
    assert (ledger.intake_off_by, ledger.lake_off_by, ledger.in_flight) == (0, 0, 0)
    assert in_log >= world.ledger.sent - world.ledger.refused
    assert audit.ok, audit.lines()
