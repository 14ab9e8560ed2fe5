"""An aligned table that fits the terminal. rich's own would double the time of `hive-c0re list`; its widths do not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

Row = Sequence[str]

_GAP = "  "
_LEAST_LAST = 12
"""Cells below which the last column is of no use, and another column is left out in its favour."""


@dataclass(frozen=True)
class Column:
    """`keep` ranks columns: on a narrow terminal the lowest go first. `style` gets the text and the padded text."""

    header: str
    keep: int
    right: bool = False
    style: Callable[[str, str], str] = lambda text, padded: padded


def render(columns: Sequence[Column], rows: Sequence[Row], width: int | None) -> list[str]:
    """Header and rows as lines. The last column is cut at `width` cells; None cuts nothing."""
    widths = [max([_cells(c.header), *(_cells(row[i]) for row in rows)]) for i, c in enumerate(columns)]
    shown = _that_fit(columns, widths, width)
    last = shown[-1]
    if width is not None:
        before = sum(widths[i] + len(_GAP) for i in shown[:-1])
        widths[last] = min(widths[last], max(1, width - before))
    header = _GAP.join(_padded(columns[i].header, widths[i], columns[i].right) for i in shown).rstrip()
    lines = [header]
    right = columns[last].right
    for row in rows:
        cells = [columns[i].style(row[i], _padded(row[i], widths[i], columns[i].right)) for i in shown[:-1]]
        cells.append(columns[last].style(row[last], _padded(_cut(row[last], widths[last]), widths[last], right)))
        lines.append(_GAP.join(cells).rstrip())
    return lines


def _that_fit(columns: Sequence[Column], widths: Sequence[int], width: int | None) -> list[int]:
    shown = list(range(len(columns)))
    if width is None:
        return shown
    while len(shown) > 1:
        needed = sum(widths[i] + len(_GAP) for i in shown[:-1]) + min(widths[shown[-1]], _LEAST_LAST)
        if needed <= width:
            break
        shown.remove(min(shown, key=lambda i: columns[i].keep))
    return shown


def _padded(text: str, width: int, right: bool) -> str:
    space = " " * (width - _cells(text))
    return space + text if right else text + space


def _cells(text: str) -> int:
    """How wide `text` is on a terminal."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len  # noqa: PLC0415 - tables are mostly ASCII, and then do without

    return cell_len(text)


def _cut(text: str, width: int) -> str:
    if _cells(text) <= width:
        return text
    from rich.cells import set_cell_size  # noqa: PLC0415

    return set_cell_size(text, width - 1).rstrip() + "…"
