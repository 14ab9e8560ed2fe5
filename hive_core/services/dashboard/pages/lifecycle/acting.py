"""Forms that act, for those who may, and the simple actions on an agent."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TypeVar

from aiohttp import web

from hive_core.errors import HiveError
from hive_core.services.dashboard.hive_client import path_of
from hive_core.services.dashboard.visit import Visit

N = TypeVar("N", int, float)

_VERBS = {
    "start": ("start",),
    "stop": ("stop",),
    "restart": ("restart",),
    "rebuild": ("rebuild",),
    "pause": ("control", "pause"),
    "resume": ("control", "resume"),
}


async def acting_form(visit: Visit) -> Mapping[str, str]:
    """Return the fields of a form that changes something. Raises `not_permitted` for those who only look."""
    check_may_act(visit)
    return await visit.form()


def check_may_act(visit: Visit) -> None:
    """Raise `not_permitted` for those who only look. The daemon decides for itself what a person may do."""
    if not visit.visitor.may_act:
        hint = "ask an admin for the role of an operator"
        raise HiveError("not_permitted", "your role is to look, not to act", hint=hint, status=403)


async def act(visit: Visit) -> web.StreamResponse:
    """Do what the button of a form says, `do`, to an agent."""
    form = await acting_form(visit)
    verb = _VERBS.get(form.get("do", ""))
    if verb is None:
        raise HiveError("no_such_action", "there is no such action", hint="load the page again")
    await visit.hive.post(path_of("agents", visit.path["name"], *verb))
    return visit.go_to("/")


def number_in(visit: Visit) -> int:
    """Return the number in the path. Raises `not_found`."""
    text = visit.path["id"]
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise HiveError("not_found", "there is nothing at this address", status=404)
    return int(text)


def read_number(form: Mapping[str, str], field: str, kind: type[N]) -> N | None:
    """Return a field as a number; None if it is empty. Raises `bad_number`."""
    text = form.get(field, "").strip()
    if not text:
        return None
    try:
        number = kind(text)
    except ValueError:
        number = kind(0)
        text = ""
    if not text or not math.isfinite(number):
        what = "whole number" if kind is int else "number"
        hint = "go back and correct it"
        raise HiveError("bad_number", f"{field.replace('_', ' ')} is no {what}", hint=hint)
    return number
