"""What a page says about numbers: verdicts, reasons, and what is withheld."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from groundswell.errors import InvalidInput
from groundswell.model.ledger import IntakeCounts, LakeCounts
from groundswell.web.list_view import view_dead_letters, view_experiments
from groundswell.web.overview_view import view_overview
from groundswell.web.ports import DeadLetterPage, ExperimentSummary, Overview, SourceLedger, Throughput
from groundswell.web.scorecard_view import Row, ScorecardView, view_scorecard


def _rows(view: ScorecardView) -> dict[str, Row]:
    return {group.name: group.rows[0] for group in view.groups}


def _one(cards: Any, **changes: Any) -> Row:
    """Return the view of one result, the running card's first, with ``changes``."""
    card = cards["running"]
    shown = {key: changes.pop(key) for key in ("shown", "status") if key in changes}
    return view_scorecard(card | shown | {"results": [card["results"][0] | changes]}).groups[0].rows[0]


def test_a_verdict_comes_from_the_always_valid_interval_while_it_runs(cards: Any):
    fixed_only = {"absolute": {"estimate": 1, "low": 0.5, "high": 1.5}, "always_valid": {"low": -1, "high": 3}}

    running = _one(cards, **fixed_only)
    ended = _one(cards, **fixed_only, shown="absolute", status="ended")

    assert (running.tone, running.reading) == ("flat", "Undecided")
    assert (ended.tone, ended.reading) == ("good", "Better")


def test_better_is_what_the_metric_says(cards: Any):
    rows = _rows(view_scorecard(cards["running"]))

    assert {name: row.reading for name, row in rows.items()} == {
        "buyers": "Better",
        "revenue_per_user": "Undecided",
        "order_value": "Worse",
        "refunds_per_user": "Worse",
        "retained_after_28_days": "Not computable",
        "complaints_per_user": "Undecided",
    }


def test_an_interval_that_ends_at_zero_decides_nothing(cards: Any):
    assert _one(cards, always_valid={"low": 0.0, "high": 1.0}).reading == "Undecided"


def test_a_side_without_a_bound_can_still_decide(cards: Any):
    row = _one(cards, always_valid={"low": 0.01, "high": None})

    assert (row.reading, row.interval) == ("Better", "+1.00 pp to +∞")


def test_nothing_is_read_while_the_split_is_off(cards: Any):
    view = view_scorecard(cards["broken"])

    assert view.alarm
    assert {row.tone for group in view.groups for row in group.rows} == {"none"}
    assert view.tally == (("none", "5 withheld"), ("none", "1 not computable"))


def test_what_cannot_be_computed_is_a_dash_with_its_reason_never_a_zero(cards: Any):
    row = _rows(view_scorecard(cards["running"]))["retained_after_28_days"]

    assert (row.means, row.difference, row.interval) == (("–", "–"), "–", "–")
    assert row.reasons == (("mean", "no unit's 28-day window has closed yet; the first closes on 2026-02-02"),)
    assert (row.bar, row.point) == (None, None)


def test_a_share_is_shown_in_per_cent_and_its_difference_in_points(cards: Any):
    row = _rows(view_scorecard(cards["running"]))["buyers"]

    assert row.means == ("10.61%", "11.05%")
    assert (row.difference, row.difference_also) == ("+4.16%", "+0.441 pp")


def test_the_relative_interval_is_drawn_where_there_is_one(cards: Any):
    given = _one(cards, always_valid_relative={"low": 0.01, "high": 0.02})
    scaled = _one(cards)

    assert given.bar is not None
    assert scaled.bar is not None
    assert given.bar != scaled.bar


def test_both_intervals_of_a_row_are_on_one_scale(cards: Any):
    relative = {"estimate": 0.03, "low": 0.01, "high": 0.05}
    row = _one(cards, relative=relative, always_valid_relative={"low": 0.0, "high": 0.06})

    assert row.bar is not None
    assert row.other_bar is not None
    assert row.other_bar.width == pytest.approx(row.bar.width * 4 / 6, rel=1e-3)


def test_few_tick_labels_are_kept_on_a_phone(cards: Any):
    ticks = view_scorecard(cards["running"]).ticks

    assert [tick.label for tick in ticks if not tick.minor] == ["0", "+10%", "+20%"]


def test_expected_counts_and_expected_shares_say_the_same(cards: Any):
    counts = cards["running"]
    shares = counts | {"srm": counts["srm"] | {"expected": {"control": 0.5, "treatment": 0.5}}}

    assert view_scorecard(counts).variants == view_scorecard(shares).variants


def test_reasons_that_left_nobody_out_are_not_listed(cards: Any):
    assert view_scorecard(cards["running"]).excluded == (("two variants", "14"), ("no unit", "203"))


