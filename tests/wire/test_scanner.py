"""The scanner against the reference: on any bodies, both ways give the same rows, dead letters and refusals.

A scanner of empty definitions takes hardly an event, so a decoder with one is the reference.
"""

from __future__ import annotations

import random
from typing import Any, Final

import pyarrow as pa
import pytest

from groundswell.model.definitions import Definitions, EventDef, PropertyDef
from groundswell.wire.body import Form
from groundswell.wire.decode import Body, Decoder, Group
from groundswell.wire.scan import LINES
from groundswell.wire.scanner import ROOM_MAX, Place, Scanner

NOW_US: Final = 1_767_614_400_000_000

TEXTS: Final = [
    '""', '"a"', '"user-1"', '"\\u00e9"', '"\\ud83d\\ude00"', '"é😀"', '"\\n\\t\\"\\\\\\/\\b\\f\\r"', '"\\u0000"',
    '"2026-01-04T12:00:00Z"', '"2026-01-04T12:00:00.123456+02:00"', '"' + "x" * 300 + '"', '"purchase"', '"view"',
]  # fmt: skip
ODD_TEXTS: Final = [
    '"\\ud83d"', '"2030-01-04T12:00:00Z"', '"1990-01-04T12:00:00Z"', '"2026-02-30T12:00:00Z"', '"' + "y" * 1100 + '"',
    '"\\x"',
]  # fmt: skip
NUMBERS: Final = [
    "0", "-0", "1", "5.0", "-5.00", "12.7", "1e3", "1E-2", "-1.5e+10", "9223372036854775807", "-9223372036854775808",
    "123456789012345678", "1234567890123456789", "0.1", "0.30000000000000004", "3.141592653589793", "1e-400", "1e22",
    "1e23", "123456789.123456789012", "2.2250738585072014e-308", "9007199254740993",
]  # fmt: skip
ODD_NUMBERS: Final = [
    "9223372036854775808", "1e400", "01", "1.", ".5", "-", "+1", "NaN", "Infinity", "1e", "1" * 310,
]  # fmt: skip
OTHERS: Final = ["null", "true", "false", "[]", "{}", "[1,2]", '{"a":1,"b":[{}]}', '{"a":1,"a":2}', "[" * 30 + "]" * 30]
ODD_OTHERS: Final = ["nul", "tru", "[" * 31 + "]" * 31, "[" * 40 + "]" * 40, "[1,]", '{"a":}', "{]"]
BYTES: Final = b'{}[],:"\\ \n0e.\xc3\xff\x00tn'

KEYS: Final = [
    "sent_at", "user_id", "anonymous_id", "device_id", "session_id", "country", "platform", "app_version",
    "data_centre", "source", "received_at", "foo", "bar", "é", "ts",
]  # fmt: skip
PROPERTIES: Final = ["revenue", "watch_ms", "paid_at", "coupon_used", "title", "voucher", "zip", "country"]
FITTING: Final = {
    "revenue": NUMBERS,
    "watch_ms": ["5", "5.0", "-7", "123456789012345678"],
    "paid_at": ['"2026-01-04T12:00:00Z"'],
    "coupon_used": ["true", "false"],
    "title": TEXTS,
}


class Sender:
    """Writes bodies: mostly sound, some odd, some broken. ``oddness`` is the share of what is not as it should be."""

    def __init__(self, seed: int, oddness: float) -> None:
        self._random = random.Random(seed)
        self._oddness = oddness

    def odd(self) -> bool:
        return self._random.random() < self._oddness

    def space(self) -> str:
        return self._random.choice(["", "", "", "", " ", "\t", "  ", "\r"])

    def value(self) -> str:
        pick = self._random.choice
        sound, odd = pick([(TEXTS, ODD_TEXTS), (NUMBERS, ODD_NUMBERS), (OTHERS, ODD_OTHERS)])
        return pick(odd if self.odd() else sound)

    def key(self, name: str) -> str:
        return '"' + ("".join(f"\\u{ord(char):04x}" for char in name) if self.odd() else name) + '"'

    def object(self, pairs: list[tuple[str, str]]) -> str:
        s = self.space
        inner = ",".join(f"{s()}{self.key(name)}{s()}:{s()}{value}{s()}" for name, value in pairs)
        return "{" + (inner or s()) + "}"

    def event(self) -> bytes:
        pick = self._random.choice
        kind = pick(["purchase", "view", "exposure"])
        pairs = [
            ("event_id", self.value() if self.odd() else f'"e-{self._random.randrange(100)}"'),
            ("type", self.value() if self.odd() else f'"{kind}"'),
        ]
        for name in self._random.sample(KEYS, k=self._random.randrange(5)):
            fitting = '"2026-01-04T12:00:00.5Z"' if name == "ts" else pick(TEXTS)
            pairs.append((name, self.value() if self.odd() else fitting))
        named = self._random.sample(PROPERTIES, k=self._random.randrange(5))
        properties = [(name, self.value() if self.odd() else pick(FITTING.get(name, OTHERS))) for name in named]
        if kind == "purchase" and "revenue" not in named and not self.odd():
            properties.append(("revenue", "1"))
        if kind == "exposure" and not self.odd():
            properties += [("experiment", '"x"'), ("variant", '"y"')]
        pairs.append(("properties", self.value() if self.odd() else self.object(properties)))
        if self.odd():
            pairs.append(pick(pairs))
        self._random.shuffle(pairs)
        return self.object(pairs).encode()

    def broken(self, body: bytes) -> bytes:
        changed = bytearray(body)
        for _ in range(self._random.choice([1, 1, 2])):
            at = self._random.randrange(len(changed))
            step = self._random.randrange(3)
            if step == 0:
                changed[at] = self._random.choice(BYTES)
            elif step == 1:
                del changed[at]
            else:
                changed.insert(at, self._random.choice(BYTES))
        return bytes(changed)

    def body(self) -> Body:
        pick = self._random.choice
        events = [self.event() for _ in range(pick([1, 1, 2, 5, 20]))]
        shape = self._random.random()
        if shape < 0.45:
            data = pick([b"\n", b"\n", b"\r\n", b"\n\n"]).join(events)
        elif shape < 0.9:
            data = b"[" + b",".join(events) + b"]"
        else:
            data = events[0]
        form: Form = pick(["auto", "auto", "auto", "ndjson", "json"])
        return Body(self.broken(data) if self.odd() else data, pick(["web", "app"]), NOW_US, form)


