"""Requests of agents to reach a host, and the decisions of people on them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiohttp import web

from hive_core.errors import HiveError
from hive_core.services.dashboard.hive_client import HiveEvent, path_of
from hive_core.services.dashboard.live import Arguments, LivePart, Pieces
from hive_core.services.dashboard.pages.decisions import words
from hive_core.services.dashboard.rendering import milliseconds_of
from hive_core.services.dashboard.visit import Visit, WebPage

_MOST = 200
_LATELY = 20
HOURS = (("1", "1 hour"), ("8", "8 hours"), ("24", "1 day"), ("168", "7 days"), ("720", "30 days"))
"""Durations that a person can choose, in hours."""


def length_in_words(hours: float) -> str:
    """Return a duration, such as `8 hours` or `3 days`."""
    if hours < 1:
        return f"{round(hours * 60)} minutes"
    number, unit = (hours / 24, "day") if hours >= 48 else (hours, "hour")
    return f"{number:.3g} {unit}{'' if f'{number:.3g}' == '1' else 's'}"


async def _pieces(visit: Visit, _: Arguments) -> Pieces:
    found = await visit.hive.get(path_of("network", "requests"), {"state": "open", "limit": _MOST})
    return Pieces(**{f"request-{each['id']}": _piece(visit, each) for each in found["requests"]})


def _piece(visit: Visit, request: Mapping[str, Any], problem: HiveError | None = None, note: str = "") -> Any:
    return visit.fragment(
        "decisions/templates/request.html.j2",
        request=request,
        asked_at=milliseconds_of(request["asked_at"]),
        wanted=length_in_words(request["hours"]),
        hours=HOURS,
        decider=words.decider_in_words(request["waits_for"]),
        problem=problem,
        note=note,
    )


async def _show_page(visit: Visit, problem: HiveError | None = None, note: str = "", number: str = "") -> web.Response:
    query = {"state": "all", "limit": _MOST}
    found = (await visit.hive.get(path_of("network", "requests"), query))["requests"]
    waiting = [each for each in found if each["state"] == "open"]
    return visit.page(
        "decisions/templates/access.html.j2",
        status=200 if problem is None else problem.status,
        pieces=[_piece(visit, each, *((problem, note) if number == str(each["id"]) else ())) for each in waiting],
        decided=[
            (each, milliseconds_of(each["decided_at"] or each["asked_at"]))
            for each in reversed(found)
            if each["state"] != "open"
        ][:_LATELY],
        problem=None if number in {str(each["id"]) for each in waiting} else problem,
    )


async def _show(visit: Visit) -> web.StreamResponse:
    return await _show_page(visit)


async def _decide(visit: Visit, verb: str) -> web.StreamResponse:
    number, fields = visit.path["id"], await visit.form()
    note = fields.get("note", "").strip()
    body: dict[str, object] = {"note": note}
    try:
        if verb == "approve" and fields.get("hours"):
            body["hours"] = _hours(fields["hours"])
        await visit.hive.post(path_of("network", "requests", number, verb), body)
    except HiveError as error:
        if error.status == 401:
            raise
        return await _show_page(visit, error, note, number)
    return visit.go_to("/decisions/access")


def _hours(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise HiveError(
            "invalid_request", "the duration is no number of hours", hint="choose one of the list"
        ) from None


async def _approve(visit: Visit) -> web.StreamResponse:
    return await _decide(visit, "approve")


async def _deny(visit: Visit) -> web.StreamResponse:
    return await _decide(visit, "deny")


def _changes_requests(event: HiveEvent, _: Arguments) -> bool:
    return event.kind == "network.changed" and event.data.get("what") != "refused"


PAGES = [
    WebPage("GET", "/decisions/access", _show),
    WebPage("POST", "/decisions/access/{id}/approve", _approve),
    WebPage("POST", "/decisions/access/{id}/deny", _deny),
]
LIVE_PARTS = [LivePart("decisions.access", _pieces, _changes_requests)]
