"""The repositories that agents work on: branches, work, checks, the queue of landings, and what was published."""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import Mapping
from typing import Any

from aiohttp import web

from hive_core.services.dashboard.hive_client import HiveEvent, path_of
from hive_core.services.dashboard.live import Arguments, LivePart
from hive_core.services.dashboard.pages.decisions.subject import Subject
from hive_core.services.dashboard.pages.decisions.words import decider_in_words, state_of_work
from hive_core.services.dashboard.rendering import Html, milliseconds_of
from hive_core.services.dashboard.visit import Visit, WebPage
from hive_core.text import format_bytes

_MOST_WORK = 50
_MOST_REFS = 500
_LANDING = "approved"
"""The state of work that is in the queue of landings."""


def state_of(repository: Mapping[str, Any]) -> str:
    """Return the state of a repository in a word; `failing` if its last fetch failed."""
    state = str(repository["state"])
    return "failing" if repository["problem"] and state != "diverged" else state


async def _list(visit: Visit, _: Arguments) -> Html:
    found, work = await asyncio.gather(
        visit.hive.get(path_of("repositories")), visit.hive.get(path_of("work"), {"state": "open", "limit": 1_000})
    )
    waiting = [each["repo"] for each in work["work"]]
    return visit.fragment(
        "repositories/list.html.j2",
        repositories=[
            (each, state_of(each), milliseconds_of(each["fetched_at"]), waiting.count(each["name"]))
            for each in found["repositories"]
        ],
    )


async def _show_list(visit: Visit) -> web.StreamResponse:
    return visit.page("repositories/repositories.html.j2", repositories=await _list(visit, {}))


async def _one(visit: Visit, arguments: Arguments) -> Html:
    name = arguments.get("name", "")
    repository, open_work, ended, refs = await asyncio.gather(
        visit.hive.get(path_of("repositories", name)),
        visit.hive.get(path_of("work"), {"repo": name, "state": "open", "limit": 1_000}),
        visit.hive.get(path_of("work"), {"repo": name, "state": "ended", "limit": _MOST_WORK}),
        visit.hive.get(path_of("repositories", name, "refs")),
    )
    work = [_work(each) for each in open_work["work"]]
    return visit.fragment(
        "repositories/one.html.j2",
        repository=repository,
        state=state_of(repository),
        fetched_at=milliseconds_of(repository["fetched_at"]),
        size=format_bytes(repository["bytes"]),
        checks=[(check, shlex.join(check["argv"])) for check in repository["checks"]],
        beyond=[each for each in work if each["state"] != _LANDING],
        queue=sorted((each for each in work if each["state"] == _LANDING), key=lambda each: each["changed"]),
        ended=[_work(each) for each in ended["work"]],
        refs=refs["refs"][:_MOST_REFS],
        ref_count=len(refs["refs"]),
    )


def _work(answer: Mapping[str, Any]) -> dict[str, Any]:
    return {
        **answer,
        "page": Subject("work", answer["repo"], answer["number"]).page,
        "word": state_of_work(answer["state"]),
        "decider": decider_in_words(answer["waits_for"]),
        "made": milliseconds_of(answer["created_at"]),
        "changed": milliseconds_of(answer["changed_at"]),
    }


async def _show_one(visit: Visit) -> web.StreamResponse:
    name = visit.path["name"]
    return visit.page("repositories/repository.html.j2", name=name, repository=await _one(visit, {"name": name}))


def _changes_work(event: HiveEvent, arguments: Arguments) -> bool:
    return event.kind == "work.changed" and arguments.get("name") in (None, event.data.get("repo"))


PAGES = [WebPage("GET", "/repositories", _show_list), WebPage("GET", "/repositories/{name}", _show_one)]
LIVE_PARTS = [
    LivePart("repositories.list", _list, _changes_work, settles=True),
    LivePart("repositories.one", _one, _changes_work, settles=True),
]
