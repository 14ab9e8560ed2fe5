"""The pages on which a proposal is reviewed: an agent's configuration, or work for a repository."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiohttp import web

from hive_core.errors import HiveError
from hive_core.services.dashboard.live import Arguments, LivePart, Pieces
from hive_core.services.dashboard.pages.decisions import words
from hive_core.services.dashboard.pages.decisions.files import DiffChoice, entries_of, first_to_show, show_diff
from hive_core.services.dashboard.pages.decisions.subject import Kind, Subject, number_in, subject_in
from hive_core.services.dashboard.rendering import Html, milliseconds_of
from hive_core.services.dashboard.visit import Show, Visit, WebPage
from hive_core.text import visible

_LOG_LINES = 200
_LOG_WAIT_SECONDS = 20.0


async def show_review(
    visit: Visit, subject: Subject, *, problem: HiveError | None = None, note: str = "", only: int | None = None
) -> web.Response:
    """Show the page of a proposal. `problem` is why a decision was refused, whose text `note` the form still has."""
    detail = await subject.read(visit)
    choice = DiffChoice.of(visit.query)
    entries, parsed = entries_of(detail)
    if only is not None:
        entries = [entry for entry in entries if entry.place == only]
        if not entries:
            raise HiveError("not_found", f"{subject.name} changes no such file", status=404)
    shown = {
        entry.place: await show_diff(visit, subject, detail, entry, choice, number_in(visit.query, "first", "0"))
        for entry in entries
        if entry.place in first_to_show(entries)
    }
    log = await _read_log(visit, subject, {"lines": _LOG_LINES})
    return visit.page(
        f"decisions/templates/{'configuration' if subject.kind == 'agents' else 'work'}.html.j2",
        status=200 if problem is None else problem.status,
        **_values(visit, subject, detail),
        standing=_standing(visit, subject, detail),
        form=_form(visit, subject, detail, note),
        entries=entries,
        file_count=len(detail["files"]),
        preface=parsed.preface,
        shown=shown,
        only=only,
        choice=choice,
        log=log,
        problem=problem,
    )


async def _read_log(visit: Visit, subject: Subject, query: Mapping[str, object]) -> Mapping[str, Any]:
    return await visit.hive.get(subject.api("log"), query)


def _values(visit: Visit, subject: Subject, detail: Mapping[str, Any]) -> dict[str, object]:
    state = detail["state"]
    shown = words.state_of_proposal(state) if subject.kind == "agents" else words.state_of_work(state)
    return {
        "subject": subject,
        "detail": detail,
        "state": state,
        "state_word": shown,
        "decider": words.decider_in_words(detail["waits_for"]),
        "made_at": milliseconds_of(detail["created_at"]),
        "changed_at": milliseconds_of(detail["changed_at"]),
        "expires_at": milliseconds_of(detail["expires_at"]),
        "is_open": state in words.UNDECIDED,
        "is_building": state in words.BEFORE_BUILT,
        "moment_of": milliseconds_of,
        "kind": words.kind_in_words(detail) if subject.kind == "agents" else "work",
    }


def _standing(visit: Visit, subject: Subject, detail: Mapping[str, Any]) -> Html:
    return visit.fragment("decisions/templates/standing.html.j2", **_values(visit, subject, detail))


def _form(visit: Visit, subject: Subject, detail: Mapping[str, Any], note: str = "") -> Html:
    return visit.fragment(
        "decisions/templates/form.html.j2",
        **_values(visit, subject, detail),
        is_own=words.is_by(detail, visit.visitor),
        in_place_of=words.name_of_decider(detail["waits_for"]) if words.needs_to_be_told(detail) else "",
        note=note,
    )


async def _live_standing(visit: Visit, arguments: Arguments) -> Html:
    subject = _of_arguments(arguments)
    return _standing(visit, subject, await subject.read(visit))


async def _live_form(visit: Visit, arguments: Arguments) -> Pieces:
    subject = _of_arguments(arguments)
    # As a piece it stays while somebody writes into it.
    return Pieces({"decision-form": _form(visit, subject, await subject.read(visit))})


def _of_arguments(arguments: Arguments) -> Subject:
    return subject_in("work" if arguments.get("kind") == "work" else "agents", arguments)


def _pages(kind: Kind) -> list[WebPage]:
    base = f"/decisions/{kind}/{{owner}}/{{number}}"

    async def show(visit: Visit) -> web.StreamResponse:
        return await show_review(visit, subject_in(kind, visit.path))

    async def show_file(visit: Visit) -> web.StreamResponse:
        subject, place = subject_in(kind, visit.path), number_in(visit.path, "file")
        if "fragment" not in visit.query:
            return await show_review(visit, subject, only=place)
        detail = await subject.read(visit)
        if detail["commit"] != visit.query.get("commit", detail["commit"]):
            raise HiveError("other_commit", f"{subject.name} has another commit now", hint="load the page", status=409)
        for entry in entries_of(detail)[0]:
            if entry.place == place:
                html = await show_diff(
                    visit, subject, detail, entry, DiffChoice.of(visit.query), number_in(visit.query, "first", "0")
                )
                return web.Response(text=html, content_type="text/html")
        raise HiveError("not_found", f"{subject.name} changes no such file", status=404)

    async def follow_log(visit: Visit) -> web.StreamResponse:
        """Answer scripts with the lines of the log behind a cursor, when there are some."""
        subject = subject_in(kind, visit.path)
        detail = await subject.read(visit)
        goes_on = detail["state"] in words.BEFORE_BUILT
        query = {"cursor": visit.query.get("cursor"), "wait_seconds": _LOG_WAIT_SECONDS if goes_on else 0.0}
        log = await _read_log(visit, subject, query)
        lines = [visible(line) for line in log["lines"]]
        return web.json_response({"lines": lines, "cursor": log["cursor"], "goes_on": goes_on})

    shows: list[tuple[str, Show]] = [("", show), ("/files/{file}", show_file), ("/log", follow_log)]
    return [WebPage("GET", base + path, handler) for path, handler in shows]


PAGES = [*_pages("agents"), *_pages("work")]
LIVE_PARTS = [
    LivePart("decisions.standing", _live_standing, lambda event, given: _of_arguments(given).is_changed_by(event)),
    LivePart("decisions.form", _live_form, lambda event, given: _of_arguments(given).is_changed_by(event)),
]