def test_many_comparisons_are_warned_about(cards: Any):
    assert "up to 22" in str(view_scorecard(cards["wide"]).by_chance)
    assert view_scorecard(cards["running"]).by_chance is None


def test_a_bare_scorecard_is_shown_too():
    view = view_scorecard({"experiment": "bare"})

    assert (view.name, view.groups, view.axis, view.variants) == ("bare", (), None, ())


@pytest.mark.parametrize("broken", [{}, {"experiment": 7}, {"experiment": "x", "results": [{"metric": "m"}]}])
def test_what_is_no_scorecard_is_refused(broken: dict[str, Any]):
    with pytest.raises(InvalidInput, match="must be the JSON of a scorecard"):
        view_scorecard(broken)


def test_the_experiments_own_scorecard_is_understood():
    from groundswell.experiments import scorecard as own

    fields = {field.name for field in msgspec.structs.fields(own.Scorecard)}
    results = {field.name for field in msgspec.structs.fields(own.MetricResult)}
    from groundswell.web import card as shown

    assert fields <= {field.name for field in msgspec.structs.fields(shown.Card)}
    assert results <= {field.name for field in msgspec.structs.fields(shown.Result)}


# --- overview and lists --------------------------------------------------------------------------------------------


def test_the_overview_says_first_that_a_ledger_does_not_add_up(ports: Any):
    view = view_overview(ports.overview())

    assert (view.headline, view.off) == ("3 events unaccounted for", True)
    assert [row.off for row in view.ledgers[0].rows] == ["", "", "", ""]
    assert [row.off for row in view.ledgers[1].rows] == ["", "", "3 missing", "3 missing"]


def test_sources_that_are_off_both_ways_do_not_cancel_out():
    short = SourceLedger(source="a", intake=IntakeCounts(10, 0, 10), lake=LakeCounts(committed=9))
    long = SourceLedger(source="b", intake=IntakeCounts(10, 0, 10), lake=LakeCounts(committed=11))

    view = view_overview(Overview(at_us=0, sources=(short, long)))

    assert view.headline == "2 events unaccounted for"
    assert [row.off for row in view.ledgers[1].rows] == ["1 missing", "1 too many", ""]


def test_a_source_that_adds_up_is_said_to():
    whole = SourceLedger(
        source="a", intake=IntakeCounts(11, 1, 10), replayed=1, lake=LakeCounts(5, 3, 1, 1), in_flight=1
    )

    assert view_overview(Overview(at_us=0, sources=(whole,))).headline == "Every event is accounted for"


def test_an_empty_installation_waits():
    view = view_overview(Overview(at_us=0))

    assert view.headline == "Waiting for the first event"
    assert view.flow is None
    assert [stat.value for stat in view.stats] == ["–", "–", "0", "–", "0"]


def test_throughput_may_know_only_commits():
    flow = Throughput(interval_s=10, ends_at_us=600_000_000, committed=(1, 2, 3))

    view = view_overview(Overview(at_us=0, throughput=flow))

    assert (view.stats[1].name, view.stats[1].value, view.stats[1].unit) == ("Committed", "3", "/ 10 s")
    assert view.flow is not None
    assert (view.flow.line_name, view.flow.committed, view.flow.per) == ("committed", "", "in 10 s")


def test_the_list_withholds_what_a_broken_split_cannot_say(ports: Any, clock: Any):
    view = view_experiments(ports.experiments(), clock.now_us())

    readings = {row.name: (row.reading, row.tone, row.split) for row in view.rows}
    assert readings["new_checkout"] == ("better", "good", "ok")
    assert readings["broken_split"] == ("withheld", "none", "off")
    assert readings["feed_ranking"] == ("undecided", "flat", "unknown")
    assert readings["old_paywall"] == ("worse", "bad", "ok")
    assert [row.when for row in view.rows][:1] == ["day 13, since 5 Jan 2026"]


def test_a_name_is_quoted_in_its_address(clock: Any):
    odd = ExperimentSummary(name="a/b?c d", state="draft", unit="user_id", variants={"a": 1})

    assert view_experiments((odd,), clock.now_us()).rows[0].path == "a%2Fb%3Fc%20d"


def test_older_dead_letters_keep_the_filter():
    page = DeadLetterPage(reasons={"wrong_type": 2, "x&y": 1}, next_cursor="50")

    view = view_dead_letters(page, reason="x&y", source="web", now_us=0)

    assert view.older == "/dead-letters?source=web&reason=x%26y&cursor=50"
    assert [(chip.name, chip.count, chip.current) for chip in view.filters] == [
        ("all", "3", False),
        ("wrong type", "2", False),
        ("x&y", "1", True),
    ]
