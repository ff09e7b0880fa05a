"""A mapping says what rows mean; what is wrong with it is told with its line."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from groundswell.errors import InvalidDefinition
from groundswell.ingest.emit import Emitter
from groundswell.ingest.mapping import parse_mapping

GOOD = """\
source: shop
events:
  - type: view
    envelope: {user_id: customer, ts: seen_at}
    properties: {watch_ms: ms}
"""
ONE = "source: s\nevents:\n  - type: view\n"


def emit(bench: Any, text: str, cells: dict[str, Any], number: int = 1, **parameters: str) -> list[dict[str, Any]]:
    emitter = Emitter(parse_mapping(text, parameters), bench.definitions[1], "id")
    return [msgspec.json.decode(one) for one in emitter.emit(number, [cells[name] for name in emitter.columns])]


def one_value(bench: Any, value: str, cell: Any, name: str = "watch_ms") -> Any:
    text = f"source: s\nevents:\n  - type: view\n    properties:\n      {name}: {value}\n"
    (event,) = emit(bench, text, {"c": cell})
    return event.get("properties", {}).get(name)


def test_a_row_becomes_an_event_with_a_stable_id(bench: Any) -> None:
    (event,) = emit(bench, GOOD, {"customer": "ann", "seen_at": "2026-01-05T09:30:00Z", "ms": "1200"}, number=17)

    assert event == {
        "event_id": "id-17-0",
        "type": "view",
        "user_id": "ann",
        "ts": "2026-01-05T09:30:00Z",
        "properties": {"watch_ms": 1200},
    }


def test_a_row_becomes_the_events_whose_conditions_hold(bench: Any) -> None:
    text = """\
source: shop
envelope: {user_id: {template: "customer-{row}"}}
events:
  - {type: view}
  - {type: purchase, when: {paid: 1}, properties: {revenue: amount}}
  - {type: exposure, when: {arm: {not: [none, ""]}}, properties: {experiment: {constant: e}, variant: arm}}