def facts(group: Group) -> list[Any]:
    rows = [{name: repr(value) for name, value in row.items() if value is not None} for row in group.batch.to_pylist()]
    return [list(group.outcomes), rows, group.dead.to_pylist()]


@pytest.mark.parametrize("oddness", [0.0, 0.01, 0.1])
def test_both_ways_through_any_body_agree(definitions: Definitions, oddness: float) -> None:
    fast, careful = Decoder(definitions), Decoder(definitions, scanner=Scanner(Definitions()))
    rows = 0

    for seed in range(250):
        sender = Sender(seed, oddness)
        bodies = [sender.body() for _ in range(1 + seed % 4)]
        scanned = fast.decode_all(bodies)
        assert facts(scanned) == facts(careful.decode_all(bodies)), f"seed {seed}"
        rows += scanned.batch.num_rows

    assert rows > (500 if oddness == 0.1 else 2000)


def test_the_scanner_takes_every_event_that_is_sound(definitions: Definitions) -> None:
    sender = Sender(1, 0.0)
    data = b"\n".join(sender.event() for _ in range(500))

    (chunk,) = Scanner(definitions).scan(data, [Place(0, len(data), LINES, NOW_US)], events_max=1000)

    assert len(chunk.events) == 500
    assert (
        chunk.rows > 450
    )  # the rest hold what one pass cannot settle, such as a key twice inside an undeclared object


def test_more_events_than_a_chunk_holds_come_out_in_order(definitions: Definitions) -> None:
    count = 2 * ROOM_MAX + 17
    lines = [b'{"event_id":"%d","type":"view"%s}' % (i, b',"x":1.0e0' if i % 1000 == 0 else b"") for i in range(count)]
    lines[5] = b"broken"
    decoder = Decoder(definitions, events_max=count)

    decoded = decoder.decode(b"\n".join(lines), source="web", received_at_us=NOW_US)

    assert decoded.batch.column("event_id").to_pylist() == [str(i) for i in range(count) if i != 5]
    assert [(one.position, one.reason) for one in decoded.refused] == [(5, "not_json")]


def test_an_array_that_breaks_after_many_chunks_is_still_refused_whole(definitions: Definitions) -> None:
    count = ROOM_MAX + 100
    body = b"[" + b",".join(b'{"event_id":"%d","type":"view"}' % i for i in range(count)) + b",nope]"
    good = Body(b'{"event_id":"good","type":"view"}', "web", NOW_US)
    decoder = Decoder(definitions, events_max=count * 2)

    group = decoder.decode_all([good, Body(body, "web", NOW_US), good])

    assert group.batch.column("event_id").to_pylist() == ["good", "good"]
    assert [outcome.received for outcome in group.outcomes] == [1, 1, 1]
    assert group.outcomes[1].refused[0].reason == "not_json"


def test_very_many_properties_cost_room_and_no_correctness() -> None:
    names = [f"p{i}" for i in range(1500)]
    definitions = Definitions(
        properties={name: PropertyDef(type="int") for name in names}, events={"wide": EventDef(properties=tuple(names))}
    )
    wide = (
        '{"event_id":"w","type":"wide","properties":{'
        + ",".join(f'"{name}":{i}' for i, name in enumerate(names[:300]))
        + "}}"
    )
    lines = [f'{{"event_id":"{i}","type":"wide","properties":{{"p{i % 1500}":{i}}}}}' for i in range(3000)]

    decoded = Decoder(definitions).decode("\n".join([*lines, wide]).encode(), source="web", received_at_us=NOW_US)

    table = pa.table(decoded.batch)
    assert decoded.batch.num_rows == 3001
    assert [table.column(f"p{i % 1500}")[i].as_py() for i in (0, 1499, 1500, 2999)] == [0, 1499, 1500, 2999]
    assert [table.column(f"p{i}")[3000].as_py() for i in range(300)] == list(range(300))


def test_many_undeclared_keys_are_all_kept(definitions: Definitions, decode: Any) -> None:
    keys = {f"k{i:03}": i for i in range(200)}
    text = (
        '{"event_id":"1","type":"view",' + ",".join(f'"{key}":{value}' for key, value in reversed(keys.items())) + "}"
    )

    row = decode(text).batch.to_pylist()[0]

    assert row["extra"] == '{"_envelope":{' + ",".join(f'"{key}":{value}' for key, value in keys.items()) + "}}"
