"""Where a request carries its write key, and the source that the key writes to."""

from __future__ import annotations

import base64
import binascii
from typing import Final

import structlog

from groundswell.collector.ports import Control
from groundswell.errors import Transient, Unauthorized, Unavailable
from groundswell.model.spelling import spelled

__all__ = ["source_of"]

_HOW: Final = "send it as 'Authorization: Bearer <key>', as 'X-Write-Key', or as the user name of HTTP Basic"
_ASK: Final = "ask whoever runs this collector for a key"  # a sender has no command to run

_log = structlog.get_logger(__name__)


def source_of(control: Control, authorization: bytes | None, write_key: bytes | None) -> str:
    """Return the source of a request.

    Raises:
        Unauthorized: there is no key, or it is unknown or revoked.
        Unavailable: keys cannot be looked up just now.
    """
    key = _bearer(authorization) if authorization is not None else ""
    if not key and write_key is not None:
        key = write_key.decode("latin-1").strip()
    if not key:
        raise Unauthorized(f"write key is missing; {_HOW}, or {_ASK}")
    try:
        return control.resolve_key(key)
    except Unauthorized as error:  # its next step is a command of whoever runs the collector
        raise Unauthorized(f"{str(error).partition(';')[0]}; {_ASK}") from None
    except Transient as error:
        _log.warning("collector.keys_unavailable", error=str(error))
        raise Unavailable("write keys cannot be looked up just now; send the same events again later") from None


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
    raise Unauthorized(f"authorization scheme == {spelled(scheme[:32])}, must be Bearer or Basic; {_HOW}")