"""

    plain = emit(bench, text, {"paid": "0", "amount": "", "arm": ""}, number=3)
    bought = emit(bench, text, {"paid": "1", "amount": "9.50", "arm": "b"}, number=4)

    assert [one["event_id"] for one in plain] == ["id-3-0"]
    assert [(one["event_id"], one["type"]) for one in bought] == [
        ("id-4-0", "view"),
        ("id-4-1", "purchase"),
        ("id-4-2", "exposure"),
    ]
    assert bought[1]["properties"] == {"revenue": 9.5}
    assert {one["user_id"] for one in bought} == {"customer-4"}


def test_parameters_are_values_and_change_the_digest(bench: Any) -> None:
    text = "source: s\nparameters: [arm]\nevents:\n  - {type: view, properties: {variant: arm}}\n"

    (event,) = emit(bench, text, {}, arm="b")

    assert event["properties"] == {"variant": "b"}
    assert parse_mapping(text, {"arm": "a"}).digest() != parse_mapping(text, {"arm": "b"}).digest()


def test_the_digest_is_of_the_meaning() -> None:
    same = "# a comment\nevents:\n- envelope: {ts: seen_at, user_id: customer}\n  type: view\n"
    same += "  properties:\n    watch_ms: {column: ms}\nsource: shop\n"

    assert parse_mapping(same, file="other.yaml").digest() == parse_mapping(GOOD).digest()
    assert parse_mapping(GOOD.replace("ms: ms", "ms: ts")).digest() != parse_mapping(GOOD).digest()


@pytest.mark.parametrize(
    ("cell", "number"),
    [("12", 12), (" 12 ", 12), ("+5", 5), ("-0.5", -0.5), ("1e3", 1000.0), (".5", 0.5), ("", None), (None, None)],
)
def test_text_that_is_a_number_becomes_one(bench: Any, cell: Any, number: Any) -> None:
    assert one_value(bench, "c", cell) == number


@pytest.mark.parametrize("cell", ["twelve", "1,200", "0x10", "NaN", "1e999", "1_000", "٣"])
def test_text_that_is_no_number_is_left_to_the_decoder(bench: Any, cell: str) -> None:
    assert one_value(bench, "c", cell) == cell


def test_a_number_beyond_64_bits_keeps_its_digits(bench: Any) -> None:
    assert one_value(bench, "c", "9" * 30) == int("9" * 30)


@pytest.mark.parametrize(
    ("form", "cell", "moment"),
    [
        ("", "2019-11-24 00:00:17.004101+00:00", "2019-11-24T00:00:17.004101Z"),
        ("", "2019-11-24", "2019-11-24T00:00:00Z"),
        (", zone: Europe/Berlin", "2026-07-01 12:00:00", "2026-07-01T10:00:00Z"),
        (", format: epoch_s", "1767571200", "2026-01-05T00:00:00Z"),
        (", format: epoch_s", "1767571200.25", "2026-01-05T00:00:00.250000Z"),
        (", format: epoch_ms", 1767571200123, "2026-01-05T00:00:00.123000Z"),
        (', format: "%d.%m.%Y %H:%M"', "05.01.2026 09:30", "2026-01-05T09:30:00Z"),
        ("", "yesterday", "yesterday"),
        (", format: epoch_s", "soon", "soon"),
        (", format: epoch_s", "9" * 40, "9" * 40),
    ],
)
def test_times_are_read_as_they_are_written(bench: Any, form: str, cell: Any, moment: str) -> None:
    text = f"source: s\nevents:\n  - {{type: view, envelope: {{ts: {{column: c{form}}}}}}}\n"

    (event,) = emit(bench, text, {"c": cell})

    assert event["ts"] == moment


def test_words_are_mapped_and_unknown_ones_kept(bench: Any) -> None:
    value = '{column: c, map: {"No E-Mail": control, 1: one}}'

    assert one_value(bench, value, "No E-Mail", "variant") == "control"
    assert one_value(bench, value, 1, "variant") == "one"
    assert one_value(bench, value, "Other", "variant") == "Other"


def test_a_cell_that_is_not_utf8_cannot_be_emitted(bench: Any) -> None:
    with pytest.raises(UnicodeEncodeError):
        one_value(bench, "c", "caf\udce9", "variant")


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("", 1, "documents"),
        ("source: shop\n", 1, "events == None, must be given"),
        ("events: as_is\n", 1, "source == None, must be given"),
        ("source: 5\nevents: as_is\n", 1, "source == 5, must be text"),
        ("source: s\nevents: []\n", 2, "must be a list of events"),
        ("source: s\nevents:\n  - {}\n", 3, "type == None, must be given"),
        ("source: s\nformat: xml\nevents: as_is\n", 2, "must be csv, tsv, ndjson or parquet"),
        ("source: s\nenvelop: {}\nevents: as_is\n", 2, "mapping key == 'envelop', must be one of"),
        ("source: s\nevents:\n  - type: view\n    envelope: {event_id: x}\n", 4, "envelope key == 'event_id'"),
        ("source: s\nevents:\n  - type: view\n    properties: {a: {}}\n", 4, "exactly one of column, constant"),
        ("source: s\nevents:\n  - type: view\n    properties: {a: {constant: 1, map: {}}}\n", 4, "do not go with"),
        ("source: s\nevents:\n  - type: view\n    properties: {a: {template: '{b.c}'}}\n", 4, "must be a template"),
        (
            "source: s\nevents:\n  - type: view\n    properties: {a: {column: b, format: fast}}\n",
            4,
            "a strptime format",
        ),
        (
            "source: s\nevents:\n  - type: view\n    properties: {a: {column: b, zone: Mars}}\n",
            4,
            "must be a time zone",
        ),
        ("source: s\nparameters: [p]\nevents: as_is\n", 1, "parameter == 'p', is declared and was not given"),
        ("source: s\nenvelope: {user_id: u}\nevents: as_is\n", 3, "must be absent where events are as_is"),
        ("source: s\nevents:\n  - type: view\n  - type: [1]\n", 4, "must be a mapping"),
        ("source: s\n  events: as_is\n", 2, ""),
        ("source: s\nsource: t\nevents: as_is\n", 2, "source"),
        ("source: Shop Floor\nevents: as_is\n", 1, "source name"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(text: str, line: int, said: str) -> None:
    with pytest.raises(InvalidDefinition) as caught:
        parse_mapping(text, file="m.yaml")

    assert (caught.value.file, caught.value.line) == ("m.yaml", line)
    assert said in str(caught.value)


def test_a_parameter_that_nobody_declared_is_refused() -> None:
    with pytest.raises(InvalidDefinition, match="parameter == 'arm', is not declared"):
        parse_mapping(GOOD, {"arm": "a"})


def test_an_event_that_is_not_defined_is_named_with_its_line(bench: Any) -> None:
    mapping = parse_mapping(GOOD.replace("view", "sight"), file="m.yaml")

    with pytest.raises(InvalidDefinition, match=r"m\.yaml:3: type == 'sight', must be a defined event"):
        Emitter(mapping, bench.definitions[1], "id")
