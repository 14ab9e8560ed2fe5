"""The changed files of a proposal: each has its diff, made into HTML when it is looked at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from hive_core.services.dashboard.markup.making import MARKUP
from hive_core.services.dashboard.pages.decisions.diff.colours import colour_lines
from hive_core.services.dashboard.pages.decisions.diff.parse import DiffLine, FileSection, ParsedDiff, parse_diff
from hive_core.services.dashboard.pages.decisions.diff.rows import ShownFile, View, show_file
from hive_core.services.dashboard.pages.decisions.subject import Subject
from hive_core.services.dashboard.rendering import Html
from hive_core.services.dashboard.visit import Visit
from hive_core.text import format_bytes

_SHOWN_AT_ONCE = 400
"""Lines that a page shows when it is opened; the other files are loaded when the reader comes to them."""
_USUAL_CONTEXT = 3
_ALL = 1_000_000


@dataclass(frozen=True)
class DiffChoice:
    """The wishes of a reader for diffs: the view, white space, and how much of what did not change."""

    view: View = "inline"
    ignores_space: bool = False
    whole: bool = False

    @classmethod
    def of(cls, query: Mapping[str, str]) -> DiffChoice:
        """Return the choice in a query string."""
        view: View = "split" if query.get("view") == "split" else "inline"
        return cls(view, query.get("space") == "ignored", query.get("context") == "all")

    def query(self, **changes: str) -> str:
        """Return the query string of the choice, with `changes`."""
        fields = {"view": self.view, "space": "ignored" if self.ignores_space else "", "context": ""}
        fields["context"] = "all" if self.whole else ""
        usual = {"view": "inline", "space": "compared", "context": "usual"}
        fields |= changes
        kept = {name: value for name, value in fields.items() if value and usual.get(name) != value}
        return f"?{urlencode(kept)}" if kept else "?"


@dataclass(frozen=True)
class FileEntry:
    """A changed file in the list of them: its place, path, what happened to it, and what is to be told of it."""

    place: int
    path: str
    change: str
    size: str
    warnings: Sequence[str]
    section: FileSection | None
    """Its diff, as far as the answer about the proposal has all of it."""


def entries_of(detail: Mapping[str, Any]) -> tuple[list[FileEntry], ParsedDiff]:
    """Return the changed files of a proposal, and the diff in the answer about it."""
    parsed = parse_diff(detail["diff"])
    sections = iter(parsed.files)
    entries = []
    for place, file in enumerate(detail["files"]):
        section = next(sections, None) if file["shown"] > 0 else None
        is_whole = file["shown"] >= file["size"]
        entries.append(
            FileEntry(
                place,
                file["path"],
                _change_in_words(file),
                format_bytes(file["size"]),
                list(_warnings(file)),
                section if is_whole else None,
            )
        )
    return entries, parsed


def _change_in_words(file: Mapping[str, Any]) -> str:
    kinds = {"executable": "a program", "symlink": "a symbolic link", "submodule": "a submodule"}
    kind = kinds.get(file.get("kind", "file"))
    return f"{file['change']}, {kind}" if kind else str(file["change"])


def _warnings(file: Mapping[str, Any]) -> Sequence[str]:
    if file.get("binary"):
        return ["binary: its content is not shown"]
    if not file.get("is_text", True):
        return ["not text: some of its bytes are shown as replacement characters"]
    return []


def first_to_show(entries: Sequence[FileEntry]) -> set[int]:
    """Return the places of the files that a page shows at once: those at the beginning, and always the first."""
    found: set[int] = set()
    room = _SHOWN_AT_ONCE
    for entry in entries:
        lines = _SHOWN_AT_ONCE if entry.section is None else sum(len(hunk.lines) for hunk in entry.section.hunks)
        if found and lines > room:
            break
        found.add(entry.place)
        room -= lines
    return found


async def show_diff(
    visit: Visit, subject: Subject, detail: Mapping[str, Any], entry: FileEntry, choice: DiffChoice, first: int = 0
) -> Html:
    """Return the diff of a file as HTML, from its line `first` on."""
    preface: list[str] = []
    sections = [entry.section] if entry.section is not None else []
    cut = False
    if not sections or choice.whole or choice.ignores_space:
        query = {
            "context": _ALL if choice.whole else _USUAL_CONTEXT,
            "whitespace": "ignored" if choice.ignores_space else "compared",
        }
        answer = await visit.hive.get(subject.api("files", entry.place), query)
        parsed = parse_diff(answer["diff"])
        preface, sections = parsed.preface, parsed.files
        cut = len(answer["diff"].encode(errors="surrogatepass")) < answer["diff_bytes"]
    shown = [(section, show_file(section, choice.view, first)) for section in sections]
    return visit.fragment(
        "decisions/templates/file.html.j2",
        entry=entry,
        preface=preface,
        sections=shown,
        colours=await coloured(visit, entry.path, shown),
        choice=choice,
        subject=subject,
        first=first,
        is_cut=cut,
        command=_command(subject, detail),
        may_comment=visit.visitor.may_act and detail["state"] == "built",
    )


async def coloured(visit: Visit, path: str, shown: Sequence[tuple[FileSection, ShownFile]]) -> dict[DiffLine, Html]:
    """Return the HTML of lines whose language is known by the name of the file."""
    highlight = visit.request.app[MARKUP].lines
    found: dict[DiffLine, Html] = {}
    for _, file in shown:
        found |= await colour_lines(file, path, highlight)
    return found


def _command(subject: Subject, detail: Mapping[str, Any]) -> str:
    """Return the command that shows the whole diff on the host."""
    place = "applied" if subject.kind == "agents" else "work"
    base = detail["base"] or "4b825dc642cb6eb9a060e54bf8d69288fbee4904"
    options = "--text --no-ext-diff --no-textconv "
    return f"git -C STATE_DIR/{place}/{subject.owner}.git diff {options}{base} {detail['commit']}"
