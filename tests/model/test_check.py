"""Rules within and between definitions."""

from __future__ import annotations

from typing import Any

import pytest

from groundswell import limits
from groundswell.model.check import Problem, check, needed_by
from groundswell.model.clock import parse_us
from groundswell.model.definitions import (
    Definitions,
    EventDef,
    ExperimentDef,
    MetricDef,
    Operand,
    PropertyDef,
    SourceDef,
)

NOW_US = parse_us("now", "2026-02-01")
PURCHASE = EventDef(properties=("revenue", "sku"), required=("revenue",))
BUYERS = MetricDef(type="conversion", event="purchase", window="7d")
CHECKOUT = ExperimentDef(variants={"control": 50, "treatment": 50}, start="2026-01-05", metrics=("buyers",))


def definitions(**sections: dict[str, Any]) -> Definitions:
    """Return a small valid shop with what a test adds or replaces."""
    base: dict[str, dict[str, Any]] = {
        "properties": {"revenue": PropertyDef(type="float"), "sku": PropertyDef(type="string")},
        "events": {"purchase": PURCHASE},
        "metrics": {"buyers": BUYERS},
        "experiments": {"checkout": CHECKOUT},
        "sources": {"web": SourceDef()},
    }
    return Definitions(**{section: {**base[section], **sections.get(section, {})} for section in base})  # type: ignore[arg-type]


def experiment(changes: dict[str, Any], start: str | None = "2026-01-05") -> ExperimentDef:
    fields: dict[str, Any] = {"variants": CHECKOUT.variants, "start": start, "metrics": ("buyers",)} | changes
    return ExperimentDef(**fields)


def problems(after: Definitions, known: Definitions | None = None) -> list[Problem]:
    return check(after, known=known or Definitions(), now_us=NOW_US)


def only(found: list[Problem]) -> tuple[str, object, str]:
    assert len(found) == 1, found
    return ".".join(found[0].path), found[0].value, found[0].rule


def test_a_sound_shop_has_no_problems() -> None:
    assert problems(definitions()) == []
    assert problems(definitions(), known=definitions()) == []


@pytest.mark.parametrize("name", ["Revenue", "9lives", "re-venue", "", "revenue\n", "größe", "x" * 65, "a b"])
def test_a_name_is_a_lower_case_word(name: str) -> None:
    path, value, _ = only(problems(definitions(properties={name: PropertyDef(type="int")})))

    assert (path, value) == (f"properties.{name}", name)


@pytest.mark.parametrize("name", ["user_id", "ts", "received_at", "extra", "content_hash", "experiment", "variant"])
def test_a_property_never_takes_a_name_of_the_envelope_or_of_an_exposure(name: str) -> None:
    path, value, rule = only(problems(definitions(properties={name: PropertyDef(type="string")})))

    assert (path, value) == (f"properties.{name}", name)
    assert "envelope" in rule or "built-in" in rule


def test_a_property_keeps_its_type_for_ever() -> None:
    after = definitions(properties={"revenue": PropertyDef(type="int")})

    path, value, rule = only(problems(after, known=definitions()))

    assert (path, value) == ("properties.revenue.type", "int")
    assert "must stay float" in rule


def test_what_else_a_property_says_may_change() -> None:
    after = definitions(properties={"revenue": PropertyDef(type="float", unit="EUR", description="net")})

    assert problems(after, known=definitions()) == []


@pytest.mark.parametrize("unit", ["", " ", "x" * 65, "a\tb\x7f"])
def test_a_unit_is_a_word_or_two(unit: str) -> None:
    found = problems(definitions(properties={"price": PropertyDef(type="int", unit=unit)}))

    assert only(found)[:2] == ("properties.price.unit", unit)
    assert problems(definitions(properties={"price": PropertyDef(type="int", unit="x" * 64)})) == []


def test_deleted_properties_count_as_columns() -> None:
    many = {f"p{i}": PropertyDef(type="int") for i in range(limits.properties_max)}
    after = definitions(properties={"one_more": PropertyDef(type="int")})

    path, value, rule = only(problems(after, known=Definitions(properties=many)))

    assert path == "properties"
    assert value == limits.properties_max + 3
    assert "deleted ones included" in rule


