"""Random definitions, valid by construction: through YAML, the store and its versions, and back unchanged."""

from __future__ import annotations

import string
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from groundswell.errors import GroundswellError, InvalidDefinitions
from groundswell.model.check import check
from groundswell.model.clock import format_us, parse_us
from groundswell.model.definitions import (
    BUILTIN_PROPERTIES,
    UNIT_KINDS,
    Definitions,
    EventDef,
    ExperimentDef,
    MetricDef,
    Operand,
    PropertyDef,
    SourceDef,
)
from groundswell.model.event import ENVELOPE
from groundswell.store import Manifest, Store
from groundswell.store.bodies import decode_body, encode_body
from groundswell.store.render import to_plain, to_yaml
from groundswell.testing.clock import ManualClock

NOW_US = parse_us("now", "2026-02-01")
FEW = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])

names = st.one_of(
    st.text(string.ascii_lowercase + string.digits + "_", min_size=1, max_size=12).map(lambda text: "n" + text),
    st.sampled_from(["on", "off", "yes", "no", "y", "n", "null", "true", "false", "e1", "inf", "nan", "x" * 64]),
).filter(lambda name: name not in ENVELOPE and name not in BUILTIN_PROPERTIES and name != "exposure")
texts = st.one_of(
    st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=60),
    st.sampled_from(
        [
            "no",
            "~",
            "null",
            "1",
            "1.5",
            "2026-01-05",
            "<<",
            "=",
            "- a",
            "a: b",
            "#",
            "'",
            '"',
            "{",
            "&a",
            "*a",
            "!t",
            "a\n\nb\n",
            "\t",
            "|",
            "%",
            "@",
            "`",
            "\u2028",
            "\x85".replace("\x85", " "),
        ]
    ),
).filter(lambda text: bool(text.strip()))
descriptions = st.none() | texts
short_texts = st.none() | st.text(string.printable[:94], min_size=1, max_size=20)
variant_names = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=12)
moments_us = st.integers(parse_us("t", "2000-01-01"), parse_us("t", "2100-01-01"))


def moment_text(moment_us: int, style: int) -> str:
    whole = moment_us // 86_400_000_000 * 86_400_000_000
    return format_us(whole)[:10] if style == 0 else format_us(moment_us)


@st.composite
def all_definitions(draw: st.DrawFn) -> Definitions:
    properties = draw(
        st.dictionaries(
            names,
            st.builds(
                PropertyDef,
                type=st.sampled_from(["string", "int", "float", "bool", "timestamp"]),
                unit=short_texts,
                description=descriptions,
            ),
            max_size=5,
        )
    )
    known = [*properties, *BUILTIN_PROPERTIES]
    events: dict[str, EventDef] = {}
    for name in draw(st.lists(names, max_size=4, unique=True)):
        carried = draw(st.lists(st.sampled_from(known), max_size=4, unique=True))
        required = draw(st.lists(st.sampled_from(carried), max_size=4, unique=True)) if carried else []
        events[name] = EventDef(properties=tuple(carried), required=tuple(required), description=draw(descriptions))
    metrics = {name: draw(a_metric(properties, events)) for name in draw(st.lists(names, max_size=4, unique=True))}
    experiments: dict[str, ExperimentDef] = {}
    for name in draw(st.lists(names, max_size=3, unique=True)):
        experiments[name] = draw(an_experiment(list(metrics)))
    sources = draw(st.dictionaries(names, st.builds(SourceDef, description=descriptions), max_size=2))
    return Definitions(properties=properties, events=events, metrics=metrics, experiments=experiments, sources=sources)


@st.composite
def a_metric(draw: st.DrawFn, properties: dict[str, PropertyDef], events: dict[str, EventDef]) -> MetricDef:
    def operand() -> Operand:
        event = draw(st.sampled_from(["exposure", *events]))
        carried = events[event].properties if event in events else ()
        numeric = [one for one in carried if one in properties and properties[one].type in ("int", "float")]
        return Operand(event=event, value=draw(st.sampled_from([None, *numeric])))

    kind = draw(st.sampled_from(["mean", "conversion", "ratio"]))
    fields: dict[str, Any] = {
        "window": draw(st.none() | st.sampled_from(["7d", "24h", "1s", "2w", "90m"])),
        "better": draw(st.sampled_from(["higher", "lower"])),
        "description": draw(descriptions),
    }
    if kind == "ratio":
        return MetricDef(type="ratio", numerator=operand(), denominator=operand(), **fields)
    one = operand()
    if kind == "conversion":
        return MetricDef(type="conversion", event=one.event, **fields)
    return MetricDef(type="mean", event=one.event, value=one.value, **fields)


