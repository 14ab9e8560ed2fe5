"""The page with the transcript, and the parts of it that are loaded when somebody wants them."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from hive_core.errors import HiveError
from hive_core.services.dashboard.hive_client import path_of
from hive_core.services.dashboard.pages.agents import around
from hive_core.services.dashboard.pages.agents import entries as of
from hive_core.services.dashboard.pages.agents.turns import show_entries, show_turn_row
from hive_core.services.dashboard.rendering import Html
from hive_core.services.dashboard.visit import Visit
from hive_core.text import visible

ROWS = 30
_ENTRIES = 200
_SEARCHED_PAGES = 20
_AWAY = frozenset({"not_running", "harness_unreachable", "harness_answer"})
"""Refusals of a harness that cannot be asked now: the rest of the page is shown."""


async def show(visit: Visit) -> web.StreamResponse:
    """Show the page of an agent, with its newest turns, or those around `turn`."""
    name = visit.path["name"]
    await visit.hive.get(path_of("agents", name))
    wanted = _turn(visit.query["turn"]) if visit.query.get("turn") else None
    arguments = {"name": name}
    harness = await around.harness_of(visit, name)
    rows, first = await _rows(visit, name, wanted)
    return visit.page(
        "agents/agent.html.j2",
        agent=name,
        harness=harness,
        rows=rows,
        first=first,
        wanted=wanted,
        writing=(harness or {}).get("writing"),
        after=(harness or {}).get("event", ""),
        head=await around.head(visit, arguments),
        waiting=(await around.waiting(visit, arguments)).html,
        key=around.new_key(),
    )


async def show_turns(visit: Visit) -> web.StreamResponse:
    """Answer with rows of turns: those `before` a turn, or the newest with the entries of the last."""
    name = visit.path["name"]
    before = _turn(visit.query["before"]) if visit.query.get("before") else None
    if before is None:
        rows, first = await _rows(visit, name, None)
        harness = await around.harness_of(visit, name)
        writing = (harness or {}).get("writing")
    else:
        turns = await _turns(visit, name, before, ROWS)
        rows, writing = Html("".join(show_turn_row(visit, name, turn) for turn in reversed(turns))), None
        first = turns[-1]["id"] if len(turns) == ROWS else 0
    return _fragment(visit, "agents/turn/turns.html.j2", agent=name, rows=rows, first=first, writing=writing)


async def show_turn(visit: Visit) -> web.StreamResponse:
    """Answer with entries of a turn: the last ones, or those `before` a mark."""
    name, turn = visit.path["name"], _turn(visit.path["turn"])
    entries, earlier = await _entries(visit, name, turn, visit.query.get("before"))
    return _fragment(
        visit,
        "agents/turn/entries.html.j2",
        agent=name,
        turn=turn,
        entries=await show_entries(visit, name, turn, entries),
        earlier=earlier,
    )


async def show_text(visit: Visit) -> web.StreamResponse:
    """Answer with the whole text of an entry, as text."""
    name, turn, mark = visit.path["name"], _turn(visit.path["turn"]), visit.path["mark"]
    before: str | None = None
    for _ in range(_SEARCHED_PAGES):
        entries, before = await _entries(visit, name, turn, before, most=500)
        for entry in entries:
            if of.mark_of(entry) == mark:
                headers = {"Content-Security-Policy": "sandbox; default-src 'none'"}
                return web.Response(text=visible(of.whole_text(entry)), content_type="text/plain", headers=headers)
        if not before:
            break
    raise HiveError("not_found", "this entry is not in the transcript (any more)", status=404)


async def _rows(visit: Visit, name: str, wanted: int | None) -> tuple[Html, int]:
    """Return the newest turns, or those around `wanted`, with the entries of one of them, and the first turn's id.

    The id is 0 if there are no earlier ones.
    """
    turns = await _turns(visit, name, None if wanted is None else wanted + ROWS // 2, ROWS)
    opened = wanted if wanted is not None else (turns[0]["id"] if turns else None)
    shown = []
    for turn in reversed(turns):
        if turn["id"] != opened:
            shown.append(show_turn_row(visit, name, turn))
            continue
        entries, earlier = await _entries(visit, name, opened, None)
        html = await show_entries(visit, name, opened, entries)
        shown.append(show_turn_row(visit, name, turn, html, earlier))
    return Html("".join(shown)), turns[-1]["id"] if len(turns) == ROWS else 0


async def _turns(visit: Visit, name: str, before: int | None, most: int) -> list[dict[str, Any]]:
    try:
        found = await visit.hive.get(path_of("agents", name, "control", "turns"), {"before": before, "limit": most})
    except HiveError as error:
        if error.code not in _AWAY:
            raise
        return []
    turns: list[dict[str, Any]] = found["turns"]
    return turns


async def _entries(
    visit: Visit, name: str, turn: int, before: str | None, most: int = _ENTRIES
) -> tuple[list[dict[str, Any]], str]:
    """Return entries, and the mark of the first if there are earlier ones."""
    query = {"turn": turn, "before": before, "limit": most}
    found = await visit.hive.get(path_of("agents", name, "control", "transcript"), query)
    entries: list[dict[str, Any]] = found["entries"]
    return entries, of.mark_of(entries[0]) if found["more"] and entries else ""


def _turn(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 13):
        raise HiveError("no_turn", "a turn is named by its number", hint="give a number, such as 12", status=400)
    return int(text)


def _fragment(visit: Visit, template: str, **values: object) -> web.Response:
    return web.Response(text=visit.fragment(template, **values), content_type="text/html")
