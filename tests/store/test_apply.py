"""Applying definitions: all or nothing, in versions, with a trail of who and when."""

from __future__ import annotations

import pytest

from groundswell.errors import Conflict, InvalidDefinitions, InvalidInput, NotFound
from groundswell.model.definitions import Definitions, EventDef, PropertyDef
from groundswell.store import Manifest, Store
from groundswell.store.render import change_lines
from groundswell.testing.clock import ManualClock


def apply(store: Store, text: str, by: str = "ada") -> int:
    return store.apply(Manifest.parse(text), by=by).version


def test_an_empty_store_knows_only_what_is_built_in(store: Store) -> None:
    assert store.version() == 0
    assert store.definitions().without_builtins() == Definitions()
    assert list(store.definitions().events) == ["exposure"]
    assert store.definitions().properties["variant"].type == "string"


def test_what_was_applied_stands(store: Store, example: str) -> None:
    applied = store.apply(Manifest.parse(example), by="ada")

    assert applied.version == store.version() == 1
    stands = store.definitions()
    assert stands.version == 1
    assert stands.properties["watch_ms"] == PropertyDef(type="int")
    assert stands.metrics["buyers"].window == "7d"
    assert list(stands.experiments["new_checkout"].variants.items()) == [("control", 50), ("treatment", 50)]
    assert stands.experiments["new_checkout"].start == "2026-01-05"
    assert list(store.objects("event")) == ["purchase"]


def test_applying_the_same_again_changes_nothing(store: Store, example: str) -> None:
    apply(store, example)

    applied = store.apply(Manifest.parse(example), by="bob")

    assert applied.version == 1
    assert applied.changes == ()
    assert [entry.by for entry in store.audit_trail()] == ["ada"] * 8


def test_a_default_that_is_written_out_is_no_change(store: Store, example: str) -> None:
    apply(store, example)

    applied = store.apply(
        Manifest.parse("metrics: {buyers: {type: conversion, event: purchase, window: 7d}}"), by="bob"
    )

    assert applied.changes == ()


def test_what_a_manifest_does_not_name_stays(store: Store, example: str) -> None:
    apply(store, example)

    apply(store, "events: {view: {properties: [watch_ms]}}")

    assert list(store.objects("event")) == ["purchase", "view"]
    assert list(store.objects("metric")) == ["buyers", "order_value", "revenue_per_user"]


def test_a_problem_anywhere_applies_nothing(store: Store, example: str) -> None:
    apply(store, example)

    with pytest.raises(InvalidDefinitions):
        apply(store, "events: {view: {}}\nmetrics: {views: {type: conversion, event: vieww}}")

    assert store.version() == 1
    assert "view" not in store.objects("event")
    assert len(store.audit_trail()) == 8


def test_a_problem_in_what_stands_names_the_line_that_caused_it(store: Store, example: str) -> None:
    apply(store, example)

    with pytest.raises(InvalidDefinitions) as caught:
        store.apply(Manifest.parse("events:\n  purchase:\n    properties: [watch_ms]", file="shop.yaml"), by="ada")

    problems = [(problem.name, problem.file, problem.line) for problem in caught.value.problems]
    assert problems == [
        ("metrics.order_value.numerator.value", "shop.yaml", 3),
        ("metrics.revenue_per_user.value", "shop.yaml", 3),
    ]


def test_a_problem_in_a_long_list_names_the_line_of_the_item(store: Store) -> None:
    text = "properties: {price: int}\nevents:\n  purchase:\n    properties:\n      - price\n      - prize\n"

    with pytest.raises(InvalidDefinitions) as caught:
        store.apply(Manifest.parse(text, file="shop.yaml"), by="ada")

    assert str(caught.value) == (
        "shop.yaml:6: events.purchase.properties == 'prize', must be a defined property; did you mean price?"
    )


def test_a_field_that_is_missing_is_told_with_the_line_of_its_object(store: Store) -> None:
    text = "metrics:\n  a: {type: conversion, event: exposure}\n  b:\n    type: mean\n"

    with pytest.raises(InvalidDefinitions) as caught:
        store.apply(Manifest.parse(text, file="shop.yaml"), by="ada")

    assert str(caught.value).startswith("shop.yaml:3: metrics.b.event == None, must be given")


