"""A trace says where an event is and what became of every arrival."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from groundswell.errors import NotFound
from groundswell.ingest.dead_letters import DeadLetters
from groundswell.ingest.trace import trace

Make = Callable[..., dict[str, Any]]


def test_every_arrival_of_an_event_is_told(bench: Any, make_event: Make) -> None:
    bench.send([make_event(number) for number in range(20)])
    bench.service().run_once()
    bench.send([make_event(3)])
    bench.send([make_event(3, platform="ios")])
    bench.service().run_once()
    bench.send([make_event(3)])

    found = trace(bench.log, bench.lake, "e3")

    (event,) = found.events
    assert found.kind == "event"
    assert [one.fate for one in event.log] == ["committed", "duplicate", "conflict", "in flight"]
    assert len(event.lake) == 1
    assert (event.source, event.type, event.unit) == ("app", "view", "u3")
    assert event.remembered_until_us == event.log[0].appended_at_us + 7 * 86_400_000_000
    assert any("a retry, dropped" in line for line in found.lines())
    assert msgspec.json.encode(found)


def test_a_dead_letter_is_traced_through_its_replay(bench: Any, make_event: Make) -> None:
    bench.send([make_event(1, "like")])
    service = bench.service()
    service.run_once()
    known = bench.definitions[1]
    today = msgspec.structs.replace(known, version=2, events={**known.events, "like": known.events["view"]})
    bench.definitions[2] = today
    before = trace(bench.log, bench.lake, "e1")
    DeadLetters(bench.log, bench.lake).replay(today)
    service.run_once()

    after = trace(bench.log, bench.lake, "e1")

    assert [one.fate for one in before.events[0].log] == ["dead-lettered"]
    assert [(one.reason, one.replayed) for one in before.events[0].letters] == [("unknown_type", False)]
    assert before.events[0].lake == ()
    assert {(one.fate, one.origin) for one in after.events[0].log} == {
        ("dead-lettered", "live"),
        ("committed", "replay"),
    }
    assert [one.replayed for one in after.events[0].letters] == [True]
    assert len(after.events[0].lake) == 1


def test_one_id_of_two_sources_is_two_events(bench: Any, make_event: Make) -> None:
    bench.send([make_event(1)], source="app")
    bench.send([make_event(1)], source="web")
    bench.service().run_once()

    found = trace(bench.log, bench.lake, "e1")

    assert [(event.source, len(event.log), len(event.lake)) for event in found.events] == [("app", 1, 1), ("web", 1, 1)]


def test_a_unit_is_found_by_any_of_its_ids(bench: Any) -> None:
    bench.send(
        [
            {"event_id": "a", "type": "view", "user_id": "ann", "device_id": "phone"},
            {"event_id": "b", "type": "view", "anonymous_id": "cookie"},
            {"event_id": "c", "type": "view", "user_id": "bob", "anonymous_id": "cookie"},
        ]
    )
    bench.service().run_once()

    by_device, by_cookie = (trace(bench.log, bench.lake, unit) for unit in ("phone", "cookie"))

    assert (by_device.kind, [event.event_id for event in by_device.events]) == ("unit", ["a"])
    assert {event.event_id for event in by_cookie.events} == {"b", "c"}


def test_an_unknown_id_is_not_found(bench: Any, make_event: Make) -> None:
    bench.send([make_event(1)])
    bench.service().run_once()

    with pytest.raises(NotFound, match="'nobody' is neither an event id nor a unit"):
        trace(bench.log, bench.lake, "nobody")
