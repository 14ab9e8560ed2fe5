"""Actions of a person about what waits for them, on the overview itself: answers, permissions, and money."""

from __future__ import annotations

from aiohttp import web

from hive_core.errors import HiveError
from hive_core.services.dashboard.hive_client import path_of
from hive_core.services.dashboard.pages.lifecycle.acting import acting_form, number_in, read_number
from hive_core.services.dashboard.visit import Visit

_LONGEST_ANSWER = 10_000


async def answer_question(visit: Visit) -> web.StreamResponse:
    """Answer a question of an agent with the field `text`, or with the number of an option."""
    form = await acting_form(visit)
    text = form.get("text", "").strip()
    if text:
        body: dict[str, object] = {"text": text[:_LONGEST_ANSWER]}
    elif form.get("option", "").isdigit():
        body = {"option": int(form["option"])}
    else:
        raise HiveError("no_answer", "the answer is empty", hint="go back and write one")
    await visit.hive.post(path_of("questions", number_in(visit), "answer"), body)
    return visit.go_to("/")


async def decide_request(visit: Visit) -> web.StreamResponse:
    """Approve or deny an agent's request to reach a host."""
    form = await acting_form(visit)
    request = path_of("network", "requests", number_in(visit))
    if form.get("do") == "allow":
        await visit.hive.post(f"{request}/approve")
    else:
        note = form.get("note", "").strip() or "denied on the overview"
        await visit.hive.post(f"{request}/deny", {"note": note})
    return visit.go_to("/")


async def raise_budget(visit: Visit) -> web.StreamResponse:
    """Raise an agent's limits of money by the field `money`, in US dollars."""
    form = await acting_form(visit)
    money = read_number(form, "money", float)
    if money is None:
        raise HiveError("no_money", "the amount is empty", hint="go back and give one, in US dollars")
    await visit.hive.post(path_of("agents", visit.path["name"], "budget", "add"), {"money": money})
    return visit.go_to("/")