@pytest.mark.parametrize(
    ("event", "path", "value"),
    [
        (EventDef(properties=("revenu",)), "events.e.properties", "revenu"),
        (EventDef(properties=("user_id",)), "events.e.properties", "user_id"),
        (EventDef(properties=("sku", "sku")), "events.e.properties", "sku"),
        (EventDef(properties=("sku",), required=("revenue",)), "events.e.required", "revenue"),
        (EventDef(properties=("sku",), required=("sku", "sku")), "events.e.required", "sku"),
        (EventDef(description=" "), "events.e.description", " "),
        (EventDef(description="x" * 4_001), "events.e.description", "x" * 4_001),
        (EventDef(description="a\x00b"), "events.e.description", "a\x00b"),
        (EventDef(description="\ud800"), "events.e.description", "\ud800"),
    ],
)
def test_an_event_lists_declared_properties_once(event: EventDef, path: str, value: str) -> None:
    found = problems(definitions(events={"e": event}))

    assert only(found)[:2] == (path, value)


def test_an_event_may_list_the_properties_of_an_exposure() -> None:
    assert problems(definitions(events={"e": EventDef(properties=("experiment", "variant"))})) == []


def test_the_exposure_is_built_in() -> None:
    path, _, rule = only(problems(definitions(events={"exposure": EventDef()})))

    assert path == "events.exposure"
    assert "built-in" in rule


def test_a_misspelt_property_is_answered_with_the_nearest() -> None:
    found = problems(definitions(events={"e": EventDef(properties=("revenu",))}))

    assert found[0].next_step == "did you mean revenue?"


OPERAND = Operand(event="purchase")


@pytest.mark.parametrize(
    ("metric", "path"),
    [
        (MetricDef(type="mean"), "event"),
        (MetricDef(type="conversion"), "event"),
        (MetricDef(type="conversion", event="purchase", value="revenue"), "value"),
        (MetricDef(type="mean", event="purchase", numerator=OPERAND), "numerator"),
        (MetricDef(type="ratio", numerator=OPERAND), "denominator"),
        (MetricDef(type="ratio", denominator=OPERAND), "numerator"),
        (MetricDef(type="ratio", numerator=OPERAND, denominator=OPERAND, event="purchase"), "event"),
        (MetricDef(type="mean", event="purchas"), "event"),
        (MetricDef(type="mean", event="purchase", value="sku"), "value"),
        (MetricDef(type="mean", event="purchase", value="nowhere"), "value"),
        (MetricDef(type="ratio", numerator=Operand(event="gone"), denominator=OPERAND), "numerator.event"),
        (
            MetricDef(type="ratio", numerator=OPERAND, denominator=Operand(event="purchase", value="sku")),
            "denominator.value",
        ),
        (MetricDef(type="mean", event="exposure", value="variant"), "value"),
        (MetricDef(type="mean", event="purchase", window="0d"), "window"),
        (MetricDef(type="mean", event="purchase", window="7"), "window"),
        (MetricDef(type="mean", event="purchase", window="-1d"), "window"),
        (MetricDef(type="mean", event="purchase", window="1.5d"), "window"),
        (MetricDef(type="mean", event="purchase", window="9999999999w"), "window"),
    ],
)
def test_a_metric_that_cannot_be_counted_is_refused(metric: MetricDef, path: str) -> None:
    found = problems(definitions(metrics={"m": metric}))

    assert only(found)[0] == f"metrics.m.{path}"


def test_a_metric_may_count_exposures() -> None:
    assert problems(definitions(metrics={"m": MetricDef(type="mean", event="exposure")})) == []


def test_a_value_that_its_event_does_not_carry_is_refused_and_the_event_named_as_a_cause() -> None:
    after = definitions(
        events={"view": EventDef()}, metrics={"m": MetricDef(type="mean", event="view", value="revenue")}
    )

    found = problems(after)

    assert only(found)[:2] == ("metrics.m.value", "revenue")
    assert found[0].causes[0] == ("events", "view", "properties")


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"variants": {"control": 1}}, "variants"),
        ({"variants": {}}, "variants"),
        ({"variants": {f"v{i}": 1 for i in range(65)}}, "variants"),
        ({"variants": {"a": 0, "b": 0}}, "variants"),
        ({"variants": {"a": -1, "b": 2}}, "variants.a"),
        ({"variants": {"a": 2**31, "b": 1}}, "variants"),
        ({"variants": {"": 1, "b": 1}}, "variants."),
        ({"variants": {" a": 1, "b": 1}}, "variants. a"),
        ({"variants": {"a\n": 1, "b": 1}}, "variants.a\n"),
        ({"start": "soon"}, "start"),
        ({"start": "2026-02-30"}, "start"),
        ({"start": "2026-01-05T09:30:00"}, "start"),
        ({"start": "20260105"}, "start"),
        ({"start": "0000-01-05"}, "start"),
        ({"start": "2026-01-05\n"}, "start"),
        ({"start": "2026-01-05", "end": "2026-01-05"}, "end"),
        ({"start": "2026-01-05", "end": "2026-01-05T01:00:00+02:00"}, "end"),
        ({"start": None, "end": "2026-01-05"}, "end"),
        ({"metrics": ("nothing",)}, "metrics"),
        ({"metrics": ("buyers", "buyers")}, "metrics"),
        ({"alpha": 0.0}, "alpha"),
        ({"alpha": 0.5}, "alpha"),
        ({"salt": ""}, "salt"),
    ],
)
def test_an_experiment_that_cannot_run_is_refused(fields: dict[str, Any], path: str) -> None:
    found = problems(definitions(experiments={"x": experiment(fields)}))

    assert only(found)[0] == f"experiments.x.{path}"


