"""The lines of a unified diff. Nothing of it is left out: the parts, joined, are the text again."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

_FILE = "diff --git "
_HUNK = re.compile(r"@@ -([0-9]{1,12})(?:,([0-9]{1,12}))? \+([0-9]{1,12})(?:,([0-9]{1,12}))? @@")
Sign = Literal[" ", "+", "-", "\\"]
_SIGNS: dict[str, Sign] = {" ": " ", "+": "+", "-": "-", "\\": "\\"}


@dataclass(frozen=True)
class DiffLine:
    """A line of a file, with its number before and after the change where it is there.

    The sign `\\` begins git's remark that a file does not end in a newline.
    """

    sign: Sign
    text: str
    old: int | None = None
    new: int | None = None


@dataclass
class Hunk:
    """Lines that follow each other in the file, and the line that says where they are."""

    header: str
    lines: list[DiffLine] = field(default_factory=list)


@dataclass
class FileSection:
    """The diff of one file: git's lines about it, its hunks, and remarks behind them, such as that it is cut."""

    head: list[str] = field(default_factory=list)
    hunks: list[Hunk] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def added(self) -> int:
        """The number of added lines."""
        return sum(line.sign == "+" for hunk in self.hunks for line in hunk.lines)

    @property
    def removed(self) -> int:
        """The number of removed lines."""
        return sum(line.sign == "-" for hunk in self.hunks for line in hunk.lines)


@dataclass
class ParsedDiff:
    """A diff of any number of files, and lines before the first of them."""

    preface: list[str] = field(default_factory=list)
    files: list[FileSection] = field(default_factory=list)

    def text(self) -> Iterator[str]:
        """Yield the lines that the diff was parsed from."""
        yield from self.preface
        for file in self.files:
            yield from file.head
            for hunk in file.hunks:
                yield hunk.header
                yield from (line.sign + line.text for line in hunk.lines)
            yield from file.notes


def parse_diff(text: str) -> ParsedDiff:
    """Parse a diff as the daemon shows it. A line of a file cannot look like one of git's: a sign is before it."""
    parsed = ParsedDiff()
    hunk: Hunk | None = None
    old = new = 0
    for line in text.removesuffix("\n").split("\n") if text else []:
        sign = _SIGNS.get(line[:1])
        if hunk is not None and sign is not None:
            before, after = sign in " -", sign in " +"
            hunk.lines.append(DiffLine(sign, line[1:], old if before else None, new if after else None))
            old, new = old + before, new + after
            continue
        hunk = None
        if line.startswith(_FILE):
            parsed.files.append(FileSection([line]))
        elif not parsed.files:
            parsed.preface.append(line)
        elif (found := _HUNK.match(line)) is not None and not parsed.files[-1].notes:
            hunk, old, new = Hunk(line), int(found[1]), int(found[3])
            parsed.files[-1].hunks.append(hunk)
        elif parsed.files[-1].hunks:
            parsed.files[-1].notes.append(line)
        else:
            parsed.files[-1].head.append(line)
    return parsed


def old_and_new(lines: Sequence[DiffLine]) -> tuple[list[int], list[int]]:
    """Return the places of the lines that the file had before, and of those that it has after the change."""
    old = [place for place, line in enumerate(lines) if line.sign in " -"]
    new = [place for place, line in enumerate(lines) if line.sign in " +"]
    return old, new
