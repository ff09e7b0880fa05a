from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
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


def test_an_end_that_was_set_after_the_fact_does_not_make_the_fixed_interval_valid(
    bench: Any, people: People, tmp_path: Path
) -> None:
    bench.ingest(people(600), LATER_US)
    later = tmp_path / "later.yaml"
    text = (tmp_path / "definitions.yaml").read_text()
    bench.apply(later, text.replace("  new_checkout:\n", "  new_checkout:\n    end: 2026-01-10\n"))

    card = bench.scorecards.compute(["new_checkout"]).scorecards["new_checkout"]

    assert (card.status, card.shown) == ("ended", "always_valid")


def test_an_ended_experiment_whose_windows_are_open_still_shows_the_always_valid_interval(
    bench: Any, people: People
) -> None:
    bench.ingest(people(600, experiment="ended"), START_US + 8 * DAY_US)

    card = bench.scorecards.compute(["ended"]).scorecards["ended"]

    assert (card.status, card.shown) == ("ended", "always_valid")


def test_an_arm_whose_units_are_all_alike_is_not_infinitely_certain(bench: Any, people: People) -> None:
    none_buys = [event for event in people(400) if event["type"] == "exposure" or int(event["user_id"][1:]) % 2 == 0]
    bench.ingest(none_buys, LATER_US)

    card = bench.scorecards.compute(["new_checkout"]).scorecards["new_checkout"]

    revenue = next(result for result in card.results if result.metric == "revenue_per_user")
    buyers = next(result for result in card.results if result.metric == "buyers")
    assert (revenue.mean, revenue.p_value, revenue.absolute.low) == (0.0, None, None)
    assert "no unit differs" in revenue.reasons["absolute"]
    assert buyers.method.startswith("score test")
    assert buyers.p_value is not None
    assert buyers.p_value < 1e-6
    assert buyers.always_valid.low is None


def test_few_units_get_no_always_valid_interval_and_the_reason(bench: Any, people: People) -> None:
    lopsided = [event for event in people(1200) if int(event["user_id"][1:]) % 2 == 0 or int(event["user_id"][1:]) < 60]
    bench.ingest(lopsided, LATER_US)

    card = bench.scorecards.compute(["new_checkout"]).scorecards["new_checkout"]

    assert all(result.always_valid.low is None for result in card.results)
    assert all("wants 100 in each arm" in result.reasons["always_valid"] for result in card.results)


def test_a_split_that_exclusion_hides_is_still_a_broken_split(bench: Any, people: People) -> None:
    crossed = [
        {
            **event,
            "event_id": f"again-{event['event_id']}",
            "properties": {**event["properties"], "variant": "treatment"},
        }
        for event in people(400, first=5000)
        if event["type"] == "exposure" and event["properties"]["variant"] == "control"
    ]
    only_control = [event for event in people(400, first=5000) if int(event["user_id"][1:]) % 2 == 0]
    for event in crossed:
        event["ts"] = format_us(START_US + 2 * DAY_US)
    bench.ingest([*people(1000), *only_control, *crossed], LATER_US)

    card = bench.scorecards.compute(["new_checkout"]).scorecards["new_checkout"]

    assert card.excluded["two_variants"] == 200
    assert card.srm.p_value is not None
    assert card.srm.p_value > 0.5
    assert card.srm.ok is False
    assert "before exclusion" in scorecard_text(card).splitlines()[3]


def test_a_variant_that_began_later_is_warned_about_in_windowed_metrics(bench: Any, people: People) -> None:
    late = [
        {**event, "ts": format_us(START_US + 9 * DAY_US)} if int(event["user_id"][1:]) % 2 and number % 4 else event
        for number, event in enumerate(people(1200))
    ]
    bench.ingest(late, START_US + 10 * DAY_US)

    card = bench.scorecards.compute(["new_checkout"]).scorecards["new_checkout"]

    revenue = next(result for result in card.results if result.metric == "revenue_per_user")
    assert card.srm.ok
    assert any(warning.startswith("matured_split") for warning in revenue.warnings)


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
