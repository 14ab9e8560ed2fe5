"""Actions of a person on the page of an agent. Forms work without scripts; scripts send the same and get JSON."""

from __future__ import annotations

from collections.abc import Mapping

from aiohttp import web

from hive_core.errors import HiveError
from hive_core.services.dashboard.hive_client import path_of
from hive_core.services.dashboard.visit import Visit

_TURN = frozenset({"retry", "skip"})
_TOLD = {
    "cancel": "The turn is stopped.",
    "retry": "The turn is tried again.",
    "skip": "The turn is given up; its messages count as handled.",
    "pause": "The agent begins no further turn; a running one goes on to its end.",
    "resume": "The agent begins turns again.",
    "compact": "The conversation is shortened before the next turn.",
    "new-session": "The next turn begins a new conversation.",
    "model": "Used from the next turn on.",
    "login": "Open the address that is shown, and paste the code from there.",
    "code": "Logged in. The agent goes on by itself.",
}


async def send(visit: Visit) -> web.StreamResponse:
    """Send a message to the agent. The same `key` sends it once."""
    form = await visit.form()
    body = form.get("body", "").replace("\r\n", "\n")
    key = form.get("key", "")
    wanted: dict[str, object] = {"to": visit.path["name"], "body": body}
    if key:
        wanted["idempotency_key"] = key
    await visit.hive.post(path_of("messages"), wanted)
    return done(visit, "Sent.")


async def answer(visit: Visit) -> web.StreamResponse:
    """Answer a question of the agent, with an option or in words."""
    form = await visit.form()
    text = form.get("option") or form.get("text", "").replace("\r\n", "\n")
    await visit.hive.post(path_of("questions", visit.path["id"], "answer"), {"text": text})
    return done(visit, "Answered.")


async def steer(visit: Visit) -> web.StreamResponse:
    """Have the harness do something."""
    order = visit.path["order"]
    if order not in _TOLD:
        raise HiveError("not_found", "there is nothing at this address", status=404)
    form = await visit.form()
    await visit.hive.post(path_of("agents", visit.path["name"], "control", order), _body(order, form))
    return done(visit, _TOLD[order])


def done(visit: Visit, words: str) -> web.StreamResponse:
    """Return the answer to an action that has been done: words for a script, the page for a form."""
    if "text/html" in visit.request.headers.get("Accept", ""):
        return visit.go_to(f"/agents/{visit.path['name']}")
    return web.json_response({"done": words})


def _body(order: str, form: Mapping[str, str]) -> dict[str, object]:
    if order in _TURN:
        turn = form.get("turn", "")
        return {"turn": int(turn) if turn.isascii() and turn.isdigit() and len(turn) < 16 else -1}
    if order == "model":
        return {"model": form.get("model", "").strip() or None, "effort": form.get("effort") or None}
    if order == "code":
        return {"code": form.get("code", "").strip()}
    return {}
