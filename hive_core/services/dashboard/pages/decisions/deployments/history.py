"""The deployments of an agent as a timeline, what changed since one of them, and the roll back to it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from aiohttp import web

from hive_core.errors import HiveError
from hive_core.services.dashboard.hive_client import HiveEvent, path_of
from hive_core.services.dashboard.live import Arguments, LivePart
from hive_core.services.dashboard.pages.decisions import words
from hive_core.services.dashboard.pages.decisions.diff.rows import show_file
from hive_core.services.dashboard.pages.decisions.files import DiffChoice, coloured, entries_of
from hive_core.services.dashboard.pages.decisions.subject import Subject, number_in
from hive_core.services.dashboard.rendering import Html, milliseconds_of
from hive_core.services.dashboard.visit import Visit, WebPage

_MOST = 50


def history_page(agent: str) -> str:
    """Return the path of the timeline of an agent."""
    return f"/agents/{quote(agent, safe='')}/history"


async def _timeline(visit: Visit, arguments: Arguments) -> Html:
    agent = arguments.get("name", "")
    offset = number_in(arguments, "offset", "0")
    query = {"limit": _MOST + 1, "offset": offset}
    found = (await visit.hive.get(path_of("agents", agent, "history"), query))["deployments"]
    return visit.fragment(
        "decisions/deployments/timeline.html.j2",
        agent=agent,
        page=history_page(agent),
        deployments=[(each, words.kind_in_words(each), milliseconds_of(each["deployed_at"])) for each in found[:_MOST]],
        older=offset + _MOST if len(found) > _MOST else None,
    )


async def _show(visit: Visit) -> web.StreamResponse:
    agent, offset = visit.path["name"], number_in(visit.query, "offset", "0")
    timeline = await _timeline(visit, {"name": agent, "offset": str(offset)})
    return visit.page("decisions/deployments/history.html.j2", agent=agent, timeline=timeline, offset=offset)


async def _show_since(visit: Visit, problem: HiveError | None = None, note: str = "") -> web.StreamResponse:
    agent, number = visit.path["name"], number_in(visit.path)
    found: Mapping[str, Any] = await visit.hive.get(path_of("agents", agent, "history", number))
    entries, parsed = entries_of(found)
    choice = DiffChoice.of(visit.query)
    subject = Subject("agents", agent, number)
    shown = []
    for entry in entries:
        sections = [entry.section] if entry.section is not None else []
        rows = [(section, show_file(section, choice.view, 0, 1_000_000)) for section in sections]
        html = visit.fragment(
            "decisions/templates/file.html.j2",
            entry=entry,
            preface=[],
            sections=rows,
            colours=await coloured(visit, entry.path, rows),
            choice=choice,
            subject=subject,
            first=0,
            is_cut=False,
            command="",
            may_comment=False,
        )
        shown.append((entry, html))
    return visit.page(
        "decisions/deployments/since.html.j2",
        status=200 if problem is None else problem.status,
        agent=agent,
        page=history_page(agent),
        found=found,
        shown=shown,
        preface=parsed.preface,
        choice=choice,
        problem=problem,
        note=note,
    )


async def _since(visit: Visit) -> web.StreamResponse:
    return await _show_since(visit)


async def _roll_back(visit: Visit) -> web.StreamResponse:
    agent, number, fields = visit.path["name"], number_in(visit.path), await visit.form()
    note = fields.get("note", "").strip()
    try:
        if fields.get("current") != str(await _current(visit, agent)):
            hint = "look at what changed since then, below, and confirm again"
            raise HiveError("stale_state", "another configuration was deployed meanwhile", hint=hint, status=409)
        body = {"number": number, "note": note}
        made = await visit.hive.post(path_of("agents", agent, "rollback"), body)
    except HiveError as error:
        if error.status in (401, 404):
            raise
        return await _show_since(visit, error, note)
    return visit.go_to(Subject("agents", agent, made["number"]).page)


async def _current(visit: Visit, agent: str) -> int | None:
    found = (await visit.hive.get(path_of("agents", agent, "history"), {"limit": 1}))["deployments"]
    return found[0]["number"] if found else None


def _is_changed_by(event: HiveEvent, arguments: Arguments) -> bool:
    return event.kind == "proposal.changed" and event.data.get("agent") == arguments.get("name")


PAGES = [
    WebPage("GET", "/agents/{name}/history", _show),
    WebPage("GET", "/agents/{name}/history/{number}", _since),
    WebPage("POST", "/agents/{name}/history/{number}/rollback", _roll_back),
]
LIVE_PARTS = [LivePart("decisions.history", _timeline, _is_changed_by)]
