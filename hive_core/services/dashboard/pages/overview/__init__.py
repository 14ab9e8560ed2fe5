"""The overview: all agents with what they do, and everything that waits for a person."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from functools import lru_cache

from aiohttp import web

from hive_core.services.dashboard.boundary import csrf_token
from hive_core.services.dashboard.hive_client import HiveEvent
from hive_core.services.dashboard.live import Arguments, LivePart, Pieces
from hive_core.services.dashboard.pages.overview.answers import answer_question, decide_request, raise_budget
from hive_core.services.dashboard.pages.overview.hive_state import load_agents, load_decisions, load_stopped
from hive_core.services.dashboard.pages.overview.needs import Need
from hive_core.services.dashboard.pages.overview.palette import show_palette
from hive_core.services.dashboard.pages.overview.rows import STATES, AgentRow, Filter, age, owners_of
from hive_core.services.dashboard.rendering import Html, render
from hive_core.services.dashboard.visit import Visit, WebPage


async def _show(visit: Visit) -> web.StreamResponse:
    chosen = Filter.of_query(visit.query)
    agents, rows = await load_agents(visit, chosen)
    decisions, stopped = await asyncio.gather(_decisions(visit, {}), _stopped(visit, {}))
    return visit.page(
        "overview/overview.html.j2",
        rows=_pieces(visit, rows, chosen).html,
        decisions=decisions.html,
        stopped=stopped.html,
        count=len(decisions) + len(stopped),
        chosen=chosen,
        states=STATES,
        owners=owners_of(agents),
    )


async def _agents(visit: Visit, arguments: Arguments) -> Pieces:
    chosen = Filter.of_arguments(arguments)
    _, rows = await load_agents(visit, chosen)
    return _pieces(visit, rows, chosen)


def _pieces(visit: Visit, rows: list[AgentRow], chosen: Filter) -> Pieces:
    if not rows:
        return Pieces({"no-agents": visit.fragment("overview/no_agents.html.j2", chosen=chosen)})
    csrf, may_act = csrf_token(visit.credential), visit.visitor.may_act
    return Pieces({f"agent-{row.name}": render_row(row, csrf, may_act=may_act) for row in rows})


@lru_cache(maxsize=2_000)
def render_row(row: AgentRow, csrf: str, *, may_act: bool) -> Html:
    """Return the HTML of an agent's row. Most rows are the same from one making of the table to the next."""
    return render("overview/row.html.j2", {"row": row, "csrf": csrf, "may_act": may_act})


async def _decisions(visit: Visit, _: Arguments) -> Pieces:
    return _need_pieces(visit, await load_decisions(visit))


async def _stopped(visit: Visit, _: Arguments) -> Pieces:
    return _need_pieces(visit, await load_stopped(visit))


def _need_pieces(visit: Visit, needs: list[Need]) -> Pieces:
    now = datetime.now(UTC)
    return Pieces(
        {need.identity: visit.fragment("overview/need.html.j2", need=need, since=age(need.at, now)) for need in needs}
    )


def _changes_agents(event: HiveEvent, _: Arguments) -> bool:
    return event.kind.startswith("agent.") or event.kind in ("message.sent", "message.acknowledged", "network.changed")


def _changes_decisions(event: HiveEvent, _: Arguments) -> bool:
    return event.kind.startswith(("proposal.", "question.", "work.", "network."))


def _changes_stopped(event: HiveEvent, _: Arguments) -> bool:
    # Turns begin all the time; what was wrong before one begins is over with the next event, or soon by itself.
    return event.kind == "agent.lifecycle" or (
        event.kind == "agent.state" and event.data["data"].get("state") != "thinking"
    )


PAGES = [
    WebPage("GET", "/", _show),
    WebPage("GET", "/palette", show_palette),
    WebPage("POST", "/needs/questions/{id}", answer_question),
    WebPage("POST", "/needs/access/{id}", decide_request),
    WebPage("POST", "/needs/budgets/{name}", raise_budget),
]
LIVE_PARTS = [
    LivePart("overview.agents", _agents, _changes_agents, settles=True),
    LivePart("overview.decisions", _decisions, _changes_decisions, settles=True),
    LivePart("overview.stopped", _stopped, _changes_stopped, settles=True),
]
