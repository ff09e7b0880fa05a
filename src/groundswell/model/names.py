"""What a name may look like, everywhere."""

from __future__ import annotations

import re
from typing import Final

from groundswell import limits
from groundswell.errors import InvalidInput

__all__ = ["NAME_PATTERN", "check_name"]

NAME_PATTERN: Final = "^[a-z][a-z0-9_]*$"
_NAME: Final = re.compile(NAME_PATTERN)


def check_name(kind: str, name: str) -> str:
    """Return ``name``, or raise :class:`InvalidInput` that says what a name of a ``kind`` must look like."""
    if len(name) > limits.name_chars_max:
        raise InvalidInput(f"{kind} name", name, f"must have at most {limits.name_chars_max} characters")
    if not _NAME.fullmatch(name):
        raise InvalidInput(
            f"{kind} name", name, "must start with a-z and hold only a-z, 0-9 and _", next_step="rename it"
        )
    return name
