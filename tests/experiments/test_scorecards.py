from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from groundswell import stats
from groundswell.errors import NotComputable, NotFound, SnapshotGone
from groundswell.experiments.text import scorecard_text
from groundswell.model.clock import US_PER_S, format_us, parse_us
from groundswell.model.moments import Moments

DAY_US = 86_400 * US_PER_S
START_US = parse_us("start", "2026-01-05")
LATER_US = START_US + 15 * DAY_US

People = Callable[..., list[dict[str, Any]]]


def _outcome(events: list[dict[str, Any]], variant: str) -> list[float]:
    arm = {event["user_id"] for event in events if event["properties"].get("variant") == variant}
    spent = dict.fromkeys(sorted(arm), 0.0)
    for event in events:
        if event["type"] == "purchase" and event["user_id"] in spent:
            spent[event["user_id"]] += event["properties"]["revenue"]
    return list(spent.values())


def test_a_scorecard_equals_the_statistics_computed_by_hand(bench: Any, people: People) -> None:
    events = people(600)
    bench.ingest(events, LATER_US)

    card = bench.scorecards.compute(["new_checkout"]).scorecards["new_checkout"]

    revenue = next(result for result in card.results if result.metric == "revenue_per_user")
    by_hand = stats.compare(Moments.of(_outcome(events, "treatment")), Moments.of(_outcome(events, "control")))
    assert revenue.mean == pytest.approx(by_hand.treatment.estimate, rel=1e-12)
    assert revenue.absolute.low == pytest.approx(by_hand.absolute.low, rel=1e-9)
    assert revenue.p_value == pytest.approx(by_hand.p_value, rel=1e-9)
    assert revenue.always_valid.high == pytest.approx(by_hand.always_valid.high, rel=1e-9)
    assert card.units == {"control": 300, "treatment": 300}


def test_recomputing_gives_the_same_bytes_but_for_the_time(bench: Any, people: People) -> None:
    snapshot = bench.ingest(people(200), LATER_US)
    first = bench.scorecards.compute(["new_checkout"])
    bench.ingest(people(200, first=200), LATER_US)
    bench.clock.sleep(3600)

    again = bench.scorecards.compute(
        ["new_checkout"], snapshot_id=snapshot, definitions_version=first.definitions.version
    )

    old, new = first.scorecards["new_checkout"], again.scorecards["new_checkout"]
    assert old.computed_at != new.computed_at
    assert msgspec.structs.replace(new, computed_at=old.computed_at).to_json() == old.to_json()


def test_a_deleted_experiment_still_recomputes(bench: Any, people: People) -> None:
    snapshot = bench.ingest(people(100), LATER_US)
    version = bench.store.version()
    before = bench.scorecards.compute(["new_checkout"]).scorecards["new_checkout"]
    bench.store.delete("experiment", "new_checkout", by="tester")

    again = bench.scorecards.compute(["new_checkout"], snapshot_id=snapshot, definitions_version=version)

    assert again.scorecards["new_checkout"].results == before.results
    with pytest.raises(NotFound, match="new_checkout"):
        bench.scorecards.compute(["new_checkout"])


def test_an_ended_experiment_shows_the_fixed_interval_and_a_running_one_the_always_valid(
    bench: Any, people: People
) -> None:
    bench.ingest(people(100) + people(100, experiment="ended"), LATER_US)

    cards = bench.scorecards.compute(["new_checkout", "ended"]).scorecards

    assert (cards["new_checkout"].status, cards["new_checkout"].shown) == ("running", "always_valid")
    assert (cards["ended"].status, cards["ended"].shown) == ("ended", "absolute")


def test_a_broken_split_is_said_first_and_loud(bench: Any, people: People) -> None:
    lost = [event for event in people(2000) if int(event["user_id"][1:]) % 8 != 1]
    bench.ingest(lost, LATER_US)

    card = bench.scorecards.compute(["new_checkout"]).scorecards["new_checkout"]

    assert card.srm.ok is False
    assert "SAMPLE RATIO MISMATCH" in scorecard_text(card).splitlines()[2]


def test_what_cannot_be_computed_is_null_with_its_reason(bench: Any, people: People) -> None:
    only_control = [event for event in people(20) if int(event["user_id"][1:]) % 2 == 0]
    bench.ingest(only_control, LATER_US)

    card = bench.scorecards.compute(["new_checkout"]).scorecards["new_checkout"]

    for result in card.results:
        assert result.absolute.estimate is None
        assert result.p_value is None
        assert "no unit" in result.reasons["absolute"]
    assert b"NaN" not in card.to_json()


def test_an_empty_lake_is_said_not_shown_as_no_effect(bench: Any) -> None:
    with pytest.raises(NotComputable, match="nothing was ingested"):
        bench.scorecards.compute(["new_checkout"])


def test_an_unknown_snapshot_is_gone(bench: Any, people: People) -> None:
    bench.ingest(people(10), LATER_US)

    with pytest.raises(SnapshotGone):
        bench.scorecards.compute(["new_checkout"], snapshot_id=99)


def test_a_published_scorecard_is_kept_with_its_moments_and_its_snapshot(bench: Any, people: People) -> None:
    snapshot = bench.ingest(people(100), LATER_US)

    card, number = bench.scorecards.publish("new_checkout", by="tester")

    kept = bench.store.scorecard(number)
    assert kept.body == card.to_json()
    assert kept.info.snapshot_id == snapshot
    cells = msgspec.json.decode(kept.moments)["moments"]
    assert {cell["metric"] for cell in cells} == {"buyers", "revenue_per_user", "order_value"}


def test_a_change_is_explained_by_late_events_and_by_new_time(bench: Any, people: People) -> None:
    old = bench.ingest(people(100), START_US + 10 * DAY_US)
    late = {
        "event_id": "late",
        "type": "purchase",
        "ts": format_us(START_US + 2 * DAY_US),
        "user_id": "u9",
        "properties": {"revenue": 500.0},
    }
    new = {**late, "event_id": "new", "ts": format_us(START_US + 12 * DAY_US), "user_id": "u7"}
    bench.ingest([late, new], LATER_US)

    explained = bench.scorecards.explain("new_checkout", against=old)

    from groundswell.experiments.explain import explanation_text

    text = explanation_text(explained)
    definitions, rest = text.split("late events:")
    late_lines, new_lines = rest.split("new time:")
    assert "nothing changed" in definitions
    assert "revenue_per_user/treatment: mean" in late_lines
    assert "buyers/treatment: mean" in new_lines  # u7 bought for the first time
    assert "revenue_per_user" not in new_lines  # after its window


def test_everything_that_has_started_is_one_sweep(bench: Any, people: People) -> None:
    bench.ingest(people(50), LATER_US)

    computed = bench.scorecards.compute()

    assert set(computed.scorecards) == {"new_checkout", "ended"}
