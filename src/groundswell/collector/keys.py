"""Where a request carries its write key, and the source that the key writes to."""

from __future__ import annotations

import base64
import binascii
from typing import Final

from groundswell.collector.ports import Control
from groundswell.errors import Unauthorized

__all__ = ["source_of"]

_HOW: Final = "send it as 'Authorization: Bearer <key>', as 'X-Write-Key', or as the user name of HTTP Basic"


def source_of(control: Control, authorization: bytes | None, write_key: bytes | None) -> str:
    """Return the source of a request.

    Raises:
        Unauthorized: there is no key, or it is unknown or revoked.
    """
    key = _bearer(authorization) if authorization is not None else ""
    if not key and write_key is not None:
        key = write_key.decode("latin-1").strip()
    if not key:
        raise Unauthorized(f"write key is missing; {_HOW}")
    return control.resolve_key(key)


def _bearer(authorization: bytes) -> str:
    scheme, _, credentials = authorization.decode("latin-1").partition(" ")
    credentials = credentials.strip()
    if scheme.lower() == "bearer":
        return credentials
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(credentials, validate=True).decode("utf-8").partition(":")[0]
        except (binascii.Error, ValueError):
            raise Unauthorized(f"authorization is no HTTP Basic; {_HOW}") from None
    raise Unauthorized(f"authorization scheme == {scheme[:32]!r}, must be Bearer or Basic; {_HOW}")
