"""What ingest says while it cannot get on, and when it gives up."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import repeat
from pathlib import Path
from typing import Any, Literal

import pytest

from groundswell.errors import Unavailable
from groundswell.ingest.service import IngestHealth
from groundswell.log.contract import EVENTS_TOPIC, Entry
from groundswell.model.clock import SystemClock
from groundswell.model.definitions import Definitions
from groundswell.testing.clock import ManualClock
from groundswell.testing.lake import FaultyLake
from groundswell.wire.decode import Decoder
from groundswell.wire.record import RecordContent, encode_record
from groundswell.wiring import ingesting
from groundswell.wiring.ingesting import HealthTeller, run_ingest
from groundswell.wiring.installation import Installation
from groundswell.wiring.layout import Layout

FULL = "ingest-committer: committing to the lake: the disk is full"


def health(status: Literal["running", "healing"], commits: int = 0) -> IngestHealth:
    return IngestHealth(status, {}, {}, None, commits, 0, 0, FULL if status == "healing" else None)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def teller(clock: ManualClock, said: list[str]) -> HealthTeller:
    return HealthTeller(clock, said.append)


def test_trouble_is_told_at_once_with_its_error_and_then_once_a_minute(
    teller: HealthTeller, clock: ManualClock, said: list[str]
) -> None:
    for _ in range(240):
        teller.look(health("healing"))
        clock.advance(0.5)

    assert len(said) == 2
    assert said[0].endswith(f"ingest does not get on and tries again: {FULL}")
    assert said[0].startswith("2026-01-05T00:00:00")


def test_its_end_is_told_once_with_what_came_of_it(teller: HealthTeller, clock: ManualClock, said: list[str]) -> None:
    teller.look(health("healing", commits=3))
    clock.advance(90)
    teller.look(health("running", commits=4))
    teller.look(health("running", commits=5))

    assert [line.split(" ", 1)[1] for line in said[1:]] == ["ingest healed after 90 s, commits resumed"]


def test_trouble_that_comes_and_goes_does_not_fill_the_log(
    teller: HealthTeller, clock: ManualClock, said: list[str]
) -> None:
    for _ in range(100):
        teller.look(health("healing"))
        teller.look(health("running"))
        clock.advance(0.5)

    assert len(said) == 2


def test_a_sound_ingest_says_nothing(teller: HealthTeller, said: list[str]) -> None:
    teller.look(health("running"))

    assert said == []


@pytest.fixture
def waiting(tmp_path: Path) -> Iterator[Any]:
    """An installation whose log holds one event that is not in its lake."""
    with Installation(Layout.create(tmp_path / "data")) as installation:
        decoded = Decoder(Definitions()).decode(
            b'{"event_id":"e","type":"exposure","user_id":"u","properties":{"experiment":"x","variant":"a"}}',
            source="app",
            received_at_us=SystemClock().now_us(),
            form="ndjson",
        )
        payload = encode_record(RecordContent(decoded.batch, decoded.dead, 0))
        installation.log.append([Entry(EVENTS_TOPIC, 0, payload, {"app": 1})])
        yield installation


def test_once_gives_up_when_nothing_is_committed_and_names_the_last_error(
    waiting: Any, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingesting, "STALLED_S_MAX", 1.0)
    monkeypatch.setattr(ingesting, "POLL_S", 0.05)
    rooms = waiting.ingest_rooms()
    stuck = rooms._replace(lake=FaultyLake(rooms.lake, clock=rooms.clock, faults=repeat("fails")))

    with pytest.raises(Unavailable, match=r"committed nothing for 1 s: .*the catalog is away.*run it again"):
        run_ingest(stuck, once=True, workers=1, say=said.append)

    assert "the catalog is away" in said[0]
    assert "everything in the log is in the lake" not in said


def test_once_goes_on_through_trouble_that_ends(waiting: Any, said: list[str]) -> None:
    rooms = waiting.ingest_rooms()
    shaky = rooms._replace(lake=FaultyLake(rooms.lake, clock=rooms.clock, faults=["fails", "fails"]))

    run_ingest(shaky, once=True, workers=1, say=said.append)

    assert said[-1] == "everything in the log is in the lake"
