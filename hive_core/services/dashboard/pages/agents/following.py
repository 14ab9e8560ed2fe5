"""Events of a harness, passed to a window as they happen: server-sent events with pieces of HTML.

An event's id is that of the harness, so that a window that lost its connection goes on behind what it has seen.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from contextlib import suppress
from http import HTTPStatus
from typing import Any

from aiohttp import web

from hive_core.errors import HiveError
from hive_core.services.dashboard.hive_client import HiveEvent, path_of
from hive_core.services.dashboard.pages.agents import entries as of
from hive_core.services.dashboard.pages.agents.turns import WORDS, show_entry, show_turn_row
from hive_core.services.dashboard.visit import Visit

_RETRY_SECONDS = 1.0
_KEEP_ALIVE_SECONDS = 20.0
_ENDS_WRITING = frozenset({"text", "call", "notice"})
_FOR_GOOD = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND})


async def follow(visit: Visit) -> web.StreamResponse:
    """Send what happens from behind the event `after`, over restarts of the harness and the daemon."""
    name = visit.path["name"]
    await visit.hive.get(path_of("agents", name))
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "X-Accel-Buffering": "no"})
    await response.prepare(visit.request)
    after = visit.request.headers.get("Last-Event-ID") or visit.query.get("after", "")
    with suppress(ConnectionError):
        await response.write(b"retry: 1000\n\n")
        alive = asyncio.create_task(_keep_alive(response))
        try:
            await _follow(visit, name, after if after.replace(".", "").isalnum() else "", response)
        finally:
            alive.cancel()
    return response


async def _follow(visit: Visit, name: str, after: str, response: web.StreamResponse) -> None:
    told: object = ""
    while True:
        problem: str | None = None
        try:
            async with visit.hive.stream(path_of("agents", name, "control", "events"), after=after) as events:
                if told is not None:
                    told = None
                    await response.write(_frame("", "connection", {"problem": None}))
                async for event in events:
                    after = event.id or after
                    if (frame := await _translated(visit, name, event)) is not None:
                        await response.write(frame)
        except HiveError as error:
            problem = error.message
            if error.status in _FOR_GOOD:
                await response.write(_frame("", "ended", {"problem": problem}))
                return
        # A stream ends after ten minutes, which is no problem of anybody's.
        if problem is not None:
            if problem != told:
                told = problem
                await response.write(_frame("", "connection", {"problem": problem}))
            await asyncio.sleep(_RETRY_SECONDS)


async def _translated(visit: Visit, name: str, event: HiveEvent) -> bytes | None:
    data = event.data
    if not isinstance(data, dict):
        return None
    match event.kind:
        case "now":
            return _frame(event.id, "anew", {})
        case "entry" if isinstance(turn := data.get("turn"), int):
            shown = await show_entry(visit, name, turn, data)
            ends = data.get("kind") in _ENDS_WRITING
            if shown is None and not ends:
                return _frame(event.id, "nothing", {})
            told: dict[str, object] = {"turn": turn, "ends": ends}
            if shown is not None:
                told |= {"html": shown.html, "into": shown.into, "outcome": shown.outcome}
            return _frame(event.id, "entry", told)
        case "turn" if (turn_view := _checked(data)) is not None:
            html = show_turn_row(visit, name, turn_view)
            return _frame(event.id, "turn", {"turn": turn_view["id"], "state": turn_view["state"], "html": html})
        case "writing" if isinstance(data.get("turn"), int):
            place, text = of.number(data, "at"), of.words(data, "text")
            return _frame(event.id, "writing", {"turn": data["turn"], "at": place, "text": text})
    return None


def _checked(data: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return a turn, whose fields are an agent's words, with those that a row needs."""
    state = data.get("state")
    numbers = {field: of.number(data, field) for field in ("id", "attempt", "tool_calls", "tokens_in", "tokens_out")}
    if state not in WORDS or numbers["id"] <= 0:
        return None
    senders = data.get("senders")
    return {
        **numbers,
        "state": state,
        "senders": [one for one in senders if isinstance(one, str)] if isinstance(senders, list) else [],
        **{field: of.words(data, field)[:4_000] for field in ("words", "detail", "failure")},
        **{field: _seconds(data.get(field)) for field in ("started_at", "ended_at", "next_try_at", "cost_usd")},
    }


def _seconds(value: object) -> float | None:
    usable = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e11
    return float(value) if usable and isinstance(value, int | float) else None


async def _keep_alive(response: web.StreamResponse) -> None:
    with suppress(ConnectionError):
        while True:
            await asyncio.sleep(_KEEP_ALIVE_SECONDS)
            await response.write(b": nothing new\n\n")


def _frame(identity: str, kind: str, data: Mapping[str, object]) -> bytes:
    line = f"id: {identity}\n" if identity else ""
    return f"{line}event: {kind}\ndata: {json.dumps(data)}\n\n".encode()
