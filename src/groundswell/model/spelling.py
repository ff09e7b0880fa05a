"""How a message shows a value that came as JSON: as JSON spells it, because its sender may know nothing of Python.

Invariants
    what cannot be seen, half a character included, is shown as an escape, so that every message can be encoded
    no more is spelled than a message shows: a fault must not cost more than what it is about
"""

from __future__ import annotations

import json
from typing import Any, Final

__all__ = ["Verbatim", "spelled"]

_CHARS_MAX: Final = 256  # more than a message shows


class Verbatim(str):
    """Text that a message shows without quotes."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def spelled(value: Any) -> Verbatim:
    """Return ``value`` as JSON spells it; bytes stand for JSON as it was sent."""
    if isinstance(value, Verbatim):
        return Verbatim(_visible(value[:_CHARS_MAX]))
    if isinstance(value, bytes):
        return Verbatim(_visible(value[:_CHARS_MAX].decode(errors="backslashreplace")) or "nothing")
    if isinstance(value, str):
        return Verbatim(_visible(json.dumps(value[:_CHARS_MAX], ensure_ascii=False)))
    if isinstance(value, dict):
        return Verbatim("an object")
    if isinstance(value, list | tuple):
        return Verbatim("an array")
    return Verbatim(json.dumps(value))


def _visible(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else json.dumps(char)[1:-1] for char in text)
