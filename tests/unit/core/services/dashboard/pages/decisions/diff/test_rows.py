"""Diffs as they are shown: every line of them, whatever is in it."""

from __future__ import annotations

import re
import time
from html.parser import HTMLParser

from hypothesis import given
from hypothesis import strategies as st

from hive_core.services.dashboard.pages.decisions.diff.parse import parse_diff
from hive_core.services.dashboard.pages.decisions.diff.rows import MOST_LINES, ShownFile, View, show_file
from hive_core.services.dashboard.pages.decisions.files import DiffChoice, FileEntry
from hive_core.services.dashboard.pages.decisions.subject import Subject
from hive_core.services.dashboard.rendering import Html, render
from hive_core.text import visible

_TAGS = frozenset(
    ("p", "details", "summary", "pre", "table", "colgroup", "col", "tbody", "tr", "td", "button", "strong", "a", "code")
)
_PARTS = (
    "<b>",
    "</td>",
    "<script>",
    "&amp;",
    "\x1b[31m",
    "\u202e",
    "\r",
    "\t",
    "'",
    '"',
    "@@ -1 +1 @@",
    "diff --git a/x",
)
_LINES = st.lists(
    st.text(st.sampled_from("ab <>&") | st.characters(codec="utf-8"), max_size=6) | st.sampled_from(_PARTS)
)


class _Reader(HTMLParser):
    """Reads HTML: the tags that it has, and the texts of lines and of everything else."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: set[str] = set()
        self.lines: list[str] = []
        self.text = ""
        self._in_line = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self._in_line = tag == "td" and dict(attrs).get("class") == "text"
        if self._in_line:
            self.lines.append("")

    def handle_endtag(self, tag: str) -> None:
        self._in_line = False

    def handle_data(self, data: str) -> None:
        self.text += data
        if self._in_line:
            self.lines[-1] += data


def _html(diff: str, view: View = "inline", first: int = 0) -> tuple[Html, ShownFile]:
    parsed = parse_diff(diff)
    sections = [(section, show_file(section, view, first)) for section in parsed.files]
    values = {
        "entry": FileEntry(0, "x", "changed", "1 byte", [], None),
        "preface": parsed.preface,
        "sections": sections,
        "colours": {},
        "choice": DiffChoice(view),
        "subject": Subject("agents", "ada", 3),
        "first": first,
        "is_cut": False,
        "command": "git",
        "may_comment": True,
    }
    return render("decisions/templates/file.html.j2", values), sections[0][1]


def _read(html: str) -> _Reader:
    reader = _Reader()
    reader.feed(html)
    return reader


@st.composite
def _diffs(draw: st.DrawFn) -> str:
    """A diff whose lines are anything without a newline."""
    lines = ["diff --git a/x b/x", "index 1..2 100644", "--- a/x", "+++ b/x"]
    for number in range(draw(st.integers(1, 3))):
        lines.append(f"@@ -{number * 100 + 1},9 +{number * 100 + 1},9 @@ {draw(st.sampled_from(_PARTS))}")
        contents = [text.replace("\n", " ") for text in draw(_LINES)]
        lines += [draw(st.sampled_from(" +-\\")) + text for text in contents]
    lines += draw(st.sampled_from([[], ["[cut: 1 of 2 bytes of this file's diff are shown]"]]))
    return "\n".join(lines) + "\n"


@given(_diffs())
def test_a_parsed_diff_is_the_diff(diff: str) -> None:
    """No line is left out when a diff is parsed, and no content of a file is taken for a line of git's."""
    parsed = parse_diff(diff)
    assert "".join(f"{line}\n" for line in parsed.text()) == diff
    assert len(parsed.files) == 1


@given(_diffs(), st.sampled_from(["inline", "split"]))
def test_every_line_is_shown(diff: str, view: View) -> None:
    """Each line is in the page, escaped, with control characters made visible, and no tag of a file becomes one."""
    html, _ = _html(diff, view)
    reader = _read(html)
    assert reader.tags <= _TAGS
    [section] = parse_diff(diff).files
    changed = [line for hunk in section.hunks for line in hunk.lines]
    expected = [visible(line.text) for line in changed for _ in range(2 if view == "split" and line.sign == " " else 1)]
    assert sorted(text for text in reader.lines if text) == sorted(text for text in expected if text)
    for line in [*section.head, *(hunk.header for hunk in section.hunks), *section.notes]:
        assert visible(line) in reader.text
    assert re.search(r"[\x00-\x08\x0b-\x1f\u202e]", html) is None


def test_sides() -> None:
    """Side by side, removed lines stand beside the added ones that follow them, with the numbers of both."""
    diff = "diff --git a/x b/x\n@@ -5,3 +5,4 @@\n a\n-b\n-c\n+B\n d\n+e\n\\ No newline at end of file\n"
    [section] = parse_diff(diff).files
    [hunk] = show_file(section, "split").hunks
    rows = [row for block in hunk.blocks for row in block.rows]
    sides = [[None if line is None else (line.text, line.old, line.new) for line in (r.left, r.right)] for r in rows]
    assert sides == [
        [("a", 5, 5), ("a", 5, 5)],
        [("b", 6, None), ("B", None, 6)],
        [("c", 7, None), None],
        [("d", 8, 7), ("d", 8, 7)],
        [None, ("e", None, 8)],
        [None, (" No newline at end of file", None, None)],
    ]


def test_long_unchanged_runs_are_folded() -> None:
    """In a whole file, three lines around each change stay open, and the others are one click away, all of them."""
    lines = "".join(f" {number}\n" for number in range(40))
    html, shown = _html(f"diff --git a/x b/x\n@@ -1,80 +1,81 @@\n{lines}+new\n{lines}")
    assert [(len(block.rows), block.folded) for block in shown.hunks[0].blocks] == [(37, True), (7, False), (37, True)]
    assert html.count("37 lines that did not change") == 2
    assert _read(html).lines.count("0") == 2


def test_huge_diffs_are_shown_in_parts() -> None:
    """A page has at most so many lines of a file, and a link to the next ones; together they are all."""
    lines = [f"line {number}" for number in range(2 * MOST_LINES + 10)]
    diff = "diff --git a/x b/x\n@@ -0,0 +1,3010 @@\n" + "".join(f"+{line}\n" for line in lines)
    found: list[str] = []
    first: int | None = 0
    while first is not None:
        html, shown = _html(diff, first=first)
        found += _read(html).lines
        first = shown.next_line
        assert first is None or f"first={first}" in html
    assert found == lines


def test_a_long_line_is_whole() -> None:
    """A line of a megabyte is shown whole, in little time."""
    start = time.monotonic()
    html, _ = _html(f"diff --git a/x b/x\n@@ -0,0 +1 @@\n+{'x' * 1_000_000}\n")
    assert _read(html).lines == ["x" * 1_000_000]
    assert time.monotonic() - start < 2
