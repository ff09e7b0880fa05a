"""The application that people and programs read: pages, their fragments, the JSON API, OFREP and static files.

    /  /experiments  /experiments/{name}  /dead-letters        pages
    /fragments/...                                             the part of a page that refreshes itself
    /v1/overview  /v1/experiments  /v1/experiments/{name}/scorecard  /openapi.json
    /ofrep/v1/evaluate/flags[/{key}]
    /static/{name}

Invariants
    everything is read through ``Ports``; nothing here writes
    a page works without scripts; a script only refreshes it
    reads run on threads, at most ``limits.page_readers_max`` at once, so that the event loop answers flags meanwhile
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final, TypeVar
from urllib.parse import quote

import anyio
import anyio.to_thread
import structlog
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from groundswell import limits
from groundswell.errors import GroundswellError, InvalidInput, NotComputable, NotFound, Overloaded
from groundswell.model.clock import Clock
from groundswell.model.spelling import Verbatim, spelled
from groundswell.web.list_view import view_dead_letters, view_experiments
from groundswell.web.ofrep import OFREP_PREFIX, build_ofrep
from groundswell.web.openapi import openapi_document
from groundswell.web.overview_view import view_overview
from groundswell.web.ports import Ports
from groundswell.web.public import public
from groundswell.web.render import assets, render
from groundswell.web.responses import App, BadMethod, Receive, Scope, Send, error_page, html, json, with_headers
from groundswell.web.scorecard_view import view_scorecard

__all__ = ["build_app"]

Answer = TypeVar("Answer")

_KEPT_FOR_EVER: Final = "public, max-age=31536000, immutable"
_COMPRESS_FROM_BYTES: Final = 2_048  # below that a packet holds it anyway

_QUERY_CHARS_MAX: Final = 64
_BY_COMMAND: Final = frozenset(("snapshot", "definitions"))  # what only the command can ask of a scorecard

_log = structlog.get_logger("groundswell.web")


class _Pages:
    """Handlers of all routes."""

    def __init__(self, ports: Ports, clock: Clock) -> None:
        self._ports = ports
        self._clock = clock
        self._readers = anyio.CapacityLimiter(limits.page_readers_max)
        self._asked = 0  # reads that run or wait
        self._openapi = openapi_document()

    async def _read(self, ask: Callable[[], Answer]) -> Answer:
        if self._asked >= limits.page_readers_max + limits.page_waiting_max:
            raise Overloaded("too many pages are being read at once; ask again in a few seconds", retry_after_s=2.0)
        self._asked += 1
        try:
            return await anyio.to_thread.run_sync(ask, limiter=self._readers)
        finally:
            self._asked -= 1

    # --- pages -------------------------------------------------------------------------------------------------

    async def overview(self, request: Request) -> Response:
        view = view_overview(await self._read(self._ports.overview))
        return _page(request, "overview.html", "_overview.html", view=view, here="/")

    async def experiments(self, request: Request) -> Response:
        view = view_experiments(await self._read(self._ports.experiments), self._clock.now_us())
        return _page(request, "experiments.html", "_experiments.html", view=view, here="/experiments")

    async def scorecard(self, request: Request) -> Response:
        name: str = request.path_params["name"]
        try:
            scorecard = await self._read(partial(self._ports.scorecard, name))
        except NotComputable as error:
            # a draft, or an experiment nobody has seen, is no failure of the page
            body = render("waiting.html", name=name, reason=error.reason, here="/experiments")
            return html(body)
        view = view_scorecard(scorecard)
        path = quote(name, safe="")
        return _page(request, "scorecard.html", "_scorecard.html", view=view, path=path, here="/experiments")

    async def dead_letters(self, request: Request) -> Response:
        _check_query(request, "reason", "source", "cursor", "live")
        query = request.query_params
        reason, source = query.get("reason") or None, query.get("source") or None
        ask = partial(
            self._ports.dead_letters,
            reason=reason,
            source=source,
            cursor=query.get("cursor") or None,
            limit=limits.page_rows,
        )
        view = view_dead_letters(await self._read(ask), reason=reason, source=source, now_us=self._clock.now_us())
        return html(render("dead_letters.html", view=view, here="/dead-letters"))

    # --- API ---------------------------------------------------------------------------------------------------

    async def overview_json(self, request: Request) -> Response:
        _check_query(request)
        return json(public(await self._read(self._ports.overview)))

    async def experiments_json(self, request: Request) -> Response:
        _check_query(request)
        return json({"experiments": public(await self._read(self._ports.experiments))})

    async def scorecard_json(self, request: Request) -> Response:
        _check_query(request)
        return json(await self._read(partial(self._ports.scorecard, request.path_params["name"])))

    async def openapi(self, request: Request) -> Response:
        del request
        return json(self._openapi)

    def routes(self) -> list[Route]:
        pairs = [
            ("/", self.overview),
            ("/fragments/overview", self.overview),
            ("/experiments", self.experiments),
            ("/fragments/experiments", self.experiments),
            ("/experiments/{name}", self.scorecard),
            ("/fragments/experiments/{name}", self.scorecard),
            ("/dead-letters", self.dead_letters),
            ("/v1/overview", self.overview_json),
            ("/v1/experiments", self.experiments_json),
            ("/v1/experiments/{name}/scorecard", self.scorecard_json),
            ("/openapi.json", self.openapi),
            ("/static/{name}", _static),
        ]
        return [Route(path, handler, methods=["GET"]) for path, handler in pairs]


def build_app(ports: Ports, clock: Clock, *, flag_requests_per_s_max: float = limits.flag_requests_per_s_max) -> App:
    """Return the ASGI application over ``ports``; it has nothing to start or stop."""
    pages = Starlette(
        routes=_Pages(ports, clock).routes(),
        middleware=[Middleware(GZipMiddleware, minimum_size=_COMPRESS_FROM_BYTES)],
        exception_handlers={GroundswellError: _on_error, HTTPException: _on_http_error, 500: _on_bug},
    )
    shown = with_headers(pages)
    flags = build_ofrep(ports, clock, requests_per_s_max=flag_requests_per_s_max)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"].startswith(OFREP_PREFIX):
            await flags(scope, receive, send)
        else:
            await shown(scope, receive, send)

    return app


def _check_query(request: Request, *known: str) -> None:
    """Refuse what would be passed over: numbers of another snapshot than was asked for look like the right ones."""
    for name, value in request.query_params.multi_items():
        if name not in known:
            rule = f"must be {' or '.join(known)}" if known else "is not understood here, no parameter is"
            next_step = "leave it out"
            if name in _BY_COMMAND:
                next_step += f", or run groundswell scorecard NAME --{name} {name.upper()}"
            shown = spelled(value[:_QUERY_CHARS_MAX])
            raise InvalidInput(f"query parameter {spelled(Verbatim(name))}", shown, rule, next_step=next_step)


def _page(request: Request, whole: str, fragment: str, **values: object) -> Response:
    """Return the whole page, or only what refreshes where htmx asks for it."""
    live = request.query_params.get("live") != "off"
    wanted = fragment if request.url.path.startswith("/fragments/") else whole
    return html(render(wanted, live=live, **values))


async def _static(request: Request) -> Response:
    found = assets().get(request.path_params["name"])
    if found is None:
        raise NotFound("no such file")
    current = request.query_params.get("v") == found.digest
    caching = _KEPT_FOR_EVER if current else "no-cache"
    return Response(found.content, 200, {"cache-control": caching}, found.media_type)


async def _on_error(request: Request, error: Exception) -> Response:
    answer = error_page(error, path=request.url.path)
    if answer.status_code >= 500:
        _log.warning("page_failed", path=request.url.path, error=str(error))
    return answer


async def _on_http_error(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    path = request.url.path
    if status == 405:
        answer = error_page(BadMethod(f"method == {spelled(request.method[:20])}, must be GET or HEAD"), path=path)
        answer.headers["allow"] = "GET, HEAD"
        return answer
    return error_page(NotFound("no page has this address"), path=path)


async def _on_bug(request: Request, error: Exception) -> Response:
    _log.error("page_broke", path=request.url.path, exc_info=error)
    return error_page(GroundswellError("this page broke; the server's log says why"), path=request.url.path)
