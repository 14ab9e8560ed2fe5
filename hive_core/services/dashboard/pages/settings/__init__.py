"""The settings of a person: password, sessions and API tokens; and for admins the list of people."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from aiohttp import web

from hive_core.errors import HiveError
from hive_core.services.dashboard.hive_client import path_of
from hive_core.services.dashboard.pages.sign_in import passwords_differ
from hive_core.services.dashboard.rendering import milliseconds_of
from hive_core.services.dashboard.visit import Visit, WebPage

_DAYS = ("7", "30", "90", "365")


async def _show(visit: Visit) -> web.StreamResponse:
    return await _page(visit)


async def _page(
    visit: Visit, problem: HiveError | None = None, made: Mapping[str, Any] | None = None
) -> web.StreamResponse:
    hive, is_admin = visit.hive, visit.visitor.role == "admin"
    mine = {"person": "me"}
    sessions, tokens, people = await asyncio.gather(
        hive.get(path_of("sessions"), mine),
        hive.get(path_of("tokens"), mine),
        hive.get(path_of("people")) if is_admin else _nobody(),
    )
    return visit.page(
        "settings/settings.html.j2",
        status=200 if problem is None else problem.status,
        problem=problem,
        made=made,
        sessions=sessions["sessions"],
        tokens=tokens["tokens"],
        people=people["people"] if is_admin else None,
        roles=[role for role in ("viewer", "operator", "admin") if _is_within(role, visit.visitor.role)],
        all_days=_DAYS,
        at=milliseconds_of,
    )


async def _nobody() -> dict[str, Any]:
    return {}


def _is_within(role: str, own: str) -> bool:
    order = ("viewer", "operator", "admin")
    return own in order and order.index(role) <= order.index(own)


async def _choose_password(visit: Visit) -> web.StreamResponse:
    form = await visit.form()
    try:
        if form.get("new", "") != form.get("again", ""):
            raise passwords_differ()
        body = {"old": form.get("old", ""), "new": form.get("new", "")}
        answer = await visit.hive.post(path_of("me", "password"), body)
    except HiveError as error:
        return await _page(visit, error)
    response = visit.go_to("/settings")
    visit.keep_session(response, answer["session"])
    return response


async def _revoke_session(visit: Visit) -> web.StreamResponse:
    await visit.form()
    await visit.hive.post(path_of("sessions", visit.path["id"], "revoke"))
    return visit.go_to("/settings")


async def _revoke_others(visit: Visit) -> web.StreamResponse:
    await visit.form()
    await visit.hive.post(path_of("sessions", "revoke-all"), {"person": "me", "keep_current": True})
    return visit.go_to("/settings")


async def _make_token(visit: Visit) -> web.StreamResponse:
    form = await visit.form()
    agents = form.get("agents", "").replace(",", " ").split()
    try:
        days = float(form.get("days", ""))
    except ValueError:
        days = float(_DAYS[0])
    body = {"name": form.get("name", "").strip(), "role": form.get("role") or None, "days": days}
    try:
        made = await visit.hive.post(path_of("tokens"), {**body, "agents": agents or None})
    except HiveError as error:
        return await _page(visit, error)
    return await _page(visit, made=made)


async def _revoke_token(visit: Visit) -> web.StreamResponse:
    await visit.form()
    await visit.hive.post(path_of("tokens", visit.path["id"], "revoke"))
    return visit.go_to("/settings")


PAGES = [
    WebPage("GET", "/settings", _show),
    WebPage("POST", "/settings/password", _choose_password),
    WebPage("POST", "/settings/sessions/{id}/revoke", _revoke_session),
    WebPage("POST", "/settings/sessions/revoke-others", _revoke_others),
    WebPage("POST", "/settings/tokens", _make_token),
    WebPage("POST", "/settings/tokens/{id}/revoke", _revoke_token),
]