@st.composite
def an_experiment(draw: st.DrawFn, metrics: list[str]) -> ExperimentDef:
    weights = st.integers(0, 1_000)
    variants = draw(st.dictionaries(variant_names, weights, min_size=2, max_size=5))
    if not any(variants.values()):
        variants[next(iter(variants))] = 1
    first, second = sorted(draw(st.tuples(moments_us, moments_us)))
    style = draw(st.sampled_from([0, 1]))
    start, end = moment_text(first, style), moment_text(second + 86_400_000_000, style)
    run = draw(st.sampled_from([(None, None), (start, None), (start, end)]))
    return ExperimentDef(
        variants=variants,
        unit=draw(st.sampled_from(UNIT_KINDS)),
        start=run[0],
        end=run[1],
        metrics=tuple(draw(st.lists(st.sampled_from(metrics), unique=True)) if metrics else ()),
        salt=draw(short_texts.filter(lambda text: text is None or bool(text.strip()))),
        alpha=draw(st.none() | st.floats(1e-9, 0.499)),
        description=draw(descriptions),
    )


def written(definitions: Definitions) -> str:
    return to_yaml(to_plain(definitions))


def same_order(first: Definitions, second: Definitions) -> bool:
    """Whether the order of variants is the same; equality of mappings ignores it."""
    orders = [{name: list(one.variants) for name, one in each.experiments.items()} for each in (first, second)]
    return orders[0] == orders[1]


@FEW
@given(all_definitions())
def test_what_is_valid_by_construction_has_no_problems(made: Definitions) -> None:
    assert check(made, known=made, now_us=NOW_US) == []


@FEW
@given(all_definitions().filter(lambda made: bool(to_plain(made))))
def test_yaml_comes_back_as_what_was_written(made: Definitions) -> None:
    read = Manifest.parse(written(made))

    assert read.declared == Manifest.of(made).declared
    for (kind, name), one in read.declared.items():
        if isinstance(one, ExperimentDef):
            assert list(one.variants) == list(made.of(kind)[name].variants)  # type: ignore[attr-defined]


