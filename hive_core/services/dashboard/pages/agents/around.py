"""The surroundings of the transcript: the state of the agent, and all that waits for it or for an answer."""

from __future__ import annotations

import json
import secrets
from typing import Any

from hive_core.errors import HiveError
from hive_core.services.dashboard.hive_client import HiveEvent, path_of
from hive_core.services.dashboard.live import Arguments, Pieces
from hive_core.services.dashboard.markup.making import MARKUP
from hive_core.services.dashboard.rendering import Html, milliseconds_of
from hive_core.services.dashboard.visit import Visit

_SHOWN_MESSAGES = 50
_SHOWN_ITEMS = 50
EFFORTS = ("low", "medium", "high", "max")


def new_key() -> str:
    """Return a key with which a message is stored once, however often its form is sent."""
    return secrets.token_urlsafe(16)


def concerns(event: HiveEvent, arguments: Arguments) -> bool:
    """Tell if an event may change what is shown around the transcript of an agent."""
    kinds = ("agent.", "message.", "question.", "reminder.", "proposal.", "network.", "events.")
    return event.kind.startswith(kinds) and (
        event.kind.startswith("events.") or json.dumps(arguments.get("name", "")) in json.dumps(event.data)
    )


async def harness_of(visit: Visit, name: str) -> dict[str, Any] | None:
    """Return what the harness tells of itself; None if it cannot be asked now."""
    try:
        return await visit.hive.get(path_of("agents", name, "control"))
    except HiveError as error:
        if error.status not in (409, 502, 503) or error.code == "no_daemon":
            raise
        return None


async def head(visit: Visit, arguments: Arguments) -> Html:
    """Return the state of an agent, and the buttons that change it."""
    name = arguments["name"]
    status = await visit.hive.get(path_of("agents", name))
    harness = await harness_of(visit, name)
    login = (harness or {}).get("login") or ""
    return visit.fragment(
        "agents/aside/head.html.j2",
        agent=name,
        status=status,
        harness=harness,
        login=login,
        # The agent's program names it: nothing but a web address becomes a link.
        login_link=login if login.lower().startswith(("http://", "https://")) else "",
        efforts=EFFORTS,
    )


async def waiting(visit: Visit, arguments: Arguments) -> Pieces:
    """Return the questions, waiting messages, reminders and proposals of an agent."""
    name = arguments["name"]
    markup = visit.request.app[MARKUP]
    found = Pieces()
    query = {"agent": name, "limit": _SHOWN_ITEMS}
    for question in (await visit.hive.get(path_of("questions"), query))["questions"]:
        piece = f"question-{question['id']}"
        found[piece] = visit.fragment(
            "agents/aside/question.html.j2",
            agent=name,
            piece=piece,
            question=question,
            text=await markup.markdown(question["text"]),
            asked=milliseconds_of(question["asked_at"]),
            until=milliseconds_of(question["expires_at"]),
        )
    inbox = await visit.hive.get(path_of("agents", name, "queue"), {"limit": _SHOWN_MESSAGES})
    messages = inbox["messages"]
    found["inbox-head"] = visit.fragment("agents/aside/inbox_head.html.j2", piece="inbox-head", total=inbox["total"])
    movable = [one["id"] for one in messages if not one["leased"]]
    for message in messages:
        piece = f"inbox-{message['id']}"
        place = movable.index(message["id"]) if message["id"] in movable else 0
        found[piece] = visit.fragment(
            "agents/aside/inbox_message.html.j2",
            agent=name,
            piece=piece,
            message=message,
            sent=milliseconds_of(message["sent_at"]),
            above=movable[place - 1] if place > 0 else None,
        )
    found["reminders"] = visit.fragment(
        "agents/aside/reminders.html.j2",
        piece="reminders",
        reminders=[
            (milliseconds_of(one["at"]), one["text"])
            for one in (await visit.hive.get(path_of("reminders"), query))["reminders"]
        ],
    )
    proposals = await visit.hive.get(path_of("proposals"), {"agent": name, "state": "open", "limit": _SHOWN_ITEMS})
    found["proposals"] = visit.fragment(
        "agents/aside/proposals.html.j2", piece="proposals", proposals=proposals["proposals"]
    )
    return found
