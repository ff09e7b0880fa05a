"""Dead letters wait with their reason, are shown once, and are replayed once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from groundswell.errors import InvalidInput, NotFound
from groundswell.ingest.dead_letters import DeadLetters
from groundswell.model.definitions import Definitions, EventDef
from groundswell.model.ledger import LakeCounts

Make = Callable[..., dict[str, Any]]


def fixed(bench: Any) -> Definitions:
    """Today's definitions: ``like`` is known now."""
    known = bench.definitions[1]
    definitions = msgspec.structs.replace(
        known, version=2, events={**known.events, "like": EventDef(properties=("watch_ms",))}
    )
    bench.definitions[2] = definitions
    return definitions


def test_a_dead_letter_waits_with_its_reason_and_content(bench: Any, make_event: Make) -> None:
    bench.send([make_event(1), make_event(2, "like"), make_event(3, "purchase", properties={"revenue": "x"})])
    bench.service().run_once()
    letters = DeadLetters(bench.log, bench.lake)

    found, following = letters.page()

    assert {(one.event_id, one.reason, one.type) for one in found} == {
        ("e2", "unknown_type", "like"),
        ("e3", "wrong_type", "purchase"),
    }
    assert following is None
    assert letters.reasons() == {"unknown_type": 1, "wrong_type": 1}
    assert all(letters.show(one.id) == one for one in found)
    assert all(b'"event_id"' in one.raw and one.received_at_us == bench.clock.now_us() for one in found)
    assert bench.state().ledger["app"] == LakeCounts(committed=1, dead_lettered=2)


def test_a_letter_above_the_committed_offsets_is_not_shown(bench: Any, make_event: Make) -> None:
    bench.send([make_event(1, "like")])
    bench.worker().step()  # its letters are in the log, its contribution is never committed

    waiting = DeadLetters(bench.log, bench.lake).count()

    assert bench.log.ends("dead_letters")[0] == 1
    assert waiting == 0


def test_letters_that_crashes_repeated_are_shown_once(bench: Any, make_event: Make) -> None:
    bench.send([make_event(1, "like")])
    for _ in range(3):
        bench.worker().step()
    bench.service().run_once()

    found, _ = DeadLetters(bench.log, bench.lake).page()

    assert bench.log.ends("dead_letters")[0] == 4
    assert len(found) == 1


def test_a_replayed_letter_is_no_duplicate_and_is_replayed_once(bench: Any, make_event: Make) -> None:
    bench.send([make_event(1), make_event(2, "like")])
    service = bench.service()
    service.run_once()
    letters = DeadLetters(bench.log, bench.lake)
    bench.clock.advance(3600)

    first = letters.replay(fixed(bench))
    again = letters.replay(fixed(bench))
    service.run_once()

    assert (first.replayed, first.failed, again.replayed) == (1, 0, 0)
    assert bench.ids() == {"e1": 1, "e2": 1}
    assert bench.state().ledger["app"] == LakeCounts(committed=2, dead_lettered=1)
    assert bench.log.tally("events")[("app", "replay")] == 1
    assert letters.count() == 0


def test_a_replay_does_not_move_an_event_in_time(bench: Any, make_event: Make) -> None:
    bench.send([make_event(1, "like")])
    service = bench.service()
    service.run_once()
    sent_us = bench.clock.now_us()
    bench.clock.advance(5 * 24 * 3600)

    DeadLetters(bench.log, bench.lake).replay(fixed(bench))
    service.run_once()

    table = bench.lake.read(bench.lake.files(), ["ts", "received_at"])
    assert set(table.column("ts").cast("int64").to_pylist()) == {sent_us}
    assert set(table.column("received_at").cast("int64").to_pylist()) == {sent_us}


def test_what_fails_again_stays_with_todays_reason(bench: Any, make_event: Make) -> None:
    bench.send([make_event(1, "like", properties={"watch_ms": "long"})])
    bench.service().run_once()
    letters = DeadLetters(bench.log, bench.lake)

    report = letters.replay(fixed(bench))

    (waiting,), _ = letters.page()
    assert (report.replayed, report.failed, report.reasons) == (0, 1, {"wrong_type": 1})
    assert (waiting.reason, waiting.field, waiting.attempts) == ("wrong_type", "watch_ms", 1)
    assert letters.reasons() == {"wrong_type": 1}
    assert DeadLetters(bench.log, bench.lake).page() == ([waiting], None)


def test_a_replay_takes_only_what_was_asked_for(bench: Any, make_event: Make) -> None:
    bench.send([make_event(number, "like") for number in range(5)], source="app")
    bench.send([make_event(number, "like") for number in range(5)], source="web")
    service = bench.service()
    service.run_once()
    letters = DeadLetters(bench.log, bench.lake)
    (one,), _ = letters.page(source="app", limit=1)

    by_id = letters.replay(fixed(bench), ids=[one.id])
    by_source = letters.replay(fixed(bench), source="web")

    assert (by_id.replayed, by_source.replayed) == (1, 5)
    assert letters.count() == 4
    with pytest.raises(NotFound, match="does not wait"):
        letters.replay(fixed(bench), ids=[one.id])


def test_pages_show_every_letter_once_newest_first(bench: Any, make_event: Make) -> None:
    for number in range(25):
        bench.send([make_event(number, "like")])
    bench.service().run_once()
    letters = DeadLetters(bench.log, bench.lake)

    seen: list[str | None] = []
    cursor: str | None = None
    for _ in range(10):
        page, cursor = letters.page(limit=7, cursor=cursor)
        seen += [one.event_id for one in page]
        if cursor is None:
            break

    assert len(seen) == 25
    assert set(seen) == {f"e{number}" for number in range(25)}
    assert letters.page(reason="unknown_type", type="like", source="app")[0]
    assert letters.page(reason="nonsense") == ([], None)


@pytest.mark.parametrize("bad", ["", "1-2", "1-2-x", "a", "-1-2-3", "9" * 30 + "-1-1"])
def test_an_id_that_is_none_is_told_so(bench: Any, bad: str) -> None:
    with pytest.raises(InvalidInput, match="dead letter id"):
        DeadLetters(bench.log, bench.lake).show(bad)


def test_an_unknown_letter_is_not_found(bench: Any) -> None:
    with pytest.raises(NotFound, match="dead letter 0-1-2 is not known"):
        DeadLetters(bench.log, bench.lake).show("0-1-2")
