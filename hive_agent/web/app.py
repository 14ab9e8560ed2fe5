"""The web application: which paths there are, who gets through to them, and what every answer says to browsers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from aiohttp import web

from hive_agent.infra import log as harness_log
from hive_agent.interfaces import ActionNotPossible
from hive_agent.web import actions, assets, reading, refusal
from hive_agent.web.control import add_control
from hive_agent.web.door import Door
from hive_agent.web.feed import Feed
from hive_agent.web.refusal import PageError
from hive_agent.web.sessions import Sessions, split
from hive_agent.web.stream import stream
from hive_core.protocol import (
    MAX_REQUEST_BYTES,
    Answer,
    LoginCodeRequest,
    ModelRequest,
    PageEnterRequest,
    PageSession,
    Request,
    TranscriptQuery,
    TurnRequest,
    TurnsQuery,
)

log = logging.getLogger(__name__)

KEY = "X-Hive-Key"
"""The header with the session's second half."""
_SMALL = 64 * 1024
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True)
class Page:
    """What the page is made of."""

    agent: str
    manager: bool
    feed: Feed
    sessions: Sessions
    reading: reading.Reading
    actions: actions.Actions


def build(page: Page, door: Door) -> web.Application:
    """The page as it is behind one door."""
    app = web.Application(middlewares=[_frame(door)], client_max_size=MAX_REQUEST_BYTES)
    app.on_response_prepare.append(_secure)
    add = app.router.add_route

    def document(name: str) -> Handler:
        async def show(request: web.Request) -> web.StreamResponse:
            return _file(request, assets.page(name, page.agent, page.manager))

        return show

    async def static(request: web.Request) -> web.StreamResponse:
        found = assets.static().get(request.match_info["name"])
        if found is None:
            raise web.HTTPNotFound
        return _file(request, found)

    async def enter(request: web.Request) -> web.StreamResponse:
        door.check_origin(request.headers)
        wanted = await actions.read_body(request, PageEnterRequest, _SMALL)
        session = await page.sessions.enter(wanted.ticket)
        halves = split(session.session)
        response = web.json_response({"key": halves.key, "user": session.user})
        response.set_cookie(
            door.cookie, halves.cookie, max_age=int(session.expires_in), httponly=True, samesite="Strict", path="/"
        )
        return response

    async def known(request: web.Request, key: str | None) -> PageSession:
        door.check_origin(request.headers)
        return await page.sessions.check(request.cookies.get(door.cookie), key)

    async def events(request: web.Request) -> web.StreamResponse:
        await known(request, request.query.get("key"))  # a browser's EventSource sends no headers of ours
        return await stream(request, page.feed, lambda: _now(page))

    def reads(path: str, query: type[Any], ask: Callable[[Any, PageSession], Awaitable[web.Response]]) -> None:
        async def handle(request: web.Request) -> web.StreamResponse:
            session = await known(request, request.headers.get(KEY))
            return await ask(reading.parse_query(query, dict(request.query)), session)

        add("GET", f"/api/{path}", handle)

    def changes(
        path: str, body: type[Request], do: Callable[[Any, PageSession], Awaitable[Answer]], most: int = _SMALL
    ) -> None:
        async def handle(request: web.Request) -> web.StreamResponse:
            session = await known(request, request.headers.get(KEY))
            wanted = await actions.read_body(request, body, most)
            return web.json_response(text=(await actions.carry_out(do(wanted, session))).model_dump_json())

        add("POST", f"/api/{path}", handle)

    add("GET", "/", document("page"))
    add("GET", "/enter", document("enter"))
    add("POST", "/enter", enter)
    add("GET", "/static/{name}", static)
    add("GET", "/events", events)
    reads("now", reading.NoQuery, page.reading.state)
    reads("turns", TurnsQuery, page.reading.turns)
    reads("transcript", TranscriptQuery, page.reading.transcript)
    reads("inbox", reading.NoQuery, page.reading.inbox)
    reads("open", reading.NoQuery, page.reading.open_items)
    changes("send", actions.Typed, page.actions.send, MAX_REQUEST_BYTES)
    changes("answer", actions.Answered, page.actions.answer, 2 * _SMALL)
    changes("cancel", Request, page.actions.cancel)
    changes("retry", TurnRequest, page.actions.retry)
    changes("skip", TurnRequest, page.actions.skip)
    changes("compact", Request, page.actions.compact)
    changes("new-session", Request, page.actions.new_session)
    changes("choose", ModelRequest, page.actions.choose)
    changes("login", Request, page.actions.log_in)
    changes("code", LoginCodeRequest, page.actions.give_code, 2 * _SMALL)
    if door.port is None:
        add_control(
            add, page.reading, page.actions, page.feed, lambda request: stream(request, page.feed, lambda: _now(page))
        )
    return app


def _now(page: Page) -> bytes:
    return b'{"snapshot":%s,"latest":%s}' % (page.reading.now(), page.feed.latest.as_json())


def _frame(door: Door) -> Any:
    @web.middleware
    async def frame(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            door.check_host(request.headers)
            return await handler(request)
        except PageError as error:
            return refusal.answer(error)
        except ActionNotPossible as error:
            return refusal.answer(actions.not_now(error))
        except web.HTTPException as error:
            return refusal.answer(_not_there(error, request))
        except (asyncio.CancelledError, ConnectionError):
            raise
        except Exception as error:
            log.error("the page cannot answer %s: %s", request.path[:100], harness_log.where(error))
            return refusal.answer(PageError("internal", "the harness made a mistake", "its log says where", status=500))

    return frame


def _not_there(error: web.HTTPException, request: web.Request) -> PageError:
    if error.status == HTTPStatus.METHOD_NOT_ALLOWED:
        return PageError("method_not_allowed", f"{request.method} is not for this path", status=error.status)
    if error.status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        return actions.too_large(MAX_REQUEST_BYTES)
    if error.status == HTTPStatus.NOT_FOUND:
        return PageError("not_found", "there is nothing at this path", "begin at /", status=error.status)
    return PageError("invalid_request", error.reason, status=error.status)


def _file(request: web.Request, asset: assets.Asset) -> web.StreamResponse:
    headers = {"ETag": f'"{asset.tag}"', "Cache-Control": "no-cache"}
    if any(tag.value == asset.tag for tag in request.if_none_match or ()):
        return web.Response(status=HTTPStatus.NOT_MODIFIED, headers=headers)
    return web.Response(body=asset.content, content_type=asset.media_type, charset="utf-8", headers=headers)


async def _secure(_request: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(_HEADERS)
    response.headers.setdefault("Cache-Control", "no-store")
    # Says which library this is, in which version.
    response.headers["Server"] = "hyperhive"
