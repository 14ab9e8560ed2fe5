"""The end of agents: destroying one, and removing what is kept of destroyed ones; both by typing its name."""

from __future__ import annotations

from collections.abc import Mapping

from aiohttp import web

from hive_core.errors import HiveError
from hive_core.services.dashboard.hive_client import path_of
from hive_core.services.dashboard.pages.lifecycle.acting import acting_form, check_may_act
from hive_core.services.dashboard.visit import Visit


async def ask_destroy(visit: Visit) -> web.StreamResponse:
    """Show what goes with an agent, and ask for its name."""
    check_may_act(visit)
    agent = await visit.hive.get(path_of("agents", visit.path["name"]))
    return visit.page("lifecycle/destroy.html.j2", agent=agent)


async def destroy(visit: Visit) -> web.StreamResponse:
    """Destroy an agent, with `purge` and all of its files."""
    form = await acting_form(visit)
    _check_name(visit, form)
    await visit.hive.post(path_of("agents", visit.path["name"], "destroy"), {"purge": form.get("purge") == "yes"})
    return visit.go_to("/")


async def show_kept(visit: Visit) -> web.StreamResponse:
    """List what is kept of destroyed agents."""
    found = await visit.hive.get(path_of("kept"))
    return visit.page("lifecycle/kept.html.j2", agents=found["agents"])


async def ask_purge(visit: Visit) -> web.StreamResponse:
    """Ask for the name of the destroyed agent of which nothing is to be kept."""
    check_may_act(visit)
    found = await visit.hive.get(path_of("kept"))
    agent = next((each for each in found["agents"] if each["name"] == visit.path["name"]), None)
    if agent is None:
        raise HiveError("nothing_kept", "nothing is kept of an agent of that name", status=404)
    return visit.page("lifecycle/purge.html.j2", agent=agent)


async def purge(visit: Visit) -> web.StreamResponse:
    """Remove what is kept of a destroyed agent."""
    form = await acting_form(visit)
    _check_name(visit, form)
    await visit.hive.post(path_of("kept", visit.path["name"], "purge"))
    return visit.go_to("/kept")


def _check_name(visit: Visit, form: Mapping[str, str]) -> None:
    if form.get("confirm", "").strip() != visit.path["name"]:
        hint = "go back and type the agent's name exactly"
        raise HiveError("not_confirmed", "the name that was typed is not the agent's; nothing was changed", hint=hint)
