"""Decisions of people on proposals: approve, deny, withdraw, and what else the commands have."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from aiohttp import web

from hive_core.errors import HiveError
from hive_core.services.dashboard.pages.decisions.review import show_review
from hive_core.services.dashboard.pages.decisions.subject import Kind, Subject, subject_in
from hive_core.services.dashboard.visit import Visit, WebPage
from hive_core.text import one_line

_COMMENT = "line "
"""Begins the name of a field with a comment: `line new 12 3 agent.nix`, with side, line, place of the file, path."""
_MOST_PATH = 200


@dataclass(frozen=True)
class LineComment:
    """A comment of a reviewer on a line of a file, as it is after the change or (`old`) before it."""

    path: str
    line: int
    is_old: bool
    text: str

    def in_words(self) -> str:
        """Return it as the reason of a denial carries it."""
        # The path is a word of the proposer's, so it stays within its line.
        return (
            f"{one_line(self.path, _MOST_PATH)}:{self.line}{' (before the change)' if self.is_old else ''}: {self.text}"
        )


def line_comments(fields: Mapping[str, str]) -> list[LineComment]:
    """Return the comments in a form, in the order of files and lines."""
    found = sorted(_comments(fields), key=lambda each: (each[0], each[1].line))
    return [comment for _, comment in found]


def _comments(fields: Mapping[str, str]) -> Iterator[tuple[int, LineComment]]:
    for name, value in fields.items():
        if not name.startswith(_COMMENT) or not value.strip():
            continue
        _, side, line, place, path = name.split(" ", 4)
        if not (side in ("old", "new") and _is_number(line) and _is_number(place)):
            raise HiveError("invalid_request", "a comment of this form names no line", hint="load the page again")
        yield int(place), LineComment(path, int(line), side == "old", value.strip().replace("\r\n", "\n"))


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 10


def reason(note: str, comments: list[LineComment]) -> str:
    """Return the reason of a decision with the comments on lines, each in a line of its own."""
    parts = [note.strip().replace("\r\n", "\n"), "\n".join(comment.in_words() for comment in comments)]
    return "\n\n".join(part for part in parts if part)


async def _act(visit: Visit, subject: Subject, verb: str) -> web.StreamResponse:
    fields = await visit.form()
    note, comments = fields.get("note", ""), []
    try:
        comments = line_comments(fields)
        if subject.kind == "work" and verb in ("approve", "deny", "comment"):
            # The gate for work keeps comments with their lines.
            for comment in comments:
                body = {"text": comment.text, "path": comment.path, "line": comment.line}
                await visit.hive.post(subject.api("comments"), body)
            note = note or ("see the comments" if comments and verb == "deny" else "")
            comments = []
        if verb != "comment":
            await visit.hive.post(subject.api(verb), _body(verb, fields, reason(note, comments)))
        elif note.strip():
            await visit.hive.post(subject.api("comments"), {"text": note.strip()})
    except HiveError as error:
        if error.status in (401, 404):
            raise
        return await show_review(visit, subject, problem=error, note=reason(note, comments))
    return visit.go_to(subject.page)


def _body(verb: str, fields: Mapping[str, str], note: str) -> dict[str, object]:
    """Return the daemon's request. A decision names the commit and the state that were shown to the person."""
    if verb == "retry":
        return {}
    if verb == "allow-fetches":
        return {"commit": fields.get("commit", "")}
    if verb == "withdraw":
        return {"note": note}
    return {"expect": fields.get("expect", ""), "commit": fields.get("commit", ""), "note": note}


def _page(kind: Kind, verb: str) -> WebPage:
    async def act(visit: Visit) -> web.StreamResponse:
        return await _act(visit, subject_in(kind, visit.path), verb)

    return WebPage("POST", f"/decisions/{kind}/{{owner}}/{{number}}/{verb}", act)


_OF_KIND: dict[Kind, tuple[str, ...]] = {
    "agents": ("approve", "deny", "withdraw", "allow-fetches"),
    "work": ("approve", "deny", "withdraw", "retry", "comment"),
}
PAGES = [_page(kind, verb) for kind, verbs in _OF_KIND.items() for verb in verbs]
