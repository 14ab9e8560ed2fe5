"""The web application: its pages, who gets through to them, and the answer to each failure."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from http import HTTPStatus

import structlog
from aiohttp import web
from aiohttp.typedefs import Middleware

from hive_core.errors import HiveError
from hive_core.services.dashboard.assets import serve_asset
from hive_core.services.dashboard.boundary import SAFE_METHODS, Boundary
from hive_core.services.dashboard.hive_client import HiveClient, HiveConnection, path_of
from hive_core.services.dashboard.live import LiveParts
from hive_core.services.dashboard.markup.making import MARKUP, Markup
from hive_core.services.dashboard.pages import all_live_parts, all_pages
from hive_core.services.dashboard.visit import MOST_FORM_BYTES, Visit, Visitor, WebPage

log = structlog.get_logger(__name__)

Identify = Callable[[HiveClient], Awaitable[Visitor]]
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


async def ask_who(hive: HiveClient) -> Visitor:
    """Return the person whose session the requests of `hive` carry. Raises DaemonRefusal `not_signed_in`."""
    answer = await hive.get(path_of("me"))
    return Visitor(answer["name"], answer["role"])


@dataclass(frozen=True)
class Dashboard:
    """What the application is made of."""

    boundary: Boundary
    connection: HiveConnection
    identify: Identify = ask_who


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
    app.on_cleanup.append(close)
    app.router.add_get("/static/{tag}/{name}", serve_asset)
    for page in [*all_pages(), WebPage("GET", "/live", parts.stream)]:
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
    credential = request.cookies.get(dashboard.boundary.cookie, "")
    hive = dashboard.connection.client(credential or None, request.remote or "")
    visitor = Visitor()
    if credential:
        try:
            visitor = await dashboard.identify(hive)
        except HiveError as error:
            if error.status != HTTPStatus.UNAUTHORIZED:
                raise
            # Its session has ended.
            credential, hive = "", dashboard.connection.client(None, request.remote or "")
    return Visit(request, visitor, credential, hive, dashboard.boundary)


def _to_sign_in(request: web.Request) -> web.StreamResponse:
    if request.method in SAFE_METHODS and request.headers.get("Sec-Fetch-Mode", "navigate") == "navigate":
        return web.Response(status=HTTPStatus.SEE_OTHER, headers={"Location": "/sign-in"})
    raise HiveError("not_signed_in", "you are not signed in", hint="sign in, then repeat the action", status=401)


def _frame(dashboard: Dashboard) -> Middleware:
    @web.middleware
    async def frame(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            dashboard.boundary.check_host(request.headers)
            return await handler(request)
        except (asyncio.CancelledError, ConnectionError):
            raise
        except HiveError as error:
            return _show_error(dashboard, request, error)
        except web.HTTPException as error:
            return _show_error(dashboard, request, _as_hive_error(error))
        except Exception as error:
            log.error("request failed", path=ascii(request.path), exc_info=error)
            failure = HiveError("internal", "the dashboard failed on this request", hint="see its log", status=500)
            return _show_error(dashboard, request, failure)

    return frame


def _as_hive_error(error: web.HTTPException) -> HiveError:
    if error.status == HTTPStatus.NOT_FOUND:
        return HiveError("not_found", "there is nothing at this address", hint="begin at the overview", status=404)
    if error.status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        return HiveError("too_large", f"the body has more than {MOST_FORM_BYTES // 1024} KiB", status=error.status)
    return HiveError("invalid_request", error.reason, status=error.status)


def _show_error(dashboard: Dashboard, request: web.Request, error: HiveError) -> web.StreamResponse:
    """Return a page about the error for people, or JSON for scripts."""
    if "text/html" in request.headers.get("Accept", ""):
        hive = dashboard.connection.client(None)
        return Visit(request, Visitor(), "", hive, dashboard.boundary).page(
            "error.html.j2", status=error.status, error=error
        )
    body = {"error": {"code": error.code, "message": error.message, "hint": error.hint}}
    return web.json_response(body, status=error.status)