def test_a_dry_run_says_the_same_and_does_nothing(store: Store, example: str) -> None:
    wanted = store.apply(Manifest.parse(example), by="ada", dry_run=True)

    assert wanted.dry_run
    assert wanted.version == store.version() == 0
    assert wanted.changes == store.apply(Manifest.parse(example), by="ada").changes


def test_a_difference_reads_like_a_difference(store: Store, example: str) -> None:
    apply(store, example)

    applied = store.apply(
        Manifest.parse(
            "metrics: {buyers: {type: conversion, event: purchase, better: lower, description: who buys}}\n"
            "events: {view: {properties: [watch_ms]}}"
        ),
        by="ada",
        dry_run=True,
    )

    assert change_lines(applied.changes) == [
        "+ event view",
        "    + properties: [watch_ms]",
        "~ metric buyers",
        "    - window: 7d",
        "    + better: lower",
        "    + description: who buys",
    ]


def test_the_order_of_variants_is_a_difference(store: Store) -> None:
    apply(store, "experiments: {x: {variants: {a: 1, b: 1}}}")

    applied = store.apply(Manifest.parse("experiments: {x: {variants: {b: 1, a: 1}}}"), by="ada")

    assert change_lines(applied.changes) == ["~ experiment x", "    ~ variants: {a: 1, b: 1} -> {b: 1, a: 1}"]
    assert list(store.definitions().experiments["x"].variants) == ["b", "a"]


def test_whoever_looked_at_an_older_version_is_told(store: Store, example: str) -> None:
    apply(store, example)

    with pytest.raises(Conflict, match="version 1, not 0"):
        store.apply(Manifest.parse("sources: {app: }"), by="bob", expected_version=0)

    assert store.apply(Manifest.parse("sources: {app: }"), by="bob", expected_version=1).version == 2


def test_any_past_version_can_be_asked_for(store: Store, example: str) -> None:
    apply(store, example)
    first = store.definitions()
    apply(store, "metrics: {buyers: {type: conversion, event: purchase, window: 14d}}")
    store.delete("experiment", "new_checkout", by="ada")

    assert store.definitions(1) == first
    assert store.definitions(2).metrics["buyers"].window == "14d"
    assert "new_checkout" in store.definitions(2).experiments
    assert "new_checkout" not in store.definitions(3).experiments
    assert store.definitions(0).without_builtins() == Definitions()
    with pytest.raises(NotFound, match="the newest is 3"):
        store.definitions(4)
    with pytest.raises(NotFound, match="no version -1"):
        store.definitions(-1)


def test_history_says_who_changed_what_and_when(store: Store, clock: ManualClock, example: str) -> None:
    apply(store, example, by="ada")
    clock.advance(60)
    apply(store, "metrics: {buyers: {type: conversion, event: purchase, window: 14d}}", by="bob")
    store.delete("experiment", "new_checkout", by="cy")
    store.delete("metric", "buyers", by="cy")
    apply(store, "metrics: {buyers: {type: conversion, event: purchase}}", by="dee")

    history = store.history("metric", "buyers")

    assert [(one.revision, one.version, one.by, one.change.action) for one in history] == [
        (1, 1, "ada", "added"),
        (2, 2, "bob", "changed"),
        (3, 4, "cy", "deleted"),
        (4, 5, "dee", "restored"),
    ]
    assert history[1].change.fields == (("window", "7d", "14d"),)
    assert history[1].at_us - history[0].at_us == 60_000_000
    assert [one.definition is None for one in history] == [False, False, True, False]
    trail = [(entry.by, entry.action, entry.kind, entry.name, entry.version) for entry in store.audit_trail()]
    assert trail[8:] == [
        ("bob", "changed", "metric", "buyers", 2),
        ("cy", "deleted", "experiment", "new_checkout", 3),
        ("cy", "deleted", "metric", "buyers", 4),
        ("dee", "restored", "metric", "buyers", 5),
    ]


