"""Compiles every kernel once, by running one event and one experiment through the whole path in a temporary folder.

The compiled code is cached beside the source, so that the first real start takes seconds instead of half a minute.
What an earlier version left there goes first: the cache looks at a kernel's own file, not at those of what it calls.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import groundswell
from groundswell.model.clock import US_PER_S
from groundswell.simulate.world import World
from groundswell.wiring.installation import Installation
from groundswell.wiring.layout import Layout

__all__ = ["forget_compiled", "warm"]

PEOPLE = 40


def warm() -> None:
    """Send a few people's events through log, lake, compaction and a scorecard."""
    forget_compiled(Path(groundswell.__file__).parent)
    from groundswell.allocation.assign import assign
    from groundswell.collector.appender import entries_of
    from groundswell.lake.compaction import compact
    from groundswell.log.contract import EVENTS_TOPIC
    from groundswell.store.manifest import read_manifest
    from groundswell.wire.decode import Body, Decoder

    with tempfile.TemporaryDirectory(prefix="groundswell-warm-") as folder:
        root = Path(folder)
        with Installation(Layout.create(root / "data")) as installation:
            now_us = installation.clock.now_us()
            world = World(seed=1, people=PEOPLE, now_us=now_us - US_PER_S)
            definitions = root / "definitions.yaml"
            definitions.write_text(world.definitions(), encoding="utf-8")
            installation.store.apply(read_manifest([definitions]), by="warm")
            known = installation.store.definitions()
            bodies: list[Body] = []
            for person in world.people():
                variants = {name: assign(name, one, person.user_id) for name, one in known.experiments.items()}
                bodies += [Body(one.body, "app", now_us) for one in world.deliveries(person, variants)]
            group = Decoder(known).decode_all(bodies)
            log = installation.log
            log.append(entries_of(group, known.version, log.partitions(EVENTS_TOPIC)))
            installation.ingest(workers=1).drain()
            compact(installation.lake, clock=installation.clock)
            installation.compute()


def forget_compiled(folder: Path) -> None:
    """Remove compiled kernels below ``folder``; they are made anew when they are next called."""
    for pattern in ("*.nbi", "*.nbc"):
        for compiled in folder.rglob(pattern):
            compiled.unlink(missing_ok=True)
