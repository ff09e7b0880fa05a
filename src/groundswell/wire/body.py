"""A request's body cut into events: one JSON value, a JSON array of events, or one event a line (NDJSON).

Invariants
    cutting never recurses and never copies more than the events
    a JSON array that is broken anywhere is refused whole: what follows the fault cannot be told apart from it
    each line of NDJSON stands alone
"""

from __future__ import annotations

import re
from typing import Any, Final, Literal

import msgspec
import numba
import numpy as np

from groundswell import limits
from groundswell.wire.faults import Fault, refused

__all__ = ["Form", "depth", "split_body"]

Form = Literal["auto", "json", "ndjson"]

_BOM: Final = b"\xef\xbb\xbf"
_LIST: Final = msgspec.json.Decoder(list[msgspec.Raw])
_ANY: Final = msgspec.json.Decoder(msgspec.Raw)
_AT: Final = re.compile(r"^(.*) \(byte (\d+)\)$")
_BYTES_IN: Final = numba.types.Array(numba.uint8, 1, "C", readonly=True)


@numba.njit(numba.int64(_BYTES_IN), cache=True, nogil=True)
def depth(data: Any) -> Any:  # pragma: no cover - compiled
    """Return how deeply arrays and objects are nested, whether or not ``data`` is sound JSON otherwise."""
    now = deepest = np.int64(0)
    inside = False
    at = 0
    while at < len(data):
        byte = data[at]
        if inside:
            if byte == 92:
                at += 1
            elif byte == 34:
                inside = False
        elif byte == 34:
            inside = True
        elif byte in {91, 123}:
            now += 1
            deepest = max(now, deepest)
        elif byte in {93, 125}:
            now -= 1
        at += 1
    return deepest


def split_body(body: bytes, form: Form = "auto") -> list[bytes] | Fault:
    """Return the events of a body, in order, each as JSON bytes that may still be broken; or why it is refused whole.

    ``auto`` takes an array where the body starts with ``[``, else one value where it is one, else lines.
    """
    text = body.removeprefix(_BOM)
    head = text[:64].lstrip(b" \t\r\n") or text.lstrip(b" \t\r\n")
    if not head:
        return refused("empty", "body", body, "must hold an event", "send one event, an array of events, or NDJSON")
    if form != "ndjson" and head.startswith(b"["):
        return _array(text)
    if form == "json" or (form == "auto" and _is_one_value(text)):
        return [text]
    return [line for line in text.split(b"\n") if line.strip(b" \t\r")]


def _is_one_value(text: bytes) -> bool:
    stripped = text.strip(b" \t\r\n")
    if b"\n" not in stripped:
        return True
    try:
        _ANY.decode(stripped)
    except (msgspec.DecodeError, RecursionError):
        # a broken value over several lines, unless more than its first line begins with a brace as lines of NDJSON do
        return (
            stripped.startswith(b"{")
            and b"\n{" not in stripped
            and not stripped.split(b"\n", 1)[0].rstrip().endswith(b"}")
        )
    return True


def _array(text: bytes) -> list[bytes] | Fault:
    try:
        events = _LIST.decode(text)
    except RecursionError:
        return refused("too_deep", "body", text, f"must be nested at most {limits.json_depth_max} deep")
    except msgspec.DecodeError as error:
        found = _AT.match(str(error))
        at = int(found[2]) if found else len(text)
        return refused(
            "not_json",
            f"byte {at}",
            text[at : at + 16],
            "must continue a JSON array",
            "send RFC 8259 JSON, or one event a line",
        )
    if not events:
        return refused("empty", "body", text, "must hold an event", "send one event, an array of events, or NDJSON")
    return [bytes(event) for event in events]
