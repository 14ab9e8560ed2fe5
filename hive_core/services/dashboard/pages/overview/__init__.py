"""The overview: all agents, and everything that waits for a decision or an answer."""

from __future__ import annotations

from aiohttp import web

from hive_core.services.dashboard.hive_client import HiveEvent, path_of
from hive_core.services.dashboard.live import Arguments, LivePart
from hive_core.services.dashboard.rendering import Html
from hive_core.services.dashboard.visit import Visit, WebPage


async def _show(visit: Visit) -> web.StreamResponse:
    return visit.page("overview/overview.html.j2", agents=await _agents(visit, {}))


async def _agents(visit: Visit, _: Arguments) -> Html:
    found = await visit.hive.get(path_of("agents"))
    return visit.fragment("overview/agents.html.j2", agents=found["agents"])


def _changes_agents(event: HiveEvent, _: Arguments) -> bool:
    return event.kind.startswith(("agent.", "message."))


PAGES = [WebPage("GET", "/", _show)]
LIVE_PARTS = [LivePart("overview.agents", _agents, _changes_agents, settles=True)]
