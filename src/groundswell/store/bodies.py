"""Definitions as the database holds them: JSON with every field written out.

A field that is left to its default is stored with the default of that day, so that a later program with another default
still recomputes the old number. ``FORMAT`` moves when an old program could misread a body.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from groundswell.errors import Conflict, Corrupt
from groundswell.model.definitions import KINDS, Definition, Kind

__all__ = ["FORMAT", "decode_body", "encode_body"]

FORMAT: Final = 1


def encode_body(definition: Definition) -> str:
    """Return the JSON of a definition, defaults and all."""
    return msgspec.json.encode(_fields(definition)).decode()


def decode_body(kind: Kind, name: str, body_format: int, body: str) -> Definition:
    """Return the definition.

    Raises:
        Conflict: a newer program wrote it.
        Corrupt: it is not what any program wrote.
    """
    if body_format > FORMAT:
        raise Conflict(
            f"{kind} {name} is stored in format {body_format}, this program knows up to {FORMAT}; "
            "run the newer groundswell that wrote it"
        )
    try:
        return msgspec.json.decode(body, type=KINDS[kind])
    except (msgspec.MsgspecError, UnicodeError) as error:
        raise Corrupt(
            f"the stored definition of {kind} {name} cannot be read ({error}); restore it from a backup"
        ) from error


def _fields(value: object) -> Any:
    if isinstance(value, Definition):
        return {field: _fields(getattr(value, field)) for field in value.__struct_fields__}
    return value