def test_there_is_no_history_of_what_never_was(store: Store) -> None:
    with pytest.raises(NotFound, match="never was"):
        store.history("metric", "nothing")


@pytest.mark.parametrize(
    ("kind", "name", "needed_by"),
    [
        ("property", "revenue", "events.purchase, metrics.order_value, metrics.revenue_per_user"),
        ("event", "purchase", "metrics.buyers, metrics.order_value, metrics.revenue_per_user"),
        ("metric", "buyers", "experiments.new_checkout"),
    ],
)
def test_what_something_living_needs_is_not_deleted(
    store: Store, example: str, kind: str, name: str, needed_by: str
) -> None:
    apply(store, example)

    with pytest.raises(Conflict, match=f"is needed by {needed_by};"):
        store.delete(kind, name, by="ada")  # type: ignore[arg-type]

    assert store.version() == 1


def test_a_source_with_a_living_key_is_not_deleted(store: Store, example: str) -> None:
    apply(store, example)
    key = store.create_key("web", by="ada")

    with pytest.raises(Conflict, match=f"needed by key {key[:12]}"):
        store.delete("source", "web", by="ada")

    store.revoke_key(key, by="ada")
    assert store.delete("source", "web", by="ada").changes[0].action == "deleted"


def test_what_is_built_in_is_not_deleted(store: Store) -> None:
    with pytest.raises(InvalidInput, match="built in"):
        store.delete("event", "exposure", by="ada")
    with pytest.raises(InvalidInput, match="built in"):
        store.delete("property", "variant", by="ada")


def test_nothing_is_deleted_twice(store: Store, example: str) -> None:
    apply(store, example)
    store.delete("property", "watch_ms", by="ada")

    with pytest.raises(NotFound, match="no property watch_ms"):
        store.delete("property", "watch_ms", by="ada")


def test_a_deleted_property_keeps_its_type(store: Store, example: str) -> None:
    apply(store, example)
    store.delete("property", "watch_ms", by="ada")

    with pytest.raises(InvalidDefinitions, match="must stay int"):
        apply(store, "properties: {watch_ms: float}")

    applied = store.apply(Manifest.parse("properties: {watch_ms: {type: int, unit: ms}}"), by="ada")
    assert applied.changes[0].action == "restored"


def test_the_name_of_a_deleted_experiment_that_ran_never_means_another(store: Store, example: str) -> None:
    apply(store, example)
    store.delete("experiment", "new_checkout", by="ada")

    with pytest.raises(InvalidDefinitions, match="another name"):
        apply(store, "experiments: {new_checkout: {variants: {red: 1, blue: 1}, start: 2026-01-20}}")

    apply(store, example)
    assert list(store.definitions().experiments["new_checkout"].variants) == ["control", "treatment"]


def test_an_experiment_starts_when_its_hour_comes(store: Store, clock: ManualClock) -> None:
    apply(store, "experiments: {x: {variants: {a: 1, b: 1}, start: 2026-02-02}}")
    apply(store, "experiments: {x: {variants: {a: 2, b: 1}, start: 2026-02-02}}")
    clock.advance(2 * 86_400)

    with pytest.raises(InvalidDefinitions, match="other weights"):
        apply(store, "experiments: {x: {variants: {a: 3, b: 1}, start: 2026-02-02}}")


def test_a_program_may_apply_what_it_made(store: Store) -> None:
    made = Definitions(events={"view": EventDef()}, properties={"watch_ms": PropertyDef(type="int")})

    store.apply(made.with_builtins(), by="demo")

    assert store.definitions().without_builtins() == Definitions(
        version=1, events=made.events, properties=made.properties
    )


@pytest.mark.parametrize("by", ["", " ", "a\nb", "x" * 257])
def test_whoever_changes_something_says_who(store: Store, by: str) -> None:
    with pytest.raises(InvalidInput, match="must say who"):
        apply(store, "sources: {app: }", by=by)

    assert store.version() == 0