def test_variants_may_be_named_as_people_name_them() -> None:
    named = ExperimentDef(variants={"Mens E-Mail": 1, "No E-Mail": 0, "größer": 2})

    assert problems(definitions(experiments={"x": named})) == []


@pytest.mark.parametrize("start", ["2026-01-05", "2026-01-05T09:30Z", "2026-01-05 09:30:00.25+05:30", "0001-01-01"])
def test_a_start_is_a_date_or_a_time_with_its_offset(start: str) -> None:
    assert problems(definitions(experiments={"x": experiment({}, start=start)})) == []


def test_a_draft_needs_no_start() -> None:
    assert problems(definitions(experiments={"x": ExperimentDef(variants={"a": 1, "b": 1})})) == []


CHANGES: list[tuple[dict[str, Any], str, str]] = [
    ({"variants": {"control": 50}}, "variants", "without treatment"),
    ({"variants": {"control": 50, "treatment": 50, "third": 50}}, "variants", "with third"),
    ({"variants": {"control": 90, "treatment": 10}}, "variants", "weights"),
    ({"variants": {"treatment": 50, "control": 50}}, "variants", "order"),
    ({"unit": "device_id"}, "unit", "another unit"),
    ({"salt": "pepper"}, "salt", "another salt"),
    ({"start": None}, "start", "in the past"),
    ({"start": "2026-03-01"}, "start", "in the past"),
]


@pytest.mark.parametrize(("fields", "path", "words"), CHANGES)
def test_a_running_experiment_keeps_who_is_where(fields: dict[str, Any], path: str, words: str) -> None:
    changed = experiment(fields)

    found = problems(definitions(experiments={"checkout": changed}), known=definitions())

    said = [problem for problem in found if problem.path == ("experiments", "checkout", path)]
    assert any(words in problem.rule for problem in said)
    assert any("2026-01-05" in problem.rule for problem in said)


@pytest.mark.parametrize(("fields", "path", "words"), CHANGES)
def test_an_experiment_that_has_not_started_may_change(fields: dict[str, Any], path: str, words: str) -> None:
    del path, words
    draft = ExperimentDef(variants=CHECKOUT.variants, start="2026-02-02", metrics=("buyers",))
    changed = experiment(fields, start="2026-02-02")

    found = problems(definitions(experiments={"checkout": changed}), known=definitions(experiments={"checkout": draft}))

    assert [problem for problem in found if "must stay" in problem.rule] == []


@pytest.mark.parametrize(
    "fields",
    [
        {"end": "2026-03-01"},
        {"metrics": ()},
        {"alpha": 0.01},
        {"start": "2026-01-06"},
        {"salt": "checkout"},
        {"description": "x"},
    ],
)
def test_a_running_experiment_may_change_what_moves_nobody(fields: dict[str, Any]) -> None:
    changed = experiment(fields)

    assert problems(definitions(experiments={"checkout": changed}), known=definitions()) == []


def test_problems_are_bounded() -> None:
    many = {f"e{i}": EventDef(properties=("nowhere",)) for i in range(limits.manifest_problems_max + 50)}

    assert len(problems(definitions(events=many))) == limits.manifest_problems_max


def test_what_needs_an_object_is_named() -> None:
    shop = definitions(
        metrics={
            "value": MetricDef(type="ratio", numerator=Operand(event="purchase", value="revenue"), denominator=OPERAND)
        }
    )

    assert needed_by(shop, "property", "revenue") == ["events.purchase", "metrics.value"]
    assert needed_by(shop, "property", "sku") == ["events.purchase"]
    assert needed_by(shop, "event", "purchase") == ["metrics.buyers", "metrics.value"]
    assert needed_by(shop, "metric", "buyers") == ["experiments.checkout"]
    assert needed_by(shop, "experiment", "checkout") == []
