"""Rows that show the lines of a diff, one below the other or side by side, with long unchanged runs folded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from hive_core.services.dashboard.pages.decisions.diff.parse import DiffLine, FileSection
from hive_core.services.dashboard.rendering import Html

View = Literal["inline", "split"]
MOST_LINES = 1_500
"""Lines that are shown at a time; the next ones are a link away."""
_KEPT = 3
_FOLDED = 4
"""Unchanged lines that are worth to be folded at least."""

Highlighted = Mapping[int, Html]
"""The HTML of lines, by the `id` of their object. Others are shown as text."""


@dataclass(frozen=True)
class Row:
    """One row: the line before and the line after the change. Shown inline, a changed line is on one side only."""

    left: DiffLine | None
    right: DiffLine | None

    @property
    def kind(self) -> str:
        """The name of the row's style."""
        sides = [line.sign for line in (self.left, self.right) if line is not None]
        return {" ": "same", "+": "added", "-": "removed", "\\": "remark"}[sides[0]] if len(set(sides)) == 1 else "both"


@dataclass(frozen=True)
class Block:
    """Rows that belong together: changed ones with their surroundings, or a folded run of unchanged ones."""

    rows: Sequence[Row]
    folded: bool = False


@dataclass(frozen=True)
class ShownHunk:
    """A hunk, or the part of it that is shown, as blocks of rows."""

    header: str
    blocks: Sequence[Block]


@dataclass(frozen=True)
class ShownFile:
    """The shown part of a file's diff; `next_line` is where the rest of it begins."""

    hunks: Sequence[ShownHunk]
    next_line: int | None
    lines: int


def show_file(section: FileSection, view: View, first: int = 0, most: int = MOST_LINES) -> ShownFile:
    """Return the rows of a file, from its line `first` on, at most `most` of them."""
    hunks: list[ShownHunk] = []
    place = 0
    for hunk in section.hunks:
        start, end = max(first - place, 0), max(first + most - place, 0)
        part = hunk.lines[start:end]
        is_cut_off = not hunk.lines and first <= place < first + most
        place += len(hunk.lines)
        if part or is_cut_off:
            hunks.append(ShownHunk(hunk.header, list(_blocks(part, view))))
    return ShownFile(hunks, first + most if first + most < place else None, place)


def _blocks(lines: Sequence[DiffLine], view: View) -> Iterator[Block]:
    rows = list(_inline(lines) if view == "inline" else _side_by_side(lines))
    begin = 0
    for start, end in list(_same_runs(rows)):
        first = start + (_KEPT if start else 0)
        last = end - (_KEPT if end < len(rows) else 0)
        if last - first < _FOLDED:
            continue
        if first > begin:
            yield Block(rows[begin:first])
        yield Block(rows[first:last], folded=True)
        begin = last
    if begin < len(rows):
        yield Block(rows[begin:])


def _same_runs(rows: Sequence[Row]) -> Iterator[tuple[int, int]]:
    """Yield the beginnings and ends of runs of unchanged rows that are longer than what surrounds a change."""
    start: int | None = None
    for place, row in enumerate([*rows, None]):
        if row is not None and row.kind == "same":
            start = place if start is None else start
            continue
        if start is not None and place - start > 2 * _KEPT + _FOLDED:
            yield start, place
        start = None


def _inline(lines: Sequence[DiffLine]) -> Iterator[Row]:
    for line in lines:
        if line.sign == "-":
            yield Row(line, None)
        elif line.sign == " ":
            yield Row(line, line)
        else:
            yield Row(None, line)


def _side_by_side(lines: Sequence[DiffLine]) -> Iterator[Row]:
    """Yield rows in which the removed lines of a change stand beside the added ones."""
    removed: list[DiffLine] = []
    added: list[DiffLine] = []
    for line in lines:
        if line.sign == "-" and not added:
            removed.append(line)
        elif line.sign == "+":
            added.append(line)
        elif line.sign == "\\":
            # The remark is about the line before it.
            (added or removed).append(line)
        else:
            yield from _pairs(removed, added)
            removed, added = ([line], []) if line.sign == "-" else ([], [])
            if line.sign == " ":
                yield Row(line, line)
    yield from _pairs(removed, added)


def _pairs(removed: Sequence[DiffLine], added: Sequence[DiffLine]) -> Iterator[Row]:
    for place in range(max(len(removed), len(added))):
        left = removed[place] if place < len(removed) else None
        right = added[place] if place < len(added) else None
        yield Row(left, right)
