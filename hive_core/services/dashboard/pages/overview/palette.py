"""The entries of the keyboard palette: pages, agents and actions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from aiohttp import web

from hive_core.services.dashboard.hive_client import path_of
from hive_core.services.dashboard.pages.overview.rows import state_of
from hive_core.services.dashboard.rendering import NAVIGATION, segment
from hive_core.services.dashboard.visit import Visit
from hive_core.text import visible

_FOR_THOSE_WHO_ACT = {"/new-agent": "New agent"}
_FOR_ADMINS = {"/kept": "What is kept of destroyed agents"}


async def show_palette(visit: Visit) -> web.StreamResponse:
    """Answer with all entries: each has a label, a hint, and an address to open, or with `verb` to post to."""
    found = await visit.hive.get(path_of("agents"))
    may_act = visit.visitor.may_act
    pages = {**NAVIGATION, **(_FOR_THOSE_WHO_ACT if may_act else {})}
    pages |= _FOR_ADMINS if visit.visitor.role == "admin" else {}
    entries = [{"label": name, "hint": "page", "address": address} for address, name in pages.items()]
    for agent in found["agents"]:
        entries += _of_agent(agent, may_act=may_act)
    return web.json_response({"entries": entries})


def _of_agent(agent: Mapping[str, Any], *, may_act: bool) -> Iterator[dict[str, str]]:
    name, page = str(agent["name"]), f"/agents/{segment(agent['name'])}"
    yield {"label": name, "hint": visible(f"agent, {state_of(agent)[0]}"), "address": page}
    if not may_act:
        return
    stopped = agent["lifecycle"] in ("stopped", "failed", "backoff")
    verbs = ["start"] if stopped else ["stop", "restart", "resume" if agent["state"] == "paused" else "pause"]
    for verb in verbs:
        label = f"{verb.capitalize()} {name}"
        yield {"label": label, "hint": "action", "address": f"{page}/act", "verb": verb}
    yield {"label": f"Limits of {name}", "hint": "page", "address": f"{page}/limits"}
    yield {"label": f"Destroy {name}", "hint": "page, asks first", "address": f"{page}/destroy"}
