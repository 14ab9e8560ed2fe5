"""The web application: its pages, who gets through to them, and the answer to each failure."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus

import structlog
from aiohttp import web
from aiohttp.typedefs import Middleware

from hive_core.errors import HiveError
from hive_core.services.dashboard.assets import serve_asset
from hive_core.services.dashboard.boundary import SAFE_METHODS, Boundary
from hive_core.services.dashboard.hive_client import DaemonRefusal, HiveClient, HiveConnection, path_of
from hive_core.services.dashboard.live import LiveParts
from hive_core.services.dashboard.markup.making import MARKUP, Markup
from hive_core.services.dashboard.pages import all_live_parts, all_pages
from hive_core.services.dashboard.server.connections import Connections
from hive_core.services.dashboard.server.health import HealthPages
from hive_core.services.dashboard.server.script_api import PREFIX, ScriptApi
from hive_core.services.dashboard.visit import MOST_FORM_BYTES, Visit, Visitor, WebPage

log = structlog.get_logger(__name__)

_LONGEST_ADDRESS = 64

_WITHOUT_VISITOR = ("wrong_host", "no_daemon", "two_sessions", "internal")
"""Errors on whose page nobody is signed in: the person is not known, or asking once more would be no help."""

Identify = Callable[[HiveClient], Awaitable[Visitor]]
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


async def ask_who(hive: HiveClient) -> Visitor:
    """Return the person whose session the requests of `hive` carry. Raises DaemonRefusal `not_signed_in`."""
    answer = await hive.get(path_of("me"))
    return Visitor(answer["name"], answer["role"])


@dataclass(frozen=True)
class Dashboard:
    """The parts of which the application is made."""

    boundary: Boundary
    connection: HiveConnection
    identify: Identify = ask_who
    connections: Connections = field(default_factory=Connections)


def build(dashboard: Dashboard) -> web.Application:
    """Return the application."""
    app = web.Application(middlewares=[_frame(dashboard)], client_max_size=MOST_FORM_BYTES)
    app[MARKUP] = Markup()
    parts = LiveParts(all_live_parts())
    boundary = dashboard.boundary

    async def secure(_: web.Request, response: web.StreamResponse) -> None:
        boundary.add_headers(response.headers)

    async def close(_: web.Application) -> None:
        parts.close()
        await app[MARKUP].close()
        await dashboard.connection.close()

    app.on_response_prepare.append(secure)
    app.on_shutdown.append(parts.stop)
    app.on_cleanup.append(close)
    api, health = ScriptApi(dashboard.connection), HealthPages(dashboard.connection, dashboard.connections, parts)
    app.router.add_get("/static/{tag}/{name}", serve_asset)
    app.router.add_get("/healthz", health.health)
    app.router.add_get("/metrics", health.metrics, allow_head=False)
    app.router.add_get(f"{PREFIX}/openapi.json", api.openapi, allow_head=False)
    for method in ("GET", "POST"):
        app.router.add_route(method, PREFIX + "/v1/{path:.+}", api.handle)
    for page in [*all_pages(), WebPage("GET", "/live", parts.stream)]:
        if page.method == "GET":
            # Not HEAD on other pages: those that have no end would not end for it either.
            app.router.add_get(page.path, _handler(dashboard, page), allow_head=page.public)
        else:
            app.router.add_route(page.method, page.path, _handler(dashboard, page))
    return app


def _handler(dashboard: Dashboard, page: WebPage) -> Handler:
    async def handle(request: web.Request) -> web.StreamResponse:
        if request.method not in SAFE_METHODS:
            dashboard.boundary.check_origin(request.headers)
        visit = await _visit(dashboard, request)
        if not page.public and not visit.visitor.name:
            return _to_sign_in(request)
        return await page.show(visit)

    return handle


async def _visit(dashboard: Dashboard, request: web.Request) -> Visit:
    address = client_address(request)
    found: Visit | None = None
    for credential in dashboard.boundary.sessions(request.headers.getall("Cookie", ())):
        hive = dashboard.connection.client(credential, address)
        try:
            visitor = await dashboard.identify(hive)
        except HiveError as error:
            if error.status != HTTPStatus.UNAUTHORIZED:
                raise
            continue  # It has ended, or is not ours.
        if found is not None:
            # One of them is of somebody else, who may want to see what is done with it.
            why = "this browser sends two sessions, and one of them was set by another service of its machine"
            hint = "remove the cookies of this address in the browser, then sign in again"
            raise HiveError("two_sessions", why, hint=hint)
        found = Visit(request, visitor, credential, hive, dashboard.boundary)
    return found or Visit(request, Visitor(), "", dashboard.connection.client(None, address), dashboard.boundary)


def client_address(request: web.Request) -> str:
    """Return the address of the browser; on a unix socket the one that the proxy adds as the last of those it got."""
    transport = request.transport
    connection = None if transport is None else transport.get_extra_info("socket")
    if connection is not None and connection.family == socket.AF_UNIX:
        forwarded = request.headers.getall("X-Forwarded-For", ())
        return forwarded[-1].rpartition(",")[2].strip()[:_LONGEST_ADDRESS] if forwarded else ""
    return request.remote or ""


def _to_sign_in(request: web.Request) -> web.StreamResponse:
    if request.method in SAFE_METHODS and request.headers.get("Sec-Fetch-Mode", "navigate") == "navigate":
        return web.Response(status=HTTPStatus.SEE_OTHER, headers={"Location": "/sign-in"})
    raise HiveError("not_signed_in", "you are not signed in", hint="sign in, then repeat the action", status=401)


def _frame(dashboard: Dashboard) -> Middleware:
    @web.middleware
    async def frame(request: web.Request, handler: Handler) -> web.StreamResponse:
        dashboard.connections.begin(request)
        try:
            dashboard.boundary.check_host(request.headers.getall("Host", ()), request.raw_path)
            return await handler(request)
        except (asyncio.CancelledError, ConnectionError):
            raise
        except HiveError as error:
            return await _show_error(dashboard, request, error)
        except web.HTTPException as error:
            shown = await _show_error(dashboard, request, _as_hive_error(error))
            if "Allow" in error.headers:
                shown.headers["Allow"] = error.headers["Allow"]
            return shown
        except Exception as error:
            log.error("request failed", path=ascii(request.path), exc_info=error)
            failure = HiveError("internal", "the dashboard failed on this request", hint="see its log", status=500)
            return await _show_error(dashboard, request, failure)
        finally:
            dashboard.connections.end(request)

    return frame


def _as_hive_error(error: web.HTTPException) -> HiveError:
    if error.status == HTTPStatus.NOT_FOUND:
        return HiveError("not_found", "there is nothing at this address", hint="begin at the overview", status=404)
    if error.status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        return HiveError("too_large", f"the body has more than {MOST_FORM_BYTES // 1024} KiB", status=error.status)
    return HiveError("invalid_request", error.reason, status=error.status)


async def _show_error(dashboard: Dashboard, request: web.Request, error: HiveError) -> web.StreamResponse:
    """Return a page about the error for people, or JSON for scripts."""
    if request.method == "HEAD" or "text/html" not in request.headers.get("Accept", ""):
        body = {"error": {"code": error.code, "message": error.message, "hint": error.hint}}
        response = web.json_response(body, status=error.status)
    else:
        visit = Visit(request, Visitor(), "", dashboard.connection.client(None), dashboard.boundary)
        if error.code not in _WITHOUT_VISITOR:
            with suppress(HiveError):
                visit = await _visit(dashboard, request)
        response = visit.page("error.html.j2", status=error.status, error=error)
    if isinstance(error, DaemonRefusal) and error.retry_after:
        response.headers["Retry-After"] = error.retry_after
    return response
