"""Pages to sign in and out, and to use a set-up link."""

from __future__ import annotations

from aiohttp import web

from hive_core.errors import HiveError
from hive_core.services.dashboard.hive_client import path_of
from hive_core.services.dashboard.visit import Visit, WebPage


async def _show(visit: Visit) -> web.StreamResponse:
    if visit.visitor.name:
        return visit.go_to("/")
    return visit.page("sign_in/sign_in.html.j2", problem=None, name="")


async def _sign_in(visit: Visit) -> web.StreamResponse:
    form = await visit.form()
    name = form.get("name", "")
    try:
        answer = await visit.hive.post(path_of("sign-in"), {"name": name, "password": form.get("password", "")})
    except HiveError as error:
        return visit.page("sign_in/sign_in.html.j2", status=error.status, problem=error, name=name)
    response = visit.go_to("/")
    visit.keep_session(response, answer["session"])
    return response


async def _show_set_up(visit: Visit) -> web.StreamResponse:
    return visit.page("sign_in/set_up.html.j2", problem=None, name="")


async def _set_up(visit: Visit) -> web.StreamResponse:
    form = await visit.form()
    name, password = form.get("name", "").strip(), form.get("password", "")
    try:
        if password != form.get("again", ""):
            raise passwords_differ()
        body = {"token": form.get("token", "").strip(), "name": name or None, "password": password}
        answer = await visit.hive.post(path_of("set-up"), body)
    except HiveError as error:
        return visit.page("sign_in/set_up.html.j2", status=error.status, problem=error, name=name)
    response = visit.go_to("/")
    visit.keep_session(response, answer["session"])
    return response


def passwords_differ() -> HiveError:
    """Return the error for a new password that was typed in two ways."""
    return HiveError("passwords_differ", "the two passwords differ", hint="type the same one twice")


async def _sign_out(visit: Visit) -> web.StreamResponse:
    await visit.form()
    await visit.hive.post(path_of("sign-out"))
    response = visit.go_to("/sign-in")
    visit.forget_session(response)
    return response


PAGES = [
    WebPage("GET", "/sign-in", _show, public=True),
    WebPage("POST", "/sign-in", _sign_in, public=True),
    WebPage("GET", "/setup", _show_set_up, public=True),
    WebPage("POST", "/setup", _set_up, public=True),
    WebPage("POST", "/sign-out", _sign_out),
]
