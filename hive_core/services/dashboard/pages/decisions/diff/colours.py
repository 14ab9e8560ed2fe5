"""The words of code in a diff, coloured: both sides of each hunk, as the file reads before and after the change."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence

from hive_core.services.dashboard.pages.decisions.diff.parse import DiffLine
from hive_core.services.dashboard.pages.decisions.diff.rows import Row, ShownFile
from hive_core.services.dashboard.rendering import Html

HighlightLines = Callable[[str, str], Awaitable[list[Html]]]
"""Returns the HTML of each line of a text; the path of the file tells the language."""

_MOST_HUNKS = 40
"""Hunks of a file that are coloured; the others are shown as they are."""


async def colour_lines(shown: ShownFile, path: str, highlight: HighlightLines) -> dict[DiffLine, Html]:
    """Return the HTML of lines of a file. Lines that are not in it are shown as text."""
    found: dict[DiffLine, Html] = {}
    for hunk in shown.hunks[:_MOST_HUNKS]:
        lines = list(dict.fromkeys(line for block in hunk.blocks for line in _lines(block.rows)))
        for signs in (" -", " +"):
            side = [line for line in lines if line.sign in signs]
            if all(line in found for line in side):
                continue
            made = await highlight("\n".join(line.text for line in side), path)
            if len(made) == len(side):
                found |= {line: html for line, html in zip(side, made, strict=True) if line not in found}
    return found


def _lines(rows: Sequence[Row]) -> Iterator[DiffLine]:
    for row in rows:
        for line in (row.left, row.right):
            if line is not None:
                yield line
