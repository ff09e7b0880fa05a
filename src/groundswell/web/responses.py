"""What every page and API answer has in common: headers that keep a browser from doing more than the page needs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from math import ceil
from typing import Any, Final

import msgspec
from starlette.responses import HTMLResponse, Response

from groundswell.errors import (
    GroundswellError,
    InvalidInput,
    NotComputable,
    NotFound,
    Overloaded,
    SnapshotGone,
    Transient,
    Unauthorized,
)
from groundswell.web.render import render

__all__ = ["BadMethod", "error_page", "error_status", "html", "json", "with_headers"]

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_POLICY: Final = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    b"base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
_HEADERS: Final = [
    (b"content-security-policy", _POLICY),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
]


class BadMethod(GroundswellError):
    """A path is not answered by this method."""


# the first type that fits decides: status, a stable reason, a title a person understands
_ERRORS: Final[tuple[tuple[type[Exception], int, str, str], ...]] = (
    (NotFound, 404, "not_found", "Not found"),
    (BadMethod, 405, "bad_method", "Not answered"),
    (NotComputable, 409, "not_computable", "Nothing to show yet"),
    (SnapshotGone, 410, "snapshot_gone", "The snapshot is gone"),
    (InvalidInput, 400, "invalid_input", "That cannot be asked for"),
    (Unauthorized, 401, "unauthorized", "Not allowed"),
    (Overloaded, 503, "overloaded", "Busy just now"),
    (Transient, 503, "unavailable", "Not available just now"),
    (GroundswellError, 500, "failed", "Something is wrong"),
)


def html(body: str, status: int = 200) -> Response:
    """Return a page; it is never kept, because it shows the state of now."""
    return HTMLResponse(body, status, {"cache-control": "no-store"})


def json(value: object, status: int = 200) -> Response:
    """Return a value as JSON."""
    return Response(msgspec.json.encode(value), status, {"cache-control": "no-store"}, "application/json")


def error_status(error: Exception) -> tuple[int, str, str]:
    """Return status, reason and title of ``error``."""
    return next(found[1:] for found in _ERRORS if isinstance(error, found[0]))


def error_page(error: Exception, *, path: str) -> Response:
    """Return ``error`` as the asker reads it: JSON under /v1, else a page."""
    status, reason, title = error_status(error)
    if path.startswith("/v1/"):
        response = json({"error": {"reason": reason, "message": str(error)}}, status)
    else:
        hint = "This page can simply be loaded again." if isinstance(error, Transient) else ""
        response = html(render("error.html", title=title, message=str(error), hint=hint, here="", live=False), status)
    if isinstance(error, Transient):
        wait_s = error.retry_after_s if isinstance(error, Overloaded) else 1.0
        response.headers["retry-after"] = str(ceil(wait_s))
    if isinstance(error, Unauthorized):
        response.headers["www-authenticate"] = "Bearer"
    return response


def with_headers(app: App) -> App:
    """Return ``app`` with the headers of this module on every response."""

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *_HEADERS]
            await send(message)

        await app(scope, receive, send_with_headers)

    return wrapped
