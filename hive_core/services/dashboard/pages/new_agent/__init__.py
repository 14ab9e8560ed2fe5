"""A new agent: a form, its first files before it is made, and the progress of its build."""

from __future__ import annotations

import asyncio
from typing import Any

from aiohttp import web

from hive_core.errors import HiveError
from hive_core.protocol.names import MANAGER, is_agent_name
from hive_core.services.dashboard.hive_client import HiveEvent, path_of
from hive_core.services.dashboard.live import Arguments, LivePart
from hive_core.services.dashboard.pages.lifecycle.acting import acting_form, check_may_act
from hive_core.services.dashboard.pages.new_agent.form import BACKENDS, FIRST_FIELDS, spawn_request
from hive_core.services.dashboard.rendering import Html
from hive_core.services.dashboard.visit import Visit, WebPage

_SHORT_SECONDS = 1.5
"""An agent that is made or refused by then needs no page of its own."""
_LOG_LINES = 200

_under_way: set[asyncio.Task[dict[str, Any]]] = set()
"""Requests to spawn whose answers come later than this dashboard waits for them; the daemon carries them out."""


async def _show(visit: Visit) -> web.StreamResponse:
    check_may_act(visit)
    fields = {**FIRST_FIELDS, "name": visit.query.get("name", "")[:20]}
    return await _page(visit, fields)


async def _send(visit: Visit) -> web.StreamResponse:
    form = await acting_form(visit)
    chosen = [str(value) for value in (await visit.request.post()).getall("repos", [])]
    fields = {**dict.fromkeys(FIRST_FIELDS, ""), **form}
    try:
        request = spawn_request(fields, chosen)
        preview = await visit.hive.post(path_of("spawn", "preview"), request)
        if fields.get("do") != "make":
            return await _page(visit, fields, chosen, preview=preview)
        return await _make(visit, request)
    except HiveError as error:
        return await _page(visit, fields, chosen, problem=error)


async def _make(visit: Visit, request: dict[str, object]) -> web.StreamResponse:
    """Have the daemon make the agent. A build may take long: then another page shows its progress."""
    name = str(request["name"])
    task = asyncio.create_task(visit.hive.post(path_of("agents"), request))
    _under_way.add(task)
    task.add_done_callback(_end)
    done, _ = await asyncio.wait([task], timeout=_SHORT_SECONDS)
    if done:
        await task
    return visit.go_to(f"/new-agent/{name}")


def _end(task: asyncio.Task[dict[str, Any]]) -> None:
    _under_way.discard(task)
    if not task.cancelled():
        task.exception()  # The page of the progress tells it from the proposal.


async def _page(
    visit: Visit,
    fields: dict[str, str],
    chosen: list[str] | None = None,
    *,
    preview: dict[str, Any] | None = None,
    problem: HiveError | None = None,
) -> web.StreamResponse:
    repositories = await visit.hive.get(path_of("repositories"))
    return visit.page(
        "new_agent/new_agent.html.j2",
        status=200 if problem is None else problem.status,
        fields=fields,
        chosen=chosen or [],
        repositories=[each["name"] for each in repositories["repositories"]],
        backends=BACKENDS,
        preview=preview,
        problem=problem,
    )


async def _show_progress(visit: Visit) -> web.StreamResponse:
    name = visit.path["name"]
    if not (name == MANAGER or is_agent_name(name)):
        raise HiveError("not_found", "there is nothing at this address", status=404)
    progress = await _progress(visit, {"name": name})
    return visit.page("new_agent/progress_page.html.j2", name=name, progress=progress)


async def _progress(visit: Visit, arguments: Arguments) -> Html:
    """Return how far the agent is: its proposal, the log of the build, and the agent if it is there."""
    name = arguments["name"]
    found = await visit.hive.get(path_of("proposals"), {"agent": name, "state": "all", "limit": 20})
    proposal = next((each for each in found["proposals"] if each["kind"] == "spawn"), None)
    agents = await visit.hive.get(path_of("agents"))
    agent = next((each for each in agents["agents"] if each["name"] == name), None)
    lines: list[str] = []
    if proposal is not None:
        number = proposal["number"]
        log = await visit.hive.get(path_of("proposals", name, number, "log"), {"lines": _LOG_LINES})
        lines = log["lines"]
    return visit.fragment("new_agent/progress.html.j2", name=name, proposal=proposal, agent=agent, lines=lines)


def _changes_progress(event: HiveEvent, arguments: Arguments) -> bool:
    return event.kind in ("proposal.changed", "agent.lifecycle", "agent.state") and (
        event.data["data"].get("agent") == arguments.get("name")
    )


PAGES = [
    WebPage("GET", "/new-agent", _show),
    WebPage("POST", "/new-agent", _send),
    WebPage("GET", "/new-agent/{name}", _show_progress),
]
LIVE_PARTS = [LivePart("new_agent.progress", _progress, _changes_progress, settles=True)]
