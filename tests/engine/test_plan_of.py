"""Definitions become plans, or say why not."""

from __future__ import annotations

import pytest

from groundswell.engine.plan_of import plan_experiment, plan_metric, plan_portfolio
from groundswell.errors import InvalidInput
from groundswell.model.definitions import ExperimentDef, MetricDef, Operand
from groundswell.model.plan import MetricPlan, Term

METRICS = {
    "buyers": MetricDef(type="conversion", event="purchase", window="7d"),
    "revenue": MetricDef(type="mean", event="purchase", value="revenue"),
    "purchases": MetricDef(type="mean", event="purchase"),
    "order_value": MetricDef(
        type="ratio",
        numerator=Operand(event="purchase", value="revenue"),
        denominator=Operand(event="purchase"),
    ),
}
STARTED = ExperimentDef(variants={"control": 1, "new": 1}, start="2026-01-05", metrics=tuple(METRICS))


def test_each_type_of_metric_becomes_its_terms() -> None:
    plan = plan_experiment("checkout", STARTED, METRICS)

    assert plan.metrics == (
        MetricPlan("buyers", (Term("purchase", "any"),), 7 * 86_400_000_000),
        MetricPlan("revenue", (Term("purchase", "sum", "revenue"),)),
        MetricPlan("purchases", (Term("purchase", "count"),)),
        MetricPlan("order_value", (Term("purchase", "sum", "revenue"), Term("purchase", "count", "revenue"))),
    )


def test_the_run_is_in_microseconds_and_open_until_it_has_an_end() -> None:
    ended = ExperimentDef(variants={"a": 1}, unit="device_id", start="2026-01-05", end="2026-01-06T12:00:00Z")

    running, over = plan_experiment("x", STARTED, METRICS), plan_experiment("y", ended, {})

    assert (running.start_us, running.end_us) == (1_767_571_200_000_000, None)
    assert over.end_us == 1_767_571_200_000_000 + 36 * 3_600_000_000
    assert (over.unit, over.variants) == ("device_id", ("a",))


def test_a_draft_cannot_be_planned_and_is_left_out_of_a_portfolio() -> None:
    draft = ExperimentDef(variants={"a": 1})

    with pytest.raises(InvalidInput, match="start of experiment draft == None"):
        plan_experiment("draft", draft, {})
    portfolio = plan_portfolio({"draft": draft, "checkout": STARTED}, METRICS, as_of_us=5)

    assert [one.name for one in portfolio.experiments] == ["checkout"]
    assert portfolio.as_of_us == 5


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"end": "2026-01-05"}, "end of experiment x"),
        ({"metrics": ("unheard",)}, "metric of experiment x == 'unheard', must be one of buyers"),
        ({"start": "soon"}, "start of experiment x"),
    ],
)
def test_an_experiment_that_cannot_be_counted_says_why(change: dict[str, str], named: str) -> None:
    settings = {"variants": {"a": 1}, "start": "2026-01-05", **change}

    with pytest.raises(InvalidInput, match=named):
        plan_experiment("x", ExperimentDef(**settings), METRICS)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("definition", "named"),
    [
        (MetricDef(type="conversion"), "event of metric m"),
        (MetricDef(type="mean"), "event of metric m"),
        (MetricDef(type="ratio", numerator=Operand(event="a")), "denominator of metric m"),
        (MetricDef(type="conversion", event="a", window="soon"), "window of metric m"),
        (MetricDef(type="conversion", event="a", window="99999d"), "window of metric m"),
    ],
)
def test_a_metric_that_lacks_what_its_type_needs_is_refused(definition: MetricDef, named: str) -> None:
    with pytest.raises(InvalidInput, match=named):
        plan_metric("m", definition)