@FEW
@given(all_definitions())
def test_a_stored_body_comes_back_with_every_default_written_out(made: Definitions) -> None:
    for (kind, name), one in Manifest.of(made).declared.items():
        body = encode_body(one)

        assert decode_body(kind, name, 1, body) == one
        assert set(msgspec.json.decode(body)) == {field.name for field in msgspec.structs.fields(one)}


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(all_definitions().filter(lambda made: bool(to_plain(made))), min_size=1, max_size=4))
def test_every_version_that_ever_stood_can_be_read_again(steps: list[Definitions]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = Store.open(Path(folder) / "control.db", ManualClock(start_us=NOW_US))
        stood = {0: store.definitions()}
        for made in steps:
            try:
                applied = store.apply(Manifest.parse(written(made)), by="ada")
            except (
                InvalidDefinitions
            ):  # one step may contradict another: a type that changed, an event that lost a property
                assert store.version() == max(stood)
                continue
            if applied.version in stood:
                assert applied.changes == ()
            stood[applied.version] = store.definitions()
            for kind, name, one in Manifest.of(made).objects():
                assert stood[applied.version].of(kind)[name] == one

        for version, definitions in stood.items():
            again = store.definitions(version)
            assert again == definitions
            assert same_order(again, definitions)
        assert sorted(stood) == list(range(store.version() + 1))
        trail = [(entry.kind, entry.name, entry.version) for entry in store.audit_trail()]
        assert len(trail) == len(set(trail))
        store.close()


BREAKAGES: dict[str, Callable[[Definitions], Definitions | None]] = {}


def breakage(work: Callable[[Definitions], Definitions | None]) -> Callable[[Definitions], Definitions | None]:
    BREAKAGES[work.__name__] = work
    return work


@breakage
def without_a_property_that_is_listed(made: Definitions) -> Definitions | None:
    listed = [name for event in made.events.values() for name in event.properties if name in made.properties]
    if not listed:
        return None
    left = {name: one for name, one in made.properties.items() if name != listed[0]}
    return msgspec.structs.replace(made, properties=left)


@breakage
def without_an_event_that_is_counted(made: Definitions) -> Definitions | None:
    counted = [metric.event for metric in made.metrics.values() if metric.event in made.events]
    if not counted:
        return None
    left = {name: one for name, one in made.events.items() if name != counted[0]}
    return msgspec.structs.replace(made, events=left)


@breakage
def without_a_metric_that_judges(made: Definitions) -> Definitions | None:
    judging = [name for experiment in made.experiments.values() for name in experiment.metrics]
    if not judging:
        return None
    left = {name: one for name, one in made.metrics.items() if name != judging[0]}
    return msgspec.structs.replace(made, metrics=left)


@breakage
def with_no_weight_at_all(made: Definitions) -> Definitions | None:
    if not made.experiments:
        return None
    name, one = next(iter(made.experiments.items()))
    broken = msgspec.structs.replace(one, variants=dict.fromkeys(one.variants, 0))
    return msgspec.structs.replace(made, experiments={**made.experiments, name: broken})


@breakage
def with_a_running_experiment_dealt_anew(made: Definitions) -> Definitions | None:
    running = [
        (name, one) for name, one in made.experiments.items() if one.start and parse_us("s", one.start) <= NOW_US
    ]
    if not running:
        return None
    name, one = running[0]
    return msgspec.structs.replace(
        made, experiments={**made.experiments, name: msgspec.structs.replace(one, salt=f"{one.salt}!")}
    )


@breakage
def with_a_property_of_another_type(made: Definitions) -> Definitions | None:
    if not made.properties:
        return None
    name, one = next(iter(made.properties.items()))
    other = "int" if one.type == "bool" else "bool"
    return msgspec.structs.replace(made, properties={**made.properties, name: msgspec.structs.replace(one, type=other)})


@pytest.mark.parametrize("name", BREAKAGES)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(made=all_definitions())
def test_no_contradiction_gets_past_the_check(name: str, made: Definitions) -> None:
    broken = BREAKAGES[name](made)
    if broken is not None:
        assert check(broken, known=made, now_us=NOW_US) != []


@settings(max_examples=300, deadline=None)
@given(
    st.one_of(
        st.binary(max_size=200),
        st.text(max_size=200).map(lambda text: text.encode("utf-8", "surrogatepass")),
        st.text("{}[]:,-&*!|>'\"%@#? \n\tevents<metrics~0123", max_size=120).map(str.encode),
    )
)
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    outcome = parsed(data)

    assert str(outcome)


def values() -> st.SearchStrategy[Any]:
    leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
    words = st.sampled_from(
        ["type", "event", "value", "properties", "variants", "start", "window", "metrics", "unit", "a", "b"]
    ) | st.text(max_size=3)
    return st.recursive(
        leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=4), max_leaves=12
    )


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.dictionaries(
        st.sampled_from(["properties", "events", "metrics", "experiments", "sources"]),
        st.dictionaries(st.sampled_from(["a", "b", "revenue"]), values(), max_size=3),
        min_size=1,
    )
)
def test_any_shape_is_read_or_refused_with_its_place(document: dict[str, Any]) -> None:
    text = msgspec.json.encode(document).decode()
    outcome = parsed(text)
    if isinstance(outcome, InvalidDefinitions):
        assert all(problem.file == "f.yaml" and problem.line for problem in outcome.problems)
    if not isinstance(outcome, Manifest):
        return
    for problem in check(
        msgspec.structs.replace(Definitions(), **sections(outcome)), known=Definitions(), now_us=NOW_US
    ):
        located = outcome.located(problem)
        assert located.file == "f.yaml" or len(problem.path) == 1


def parsed(text: str | bytes) -> Manifest | GroundswellError:
    """Return what was read, or the error of the tree; any other error fails the test."""
    try:
        return Manifest.parse(text, file="f.yaml")
    except GroundswellError as error:
        return error


def sections(manifest: Manifest) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    plural = {"property": "properties"}
    for kind, name, one in manifest.objects():
        found.setdefault(plural.get(kind, f"{kind}s"), {})[name] = one
    return found
