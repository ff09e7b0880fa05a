"""How a request's body holds its events: one JSON value, a JSON array of events, or one event a line (NDJSON).

Invariants
    a JSON array that is broken anywhere is refused whole: what follows the fault cannot be told apart from it
    each line of NDJSON stands alone
"""

from __future__ import annotations

import re
from typing import Final, Literal

import msgspec

from groundswell import limits
from groundswell.wire.faults import Fault, refused
from groundswell.wire.scan import ARRAY, LINES, ONE

__all__ = ["BOM", "Form", "array_fault", "empty_fault", "mode_of"]

Form = Literal["auto", "json", "ndjson"]

BOM: Final = b"\xef\xbb\xbf"
_SPACE: Final = b" \t\r\n"
_NOT_SPACE: Final = re.compile(rb"[^ \t\r\n]")
_LIST: Final = msgspec.json.Decoder(list[msgspec.Raw])
_ANY: Final = msgspec.json.Decoder(msgspec.Raw)
_AT: Final = re.compile(r"\(byte (\d+)\)$")
_TRAILING: Final = "trailing characters"


def mode_of(body: bytes, form: Form = "auto") -> int:
    """Return ``ARRAY``, ``LINES`` or ``ONE`` for a body without a byte order mark.

    ``auto`` takes an array where the body starts with ``[``, else one value where it is one, else lines.
    """
    first = _NOT_SPACE.search(body)
    if first is None or form == "ndjson":
        return LINES
    if first.group() == b"[":
        return ARRAY
    return ONE if form == "json" or _is_one_value(body) else LINES


def _is_one_value(body: bytes) -> bool:
    if b"\n" not in body:
        return True
    stripped = body.strip(_SPACE)
    if b"\n" not in stripped:
        return True
    try:
        _ANY.decode(stripped)
    except (msgspec.DecodeError, RecursionError):
        # a broken value over several lines, unless more than its first line begins with a brace as lines of NDJSON do
        first_line = stripped[: stripped.find(b"\n")].rstrip(_SPACE)
        return stripped.startswith(b"{") and b"\n{" not in stripped and not first_line.endswith(b"}")
    return True


def empty_fault(body: bytes) -> Fault:
    """Return why a body without events is refused."""
    return refused("empty", "body", body, "must hold an event", "send one event, an array of events, or NDJSON")


def array_fault(body: bytes) -> Fault:
    """Return why a body that is no array of JSON values is refused; it names the byte."""
    at, trailing = len(body), False
    try:
        _LIST.decode(body)
    except RecursionError:
        return refused(
            "too_deep", "body", body, f"must be nested at most {limits.json_depth_max} deep", "send flatter events"
        )
    except msgspec.DecodeError as error:
        found = _AT.search(str(error))
        at = int(found[1]) if found else len(body)
        trailing = _TRAILING in str(error)
    if trailing:  # the decoder names the byte after the first that is too many
        rule, at = "must not follow the end of a JSON array", at - 1
    else:
        rule = "must continue a JSON array" if at < len(body) else "must not be the end of a JSON array"
    return refused("not_json", f"byte {at}", body[at : at + 16], rule, "send RFC 8259 JSON, or one event a line")
