"""The list of what waits for a decision, of all three kinds, and of what was decided lately."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from hive_core.services.dashboard.hive_client import HiveEvent, path_of
from hive_core.services.dashboard.live import Arguments, LivePart
from hive_core.services.dashboard.pages.decisions import words
from hive_core.services.dashboard.pages.decisions.subject import Subject
from hive_core.services.dashboard.rendering import Html, milliseconds_of
from hive_core.services.dashboard.visit import Visit, WebPage

_MOST = 100
_LATELY = 20


@dataclass(frozen=True)
class DecisionItem:
    """A line of the list: something that waits, or was decided."""

    page: str
    name: str
    what: str
    by: str
    said: str
    state: str
    state_word: str
    decider: str
    at: int
    """The time (Unix milliseconds) that counts: since when it waits, or when it was decided."""
    outcome: str = ""


@dataclass(frozen=True)
class DecisionList:
    """Matters that wait for people, that wait for somebody else or are being built, and that were decided."""

    waiting: Sequence[DecisionItem]
    others: Sequence[DecisionItem]
    decided: Sequence[DecisionItem]


def sort_items(
    proposals: Sequence[Mapping[str, Any]], work: Sequence[Mapping[str, Any]], requests: Sequence[Mapping[str, Any]]
) -> DecisionList:
    """Sort open and ended proposals, work and requests for hosts into what waits, for whom, and what is decided."""
    waiting: list[DecisionItem] = []
    others: list[DecisionItem] = []
    decided: list[DecisionItem] = []
    made = [*map(_of_proposal, proposals), *map(_of_work, work), *map(_of_request, requests)]
    for item, answer in zip(made, [*proposals, *work, *requests], strict=True):
        if answer["state"] not in (*words.UNDECIDED, "open", "approved") or _is_decided_request(answer):
            decided.append(item)
        elif words.waits_for_people(answer) and answer["state"] in ("built", "open"):
            waiting.append(item)
        else:
            others.append(item)
    waiting.sort(key=lambda item: item.at)
    others.sort(key=lambda item: item.at)
    decided.sort(key=lambda item: -item.at)
    return DecisionList(waiting, others, decided[:_LATELY])


def _is_decided_request(answer: Mapping[str, Any]) -> bool:
    return "host" in answer and answer["state"] != "open"


def _of_proposal(answer: Mapping[str, Any]) -> DecisionItem:
    ended = answer["state"] not in words.UNDECIDED
    return DecisionItem(
        Subject("agents", answer["agent"], answer["number"]).page,
        f"{answer['agent']}/{answer['number']}",
        words.kind_in_words(answer),
        answer["by"],
        answer["note"],
        answer["state"],
        words.state_of_proposal(answer["state"]),
        words.decider_in_words(answer["waits_for"]),
        milliseconds_of(answer["changed_at" if ended else "created_at"]) or 0,
        answer["outcome"],
    )


def _of_work(answer: Mapping[str, Any]) -> DecisionItem:
    ended = answer["state"] not in words.UNDECIDED
    return DecisionItem(
        Subject("work", answer["repo"], answer["number"]).page,
        f"{answer['repo']}/{answer['number']}",
        f"work for {answer['branch']}",
        answer["by"],
        answer["title"],
        answer["state"],
        words.state_of_work(answer["state"]),
        words.decider_in_words(answer["waits_for"]),
        milliseconds_of(answer["changed_at" if ended else "created_at"]) or 0,
        answer["outcome"],
    )


def _of_request(answer: Mapping[str, Any]) -> DecisionItem:
    return DecisionItem(
        f"/decisions/access#request-{answer['id']}",
        answer["host"],
        "access to a host",
        answer["agent"],
        answer["why"],
        "waiting" if answer["state"] == "open" else answer["state"],
        "open" if answer["state"] == "open" else answer["state"],
        words.decider_in_words(answer["waits_for"]),
        milliseconds_of(answer["decided_at"] or answer["asked_at"]) or 0,
        answer["note"],
    )


async def _read(visit: Visit) -> DecisionList:
    hive = visit.hive
    open_ones, ended, work, ended_work, requests = await asyncio.gather(
        hive.get(path_of("proposals"), {"state": "open", "limit": _MOST}),
        hive.get(path_of("proposals"), {"state": "ended", "limit": _LATELY}),
        hive.get(path_of("work"), {"state": "open", "limit": _MOST}),
        hive.get(path_of("work"), {"state": "ended", "limit": _LATELY}),
        hive.get(path_of("network", "requests"), {"state": "all", "limit": _MOST}),
    )
    return sort_items(
        [*open_ones["proposals"], *ended["proposals"]], [*work["work"], *ended_work["work"]], requests["requests"]
    )


async def _list(visit: Visit, _: Arguments) -> Html:
    return visit.fragment("decisions/templates/inbox_list.html.j2", inbox=await _read(visit))


async def _show(visit: Visit) -> web.StreamResponse:
    return visit.page("decisions/templates/inbox.html.j2", inbox=await _list(visit, {}))


def _changes_list(event: HiveEvent, _: Arguments) -> bool:
    return event.kind in ("proposal.changed", "work.changed") or (
        event.kind == "network.changed" and event.data.get("what") != "refused"
    )


PAGES = [WebPage("GET", "/decisions", _show)]
LIVE_PARTS = [LivePart("decisions.inbox", _list, _changes_list, settles=True)]
