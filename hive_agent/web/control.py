"""Data and controls of the harness for the daemon, on the view socket: JSON without pages and sessions.

The daemon passes on what a person on the host asks for, and names itself by the key that it gave this harness at its
hello. Whoever else reaches the view socket, such as a browser through a forwarded port, does not know the key.
"""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from hive_agent.infra.json_text import encode
from hive_agent.web.actions import Actions, carry_out, read_body
from hive_agent.web.feed import Feed
from hive_agent.web.reading import NoQuery, Reading, parse_query
from hive_agent.web.refusal import PageError
from hive_core.protocol import (
    Answer,
    LoginCodeRequest,
    ModelRequest,
    Request,
    TranscriptQuery,
    TurnRequest,
    TurnsQuery,
)
from hive_core.protocol.pages import CONTROL_KEY, CONTROL_PATH

_MOST_BYTES = 128 * 1024

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def add_control(
    add: Callable[[str, str, Handler], object], reading: Reading, actions: Actions, feed: Feed, follow: Handler
) -> None:
    """Add the paths below `CONTROL_PATH`; `follow` answers with the live flow of events."""

    def check(request: web.Request) -> None:
        key = reading.controls.control_key()
        given = request.headers.get(CONTROL_KEY, "")
        if not key or not hmac.compare_digest(given.encode("utf-8", "surrogateescape"), key.encode()):
            raise PageError(
                "not_the_daemon", "this is for the daemon of the hive", "use hive-c0re on the host", status=403
            )

    def reads(path: str, query: type[Any], ask: Callable[[Any], Awaitable[web.Response]]) -> None:
        async def handle(request: web.Request) -> web.StreamResponse:
            check(request)
            return await ask(parse_query(query, dict(request.query)))

        add("GET", f"{CONTROL_PATH}/{path}", handle)

    def changes(path: str, body: type[Request], do: Callable[[Any], Awaitable[Answer]]) -> None:
        async def handle(request: web.Request) -> web.StreamResponse:
            check(request)
            wanted = await read_body(request, body, _MOST_BYTES)
            return web.json_response(text=(await carry_out(do(wanted))).model_dump_json())

        add("POST", f"{CONTROL_PATH}/{path}", handle)

    async def state(_: NoQuery) -> web.Response:
        now = {**reading.controls.snapshot(), "writing": feed.latest.writing, "event": feed.last_id}
        return web.Response(body=encode(now), content_type="application/json")

    async def events(request: web.Request) -> web.StreamResponse:
        check(request)
        return await follow(request)

    reads("state", NoQuery, state)
    reads("turns", TurnsQuery, reading.turns)
    reads("transcript", TranscriptQuery, reading.transcript)
    add("GET", f"{CONTROL_PATH}/events", events)
    changes("cancel", Request, actions.cancel)
    changes("retry", TurnRequest, actions.retry)
    changes("skip", TurnRequest, actions.skip)
    changes("pause", Request, actions.pause)
    changes("resume", Request, actions.resume)
    changes("go-on", Request, actions.go_on)
    changes("compact", Request, actions.compact)
    changes("new-session", Request, actions.new_session)
    changes("model", ModelRequest, actions.choose)
    changes("login", Request, actions.log_in)
    changes("code", LoginCodeRequest, actions.give_code)
