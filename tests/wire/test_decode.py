"""What becomes of an event, rule by rule."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from groundswell import limits
from groundswell.model.definitions import Definitions
from groundswell.wire.decode import Body, Decoded, Decoder
from groundswell.wire.faults import DEAD_REASONS, REFUSED_REASONS
from groundswell.wire.hashing import fingerprint, hash64

Decode = Callable[..., Decoded]


def event(**more: Any) -> str:
    """A view as JSON; ``None`` takes a key away."""
    full = {"event_id": "e-1", "type": "view", "properties": {"watch_ms": 5}} | more
    return json.dumps({key: value for key, value in full.items() if value is not None})


def raw_property(name: str, value: str) -> str:
    kind = "view" if name == "watch_ms" else "purchase"
    required = "" if name in {"watch_ms", "revenue"} else '"revenue":1,'
    return f'{{"event_id":"e-1","type":"{kind}","properties":{{{required}"{name}":{value}}}}}'


def only_row(decoded: Decoded) -> dict[str, Any]:
    assert (decoded.received, decoded.accepted, decoded.batch.num_rows) == (1, 1, 1), list(decoded.verdicts())
    return decoded.batch.to_pylist()[0]


def only_verdict(decoded: Decoded) -> tuple[str, str | None, str | None]:
    (verdict,) = decoded.verdicts()
    assert verdict.message
    return verdict.status, verdict.reason, verdict.field


# --- what is taken ---------------------------------------------------------------------------------------------


def test_a_full_event_becomes_a_row_of_typed_columns(decode: Decode) -> None:
    sent = {
        "event_id": "e-1",
        "type": "purchase",
        "ts": "2026-01-05T11:59:00.25+01:00",
        "user_id": "u",
        "anonymous_id": "a",
        "device_id": "d",
        "session_id": "s",
        "country": "DE",
        "platform": "ios",
        "app_version": "7.1",
        "data_centre": "fra",
        "sent_at": {"any": ["thing"]},
        "properties": {"revenue": 12, "title": "ä\n😀", "coupon_used": True, "paid_at": "2026-01-05T11:00:00Z"},
    }

    row = only_row(decode(json.dumps(sent)))

    ours = {
        key: row.pop(key) for key in ("received_at", "source", "unit_hash", "unit_kind", "event_hash", "content_hash")
    }
    assert ours["received_at"] == datetime(2026, 1, 5, 12, tzinfo=UTC)
    assert ours["source"] == "web"
    assert (ours["unit_hash"], ours["unit_kind"]) == (hash64("u"), 0)
    assert ours["event_hash"] == fingerprint("web", "e-1")[0]
    assert row == {key: sent[key] for key in sent if key not in {"sent_at", "properties", "ts"}} | {
        "ts": datetime(2026, 1, 5, 10, 59, 0, 250_000, tzinfo=UTC),
        "revenue": 12.0,
        "title": "ä\n😀",
        "coupon_used": True,
        "paid_at": datetime(2026, 1, 5, 11, tzinfo=UTC),
    }


def test_columns_are_of_the_schema_and_in_its_order(decode: Decode, definitions: Definitions) -> None:
    batch = decode(event(ts="2026-01-05T11:00:00Z", context=1)).batch
    schema = Decoder(definitions).schema

    places = [schema.get_field_index(name) for name in batch.schema.names]

    assert places == sorted(places)
    assert [field.type for field in batch.schema] == [schema.field(place).type for place in places]


def test_without_a_time_an_event_happened_when_it_arrived(decode: Decode) -> None:
    first, second = decode(event() + "\n" + event(ts="2026-01-01T00:00:00Z")).batch.to_pylist()

    assert first["ts"] == first["received_at"]
    assert second["ts"] == datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize("empty", [None, "", "null"])
def test_an_empty_unit_names_nobody(decode: Decode, empty: str | None) -> None:
    text = event(user_id="", device_id="d") if empty == "" else event(device_id="d")
    text = text.replace('"device_id"', '"user_id": null, "device_id"') if empty == "null" else text

    row = only_row(decode(text))

    assert row["unit_hash"] == hash64("d")
    assert row["unit_kind"] == 2
    assert "user_id" not in row


@pytest.mark.parametrize(
    ("name", "value", "stored"),
    [
        ("watch_ms", "5", 5),
        ("watch_ms", "5.0", 5),
        ("watch_ms", "5.000e0", 5),
        ("watch_ms", "1e3", 1000),
        ("watch_ms", "-0", 0),
        ("watch_ms", "9223372036854775807", 2**63 - 1),
        ("watch_ms", "-9223372036854775808", -(2**63)),
        ("watch_ms", "123456789012345678", 123456789012345678),
        ("watch_ms", "null", None),
        ("revenue", "5", 5.0),
        ("revenue", "0.1", 0.1),
        ("revenue", "-0.0", -0.0),
        ("revenue", "0.30000000000000004", 0.1 + 0.2),
        ("revenue", "1e23", 1e23),
        ("revenue", "8.98846567431158e307", 8.98846567431158e307),
        ("revenue", "5e-324", 5e-324),
        ("revenue", "1e-400", 0.0),
        ("revenue", "123456789012345678901234567890", 1.2345678901234568e29),
        ("coupon_used", "false", False),
        ("title", '"\\u0000"', "\0"),
        ("title", '""', ""),
        ("paid_at", '"0001-01-01T00:00:00Z"', datetime(1, 1, 1, tzinfo=UTC)),
    ],
)
def test_a_value_is_stored_as_it_was_meant(decode: Decode, name: str, value: str, stored: Any) -> None:
    row = only_row(decode(raw_property(name, value)))

    assert repr(row.get(name)) == repr(stored) or row.get(name) == stored


def test_what_is_not_declared_keeps_its_bytes(decode: Decode) -> None:
    body = (
        '{"event_id":"e","type":"view","context": {"b":1.50, "a":[ ]},"zeta":"\\u00e9","properties":'
        '{"z":1e400,"watch_ms":1,"revenue":2,"é": "x" }}'
    )

    row = only_row(decode(body))

    assert row["extra"] == (
        '{"revenue":2,"z":1e400,"é":"x","_envelope":{"context":{"b":1.50, "a":[ ]},"zeta":"\\u00e9"}}'
    )
    assert row["watch_ms"] == 1


def test_exposures_are_always_defined(decode: Decode) -> None:
    body = event(type="exposure", properties={"experiment": "x", "variant": "control"})

    row = only_row(decode(body))

    assert (row["experiment"], row["variant"]) == ("x", "control")


def test_a_retry_has_the_same_content_whatever_its_order_and_arrival(definitions: Definitions) -> None:
    decoder = Decoder(definitions)
    one = '{"event_id":"1","type":"view","sent_at":1,"a":1,"b":2,"properties":{"watch_ms":5,"x":1}}'
    two = '{"b":2,"properties":{"x":1,"watch_ms":5.0},"type":"view","event_id":"1","sent_at":2,"a":1}'
    other = '{"event_id":"1","type":"view","sent_at":1,"a":1,"b":2,"properties":{"watch_ms":6,"x":1}}'

    bodies = [
        Body(text.encode(), "web", moment) for text, moment in ((one, 10**15), (two, 2 * 10**15), (other, 10**15))
    ]
    first, second, third = decoder.decode_all(bodies).batch.column("content_hash").to_pylist()

    assert first == second
    assert first != third


# --- bodies ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "ids"),
    [
        (event(), ["e-1"]),
        (f"[{event()}]", ["e-1"]),
        (f" \n[ {event()} ,\n {event(event_id='e-2')} ]\n", ["e-1", "e-2"]),
        (f"{event()}\n{event(event_id='e-2')}", ["e-1", "e-2"]),
        (f"\r\n{event()}\r\n\r\n{event(event_id='e-2')}\r\n", ["e-1", "e-2"]),
        (json.dumps(json.loads(event()), indent=2), ["e-1"]),
        (f"\ufeff{event()}", ["e-1"]),
    ],
)
def test_a_body_is_one_event_an_array_or_lines(decode: Decode, body: str, ids: list[str]) -> None:
    decoded = decode(body)

    assert decoded.batch.column("event_id").to_pylist() == ids
    assert (decoded.received, decoded.accepted) == (len(ids), len(ids))


def test_one_bad_line_never_condemns_the_others(decode: Decode) -> None:
    lines = [event(), "{", event(event_id="e-2"), "nonsense", '{"event_id":"e-3","type":"gone"}', event(event_id="e-4")]

    decoded = decode("\n".join(lines))

    assert decoded.batch.column("event_id").to_pylist() == ["e-1", "e-2", "e-4"]
    assert [(v.index, v.status) for v in decoded.verdicts()] == [(1, "refused"), (3, "refused"), (4, "dead_lettered")]
    assert (decoded.received, decoded.accepted, len(decoded.refused)) == (6, 4, 2)


def test_one_bad_element_never_condemns_an_array(decode: Decode) -> None:
    deep = "[" * 10_000 + "]" * 10_000
    elements = [event(), "5", event(event_id=""), deep, '{"event_id":"e","type":"view","x":"\\ud800"}', event()]

    decoded = decode("[" + ",".join(elements) + "]")

    assert decoded.batch.num_rows == 2
    assert [(one.position, one.reason) for one in decoded.refused] == [
        (1, "not_an_object"),
        (2, "bad_event_id"),
        (3, "too_deep"),
        (4, "lone_surrogate"),
    ]


@pytest.mark.parametrize("broken", ["{]", "tru", '{"event_id":"x",}', '{"a":NaN}', '"', "{} {}", ""])
def test_a_broken_array_is_refused_whole_and_names_the_byte(decode: Decode, broken: str) -> None:
    body = f"[{event()},{broken}"

    decoded = decode(body if broken == '"' else body + "]")

    assert decoded.batch.num_rows == 0
    assert decoded.received == 1
    (refused,) = decoded.refused
    assert (refused.position, refused.reason) == (-1, "not_json")
    assert refused.message.startswith("byte ")
    assert int(refused.message.split()[1]) >= len(event()) + 2


@pytest.mark.parametrize("body", [b"", b" \r\n\t ", b"[]", b" [ ] ", b"\xef\xbb\xbf"])
def test_a_body_without_events_is_refused(decode: Decode, body: bytes) -> None:
    decoded = decode(body)

    assert only_verdict(decoded)[:2] == ("refused", "empty")
    assert (decoded.received, decoded.accepted) == (1, 0)


def test_a_batch_with_too_many_events_is_refused_whole(decode: Decode) -> None:
    enough = "\n".join([event()] * limits.batch_events_max)

    assert decode(enough).batch.num_rows == limits.batch_events_max
    assert only_verdict(decode(enough + "\n5"))[:2] == ("refused", "too_many_events")
    assert only_verdict(decode("[" + "1," * 40_000 + "1]"))[:2] == ("refused", "too_many_events")


def test_bodies_decoded_together_keep_apart(definitions: Definitions, now_us: int) -> None:
    bodies = [
        Body(f"[{event()},7]".encode(), "web", now_us),
        Body(b"[{]", "web", now_us),
        Body(b"", "web", now_us),
        Body(f"{event(event_id='e-2')}\n{event(type='gone')}".encode(), "app", now_us + 1),
    ]

    group = Decoder(definitions).decode_all(bodies)

    assert [(o.received, o.accepted, len(o.dead)) for o in group.outcomes] == [
        (2, 1, 0),
        (1, 0, 0),
        (1, 0, 0),
        (2, 2, 1),
    ]
    assert group.batch.column("source").to_pylist() == ["web", "app"]
    assert group.dead.column("source").to_pylist() == ["app"]
    assert [v.index for v in group.outcomes[3].verdicts()] == [1]
    assert [v.status for v in group.outcomes[0].verdicts(every=True)] == ["accepted", "refused"]


# --- what is not -----------------------------------------------------------------------------------------------

STRUCTURAL = {
    "no id": ('{"type":"view"}', "missing_event_id"),
    "null id": ('{"event_id":null,"type":"view"}', "missing_event_id"),
    "empty id": ('{"event_id":"","type":"view"}', "bad_event_id"),
    "number as id": ('{"event_id":7,"type":"view"}', "bad_event_id"),
    "long id": (event(event_id="x" * 257), "bad_event_id"),
    "no type": ('{"event_id":"1"}', "missing_type"),
    "empty type": ('{"event_id":"1","type":""}', "missing_type"),
    "number as type": ('{"event_id":"1","type":3}', "missing_type"),
    "id twice": ('{"event_id":"1","type":"view","event_id":"1"}', "duplicate_key"),
    "id twice, once escaped": ('{"event_id":"1","type":"view","\\u0065vent_id":"2"}', "duplicate_key"),
    "property twice": ('{"event_id":"1","type":"view","properties":{"watch_ms":1,"watch_ms":2}}', "duplicate_key"),
    "unknown key twice": ('{"event_id":"1","type":"view","x":1,"x":2}', "duplicate_key"),
    "text": ('"event"', "not_an_object"),
    "number": ("12", "not_an_object"),
    "NaN": ('{"event_id":"1","type":"view","properties":{"watch_ms":NaN}}', "not_json"),
    "Infinity": ('{"event_id":"1","type":"view","x":-Infinity}', "not_json"),
    "NUL byte": ('{"event_id":"a\0","type":"view"}', "not_json"),
    "comma": ('{"event_id":"1","type":"view",}', "not_json"),
    "cut short": ('{"event_id":"1","type":"vi', "not_json"),
    "two on a line": (event() + event(), "not_json"),
    "lone surrogate": ('{"event_id":"\\ud800","type":"view"}', "lone_surrogate"),
    "lone surrogate in extra": ('{"event_id":"1","type":"view","x":{"y":["\\udfff"]}}', "lone_surrogate"),
    "lone surrogate as key": ('{"event_id":"1","type":"view","\\ud800":1}', "lone_surrogate"),
    "33 deep": ('{"event_id":"1","type":"view","x":' + "[" * 32 + "]" * 32 + "}", "too_deep"),
    "10,000 deep": ('{"event_id":"1","type":"view","x":' + "[" * 10_000 + "]" * 10_000 + "}", "too_deep"),
    "10,000 deep and open": ('{"event_id":"1","type":"view","x":' + '{"a":' * 10_000, "too_deep"),
    "too large": (event(properties={"title": "x" * limits.event_bytes_max}), "too_large"),
}


@pytest.mark.parametrize(("body", "reason"), STRUCTURAL.values(), ids=STRUCTURAL.keys())
def test_a_structural_fault_is_refused_with_its_reason(decode: Decode, body: str, reason: str) -> None:
    decoded = decode(body)

    assert only_verdict(decoded)[:2] == ("refused", reason)
    assert (decoded.received, decoded.accepted) == (1, 0)
    assert len(decoded.refused[0].sample) <= limits.refused_sample_bytes_max
    assert len(decoded.refused[0].message) < 400
    assert "; " in decoded.refused[0].message


@pytest.mark.parametrize("raw", [b"\xff", b"\xc3(", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xc0\x80"])
@pytest.mark.parametrize("key", ["event_id", "user_id", "unknown", "sent_at"])
def test_bytes_that_are_no_utf8_are_refused_wherever_they_stand(decode: Decode, raw: bytes, key: str) -> None:
    more = b"" if key == "event_id" else b',"event_id":"e"'

    decoded = decode(b'{"' + key.encode() + b'":"' + raw + b'","type":"view"' + more + b"}")

    assert only_verdict(decoded)[:2] == ("refused", "invalid_utf8")


@pytest.mark.parametrize(
    "blank",
    [" ", "\t\n", "\u200b", "\ufeff\u2060", "\x00", "\xa0\u3000", "\u2800", "\u3164", "\u202e\u00ad", "\ufe0f"],
    ids=ascii,
)
def test_an_id_with_nothing_to_see_is_refused_and_says_why(decode: Decode, blank: str) -> None:
    for text in (event(event_id=blank), event(event_id=blank).encode().decode("unicode_escape")):
        decoded = decode(json.dumps(json.loads(text, strict=False), ensure_ascii=False))

        assert only_verdict(decoded)[:2] == ("refused", "bad_event_id")
        assert "would be taken for one; give each event an id of its own" in decoded.refused[0].message


@pytest.mark.parametrize("event_id", [" a", "a\u200b", "é", "編號", "\u0301", "😀", "\u200b\n7", "\ue000", "\\"])
def test_an_id_with_something_to_see_is_kept_as_it_is(decode: Decode, event_id: str) -> None:
    escaped = event(event_id=event_id)

    for body in (escaped, json.dumps(json.loads(escaped), ensure_ascii=False)):
        assert only_row(decode(body))["event_id"] == event_id


@pytest.mark.parametrize(
    ("body", "shown"),
    [
        (event(ts=True), "ts == true, "),
        (event(user_id=False), "user_id == false, "),
        (event(user_id=[None]), "user_id == an array, "),
        (event(event_id=[]), "event_id == an array, "),
        (event(event_id=1.5), "event_id == 1.5, "),
        (event(user_id=7), "user_id == 7, "),
        (event(ts="it's"), 'ts == "it\'s", '),
        (event(ts="\u202e\U000e0001"), 'ts == "\\u202e\\udb40\\udc01", '),
        ('{"event_id":null,"type":"view"}', "event_id == null, "),
        ("null", "event == null, "),
        ('{"event_id":"1","type":"view","x":NaN}', "number == NaN, "),
        (raw_property("revenue", "null"), "revenue == null, "),
        (event(properties={"_envelope": 1}), 'property name == "_envelope", '),
        ("", "body == nothing, "),
        ("[{}]x", "byte 4 == x, must not follow"),
        ("[{}] []", "byte 5 == [], must not follow"),
        ("[1 2]", "byte 3 == 2], must continue"),
        ("[{}", "byte 3 == nothing, must not be the end"),
        ('{"event_id":"\\ud800","type":"view"}', 'text == "\\ud800", '),
    ],
)
def test_a_message_shows_a_value_as_json_spells_it(decode: Decode, body: str, shown: str) -> None:
    (verdict,) = decode(body).verdicts()

    assert str(verdict.message).startswith(shown)


def test_a_message_shows_bytes_that_are_no_text_as_numbers(decode: Decode) -> None:
    (verdict,) = decode(b'{"event_id":"\xff"}').verdicts()

    assert str(verdict.message).startswith("byte 13 == 0xff, ")


def test_a_batch_with_too_many_events_is_not_said_to_have_fewer(decode: Decode) -> None:
    (verdict,) = decode("[" + "1," * 40_000 + "1]").verdicts()

    assert verdict.message == "events: more than 10000, must be at most 10000; send smaller batches"


SEMANTIC = {
    "unknown type": (event(type="gone"), "unknown_type", "type"),
    "number as user": (event(user_id=7), "wrong_type", "user_id"),
    "object as country": (event(country={}), "wrong_type", "country"),
    "long session": (event(session_id="x" * 1025), "too_long", "session_id"),
    "properties as array": (event(properties=[]), "wrong_type", "properties"),
    "text as int": (raw_property("watch_ms", '"5"'), "wrong_type", "watch_ms"),
    "fraction as int": (raw_property("watch_ms", "12.7"), "wrong_type", "watch_ms"),
    "small fraction as int": (raw_property("watch_ms", "1e-1"), "wrong_type", "watch_ms"),
    "bool as int": (raw_property("watch_ms", "true"), "wrong_type", "watch_ms"),
    "beyond int": (raw_property("watch_ms", "9223372036854775808"), "out_of_range", "watch_ms"),
    "far beyond int": (raw_property("watch_ms", "1e99999999999999999999"), "out_of_range", "watch_ms"),
    "beyond float": (raw_property("revenue", "1e400"), "out_of_range", "revenue"),
    "beyond float in digits": (raw_property("revenue", "9" * 400), "out_of_range", "revenue"),
    "text as float": (raw_property("revenue", '"1.5"'), "wrong_type", "revenue"),
    "number as text": (raw_property("title", "5"), "wrong_type", "title"),
    "number as bool": (raw_property("coupon_used", "1"), "wrong_type", "coupon_used"),
    "number as time": (raw_property("paid_at", "1767571200"), "bad_time", "paid_at"),
    "required absent": (event(type="purchase", properties={}), "missing_property", "revenue"),
    "required null": (raw_property("revenue", "null"), "missing_property", "revenue"),
    "no properties": ('{"event_id":"1","type":"purchase"}', "missing_property", "revenue"),
    "number as ts": (event(ts=1767571200), "bad_time", "ts"),
    "ts without offset": (event(ts="2026-01-05T11:00:00"), "bad_time", "ts"),
    "ts without a date": (event(ts="yesterday"), "bad_time", "ts"),
    "ts ahead": (event(ts="2026-01-06T12:00:00.000001Z"), "ts_ahead", "ts"),
    "ts in 9999": (event(ts="9999-12-31T23:59:59Z"), "ts_ahead", "ts"),
    "ts before 2000": (event(ts="1999-12-31T23:59:59.999999Z"), "ts_too_early", "ts"),
    "ts in year 1": (event(ts="0001-01-01T00:00:00Z"), "ts_too_early", "ts"),
    "reserved name": (event(properties={"_envelope": 1}), "reserved_name", "_envelope"),
}


@pytest.mark.parametrize(("body", "reason", "field"), SEMANTIC.values(), ids=SEMANTIC.keys())
def test_a_semantic_fault_is_kept_as_a_dead_letter(decode: Decode, body: str, reason: str, field: str) -> None:
    decoded = decode(" " + body + "\r\n")

    assert only_verdict(decoded) == ("dead_lettered", reason, field)
    assert (decoded.received, decoded.accepted) == (1, 1)
    (letter,) = decoded.dead.to_pylist()
    assert letter["raw"] == body.encode()
    assert (letter["source"], letter["reason"], letter["field"], letter["index"]) == ("web", reason, field, 0)
    assert letter["event_id"] == json.loads(body, parse_constant=str)["event_id"]
    assert letter["received_at"] == datetime(2026, 1, 5, 12, tzinfo=UTC)
    assert len(letter["message"]) < 400
    assert "; " in letter["message"]


def test_times_at_the_bounds_are_taken(decode: Decode) -> None:
    body = event(ts="2026-01-06T12:00:00Z") + "\n" + event(ts="2000-01-01T00:00:00Z")

    assert decode(body).batch.num_rows == 2


def test_every_reason_is_documented() -> None:
    page = (Path(__file__).parents[2] / "docs" / "reference" / "events-api.md").read_text(encoding="utf-8")

    missing = [reason for reason in (*REFUSED_REASONS, *DEAD_REASONS) if f"`{reason}`" not in page]

    assert not missing
