"""Definitions and decoders that the tests of the wire share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from groundswell.model.clock import parse_us
from groundswell.model.definitions import Definitions, EventDef, PropertyDef
from groundswell.wire.decode import Decoded, Decoder

NOW_US = parse_us("now", "2026-01-05T12:00:00Z")

Decode = Callable[..., Decoded]


@pytest.fixture(scope="session")
def now_us() -> int:
    return NOW_US


@pytest.fixture(scope="session")
def definitions() -> Definitions:
    return Definitions(
        version=3,
        properties={
            "revenue": PropertyDef(type="float"),
            "watch_ms": PropertyDef(type="int"),
            "paid_at": PropertyDef(type="timestamp"),
            "coupon_used": PropertyDef(type="bool"),
            "title": PropertyDef(type="string"),
        },
        events={
            "purchase": EventDef(properties=("revenue", "title", "paid_at", "coupon_used"), required=("revenue",)),
            "view": EventDef(properties=("watch_ms", "title", "coupon_used")),
        },
    )


@pytest.fixture(scope="session")
def decode(definitions: Definitions) -> Decode:
    """Decode a body that arrives at NOW_US from source ``web``."""
    decoder = Decoder(definitions)

    def decode_body(body: bytes | str, **more: Any) -> Decoded:
        data = body.encode() if isinstance(body, str) else body
        return decoder.decode(data, source="web", received_at_us=NOW_US, **more)

    return decode_body
