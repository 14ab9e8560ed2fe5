"""The messages that wait for an agent: their texts, their order, and taking them out."""

from __future__ import annotations

from aiohttp import web

from hive_core.errors import HiveError
from hive_core.services.dashboard.hive_client import path_of
from hive_core.services.dashboard.pages.agents.actions import done
from hive_core.services.dashboard.visit import Visit

_MOST = 200


async def show(visit: Visit) -> web.StreamResponse:
    """Show one waiting message, to be edited, moved or removed."""
    name = visit.path["name"]
    found = (await visit.hive.get(path_of("agents", name, "queue"), {"limit": _MOST}))["messages"]
    for message in found:
        if str(message["id"]) == visit.path["id"] and not message["leased"]:
            return visit.page("agents/aside/queue.html.j2", agent=name, message=message)
    hint = "the page of the agent shows what waits now"
    raise HiveError("not_in_queue", "this message does not wait any more", hint=hint, status=404)


async def change(visit: Visit) -> web.StreamResponse:
    """Edit, move or remove a waiting message."""
    form = await visit.form()
    wanted: dict[str, object]
    match visit.path["change"]:
        case "edit":
            wanted, told = {"body": form.get("body", "").replace("\r\n", "\n")}, "The message is changed."
        case "remove":
            wanted, told = {"reason": form.get("reason", "")}, "The message is removed."
        case "move":
            before = form.get("before", "")
            usable = before.isascii() and before.isdigit() and len(before) < 19
            wanted, told = {"before": int(before) if usable else None}, "The message is moved."
        case _:
            raise HiveError("not_found", "there is nothing at this address", status=404)
    path = path_of("agents", visit.path["name"], "queue", visit.path["id"], visit.path["change"])
    await visit.hive.post(path, wanted)
    return done(visit, told)
