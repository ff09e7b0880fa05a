"""The demo: a small world acts on a real installation, and what comes out is held against what went in.

Invariants
    people reach the system through HTTP alone; nothing is put into log or lake by another way
    any broken promise raises ``PromiseBroken`` after everything was shown
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from groundswell.errors import InvalidInput, PromiseBroken, Unavailable
from groundswell.ingest.ledgers import read_ledgers
from groundswell.model.clock import SystemClock
from groundswell.simulate.phones import Phones
from groundswell.simulate.world import SentLedger, World
from groundswell.wiring.installation import Installation
from groundswell.wiring.layout import Layout
from groundswell.wiring.supervisor import wait_ready
from groundswell.wiring.up import free_port, start_children

if TYPE_CHECKING:
    from groundswell.experiments.scorecard import MetricResult, Scorecard

__all__ = ["run_demo"]

HOST: Final = "127.0.0.1"
DRAIN_S_MAX: Final = 60.0
MARK: Final = "made-by-groundswell-demo"  # only a folder with this file is ever cleared

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class _Check:
    """One promise, and how it came out."""

    promise: str
    kept: bool
    shown: str


def run_demo(folder: Path, *, people: int, seed: int, say: Say, progress: Say) -> None:
    """Run the world, print ledgers and results beside the truth, and leave the installation in ``folder``.

    Raises:
        PromiseBroken: a promise did not hold; the message names it.
        Unavailable: a process did not come up or did not finish in time.
    """
    clock = SystemClock()
    begun_s = clock.monotonic_s()
    data = _fresh(folder)
    world = World(seed=seed, people=people, now_us=clock.now_us())
    with Installation(Layout.create(data)) as installation:
        _act(installation, world, folder, people=people, progress=progress)
        progress("counting…")
        checks = _show(installation, world, say)
        took_s = clock.monotonic_s() - begun_s
    say(f"\nall of it took {took_s:.0f} s; everything is in {folder}")
    program = _program()
    say("look next:")
    say(f"  {program} up --data {data}          # pages, API and ingest; Ctrl-C stops them")
    say(f"  {program} scorecard new_checkout --data {data}")
    say(f'  {program} sql "select type, count(*) from events group by 1" --data {data}')
    say(f"  {program} audit --data {data}")
    broken = [check.promise for check in checks if not check.kept]
    if broken:
        msg = "broken: " + "; ".join(broken)
        raise PromiseBroken(msg)


def _program() -> str:
    """Return the program as it was called, so that what is printed can be pasted."""
    called = Path(sys.argv[0])
    return sys.argv[0] if called.name == "groundswell" else "groundswell"


def _fresh(folder: Path) -> Path:
    if folder.exists() and any(folder.iterdir()):
        if not (folder / MARK).exists():
            raise InvalidInput("--folder", str(folder), "must be empty or left by an earlier demo")
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MARK).touch()
    return folder / "data"


def _act(installation: Installation, world: World, folder: Path, *, people: int, progress: Say) -> None:
    from groundswell.store.manifest import read_manifest

    definitions = folder / "definitions.yaml"
    definitions.write_text(world.definitions(), encoding="utf-8")
    installation.store.apply(read_manifest([definitions]), by="demo")
    key = installation.store.create_key("app", by="demo")
    installation.close()
    port = free_port(HOST)
    progress(f"starting collector, flags and ingest on http://{HOST}:{port}")
    supervisor = start_children(installation.layout, host=HOST, port=port)
    try:
        wait_ready(HOST, port, clock=supervisor.clock, supervisor=supervisor)
        phones = Phones(HOST, port, key, clock=supervisor.clock)
        phones.run(
            world, progress=lambda done: progress(f"  {done:,} of {people:,} people, {world.ledger.sent:,} events")
        )
        progress("waiting until everything is in the lake")
        _drain(installation)
    except BaseException:
        progress(f"ingest's log ends:\n{supervisor.tail('ingest')}\nthe server's:\n{supervisor.tail('serve')}")
        raise
    finally:
        supervisor.stop()


def _drain(installation: Installation) -> None:
    from groundswell.log.contract import EVENTS_TOPIC

    deadline_s = installation.clock.monotonic_s() + DRAIN_S_MAX
    while installation.clock.monotonic_s() < deadline_s:
        current = installation.lake.current()
        if current is not None and not sum(installation.log.pending(EVENTS_TOPIC, current.state.offsets).values()):
            return
        installation.clock.sleep(0.2)
    msg = f"the lake did not catch up within {DRAIN_S_MAX:g} s"
    raise Unavailable(msg)


def _show(installation: Installation, world: World, say: Say) -> list[_Check]:
    from groundswell.cli.output import show_table

    computed = installation.compute()
    rows = read_ledgers(installation.log, installation.lake)
    say("\nWhat came in, and what became of it")
    show_table(
        ("source", "received", "= refused", "+ accepted"),
        [(row.source, row.intake.received, row.intake.refused, row.intake.accepted) for row in rows],
    )
    show_table(
        ("source", "accepted", "+ replayed", "= committed", "+ dead letters", "+ duplicates", "+ forgotten",
         "+ in flight"),
        [
            (row.source, row.intake.accepted, row.replayed, row.lake.committed, row.lake.dead_lettered,
             row.lake.deduplicated, row.lake.forgotten, row.in_flight)
            for row in rows
        ],
    )  # fmt: skip
    say("What the experiments show, beside the truth this world was made with")
    show_table(
        ("experiment", "metric", "truth", "measured", "always-valid 95%", "covers truth"), _beside(computed.scorecards)
    )
    for name, card in computed.scorecards.items():
        if card.srm.ok is False:
            say(f"{name}: SAMPLE RATIO MISMATCH (p = {card.srm.p_value:.2g}), rightly: its split was broken on purpose")
    checks = [*_promises(installation, world.ledger), *_verdicts(computed.scorecards)]
    say("\nPromises")
    for check in checks:
        say(f"  {'kept  ' if check.kept else 'BROKEN'}  {check.promise}: {check.shown}")
    return checks


def _beside(cards: dict[str, Scorecard]) -> list[tuple[str, ...]]:
    from groundswell.experiments.text import number

    rows: list[tuple[str, ...]] = []
    for truth in World.truth():
        result = _result(cards[truth.experiment], truth.metric)
        low, high = result.always_valid.low, result.always_valid.high
        covers = low is not None and high is not None and low <= truth.difference <= high
        rows.append(
            (
                truth.experiment,
                truth.metric,
                number(truth.difference),
                number(result.absolute.estimate),
                f"[{number(low, 3)}, {number(high, 3)}]",
                "yes" if covers else "no",
            )
        )
    return rows


def _result(card: Scorecard, metric: str) -> MetricResult:
    return next(result for result in card.results if result.metric == metric)


def _promises(installation: Installation, sent: SentLedger) -> list[_Check]:
    """Hold the pipeline against its own records, and against the world's."""
    audit = installation.audit()
    counted = installation.sql("select count(*) as rows, count(distinct event_id) as ids from events").to_pylist()[0]
    ids = {row["event_id"] for row in installation.sql("select event_id from events").to_pylist()}
    missing, foreign = len(sent.valid - ids), len(ids - sent.valid)
    received = sum(row.intake.received for row in read_ledgers(installation.log, installation.lake))
    return [
        *(_Check(check.title, check.ok, "; ".join(check.checked)) for check in audit.promises),
        _Check(
            "every event the phones sent was received",
            received >= sent.sent,
            f"{sent.sent:,} sent, {received:,} received",
        ),
        _Check(
            "every valid event is in the lake once",
            missing == 0 and foreign == 0 and counted["rows"] == counted["ids"] == len(sent.valid),
            f"{counted['rows']:,} rows for {len(sent.valid):,} events; {missing} missing, {foreign} unknown",
        ),
    ]


def _verdicts(cards: dict[str, Scorecard]) -> list[_Check]:
    broken, sound = cards["quick_replies"], [cards["new_checkout"], cards["blue_button"]]
    return [
        _Check("a broken split is noticed", broken.srm.ok is False, f"p = {broken.srm.p_value:.2g}"),
        _Check("a sound split raises no alarm", all(card.srm.ok for card in sound), "two experiments"),
    ]
