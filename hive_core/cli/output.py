"""Output for people: tables, colours, times, the terminal's width."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import click

from hive_core.protocol.names import MANAGER, OPERATOR
from hive_core.text import escaped_line

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


_AGENTS = ("cyan", "blue", "green", "bright_cyan", "bright_blue", "bright_green")
_WORDS = {
    "idle": "green",
    "running": "green",
    "thinking": "yellow",
    "starting": "yellow",
    "stopping": "yellow",
    "backoff": "bright_red",
    "failed": "bright_red",
    "needs_login": "bright_magenta",
    "paused": "bright_magenta",
    "proposal": "yellow",
    "building": "yellow",
    "built": "bright_magenta",
    "approved": "yellow",
    "deployed": "green",
}


def coloured_agent(name: str, padded: str | None = None) -> str:
    """A name in a colour that stays its own; `padded` is what to show in its place."""
    shown = name if padded is None else padded
    if name == OPERATOR:
        return click.style(shown, bold=True)
    if name == MANAGER:
        return click.style(shown, fg="magenta", bold=True)
    return click.style(shown, fg=_AGENTS[sum(name.encode()) % len(_AGENTS)])


def coloured_state(word: str, shown: str | None = None) -> str:
    """A lifecycle or state: green is well, yellow on its way, red in trouble, magenta waits for you, dim not there."""
    text = word if shown is None else shown
    colour = _WORDS.get(word)
    return click.style(text, fg=colour) if colour else dim(text)


def dim(text: str) -> str:
    """What matters less."""
    return click.style(text, dim=True)


_STEPS = ((60, 1, "s"), (3_600, 60, "min"), (86_400, 3_600, "h"))


def now() -> datetime:
    """The time in UTC."""
    return datetime.now(UTC)


def duration(since: object, until: datetime) -> str:
    """How long ago the ISO time `since` was ("3 min"); empty if it is none. The future counts as this moment."""
    if not isinstance(since, str):
        return ""
    try:
        then = datetime.fromisoformat(since)
    except ValueError:
        return ""
    seconds = max(0, int((until - (then if then.tzinfo else then.replace(tzinfo=UTC))).total_seconds()))
    for limit, unit, word in _STEPS:
        if seconds < limit:
            return f"{seconds // unit} {word}"
    days = seconds // 86_400
    return f"{days} day" if days == 1 else f"{days} days"


def ago(since: object, until: datetime) -> str:
    """As `duration`, with "ago"; empty if `since` is no time."""
    text = duration(since, until)
    if not text:
        return ""
    return "just now" if text == "0 s" else f"{text} ago"


def clock(at: object) -> str:
    """The ISO time `at` as hours, minutes and seconds where the operator is."""
    try:
        return datetime.fromisoformat(str(at)).astimezone().strftime("%H:%M:%S")
    except ValueError:
        return "--:--:--"


def moment(at: object) -> str:
    """The ISO time `at` as date and time where the operator is."""
    try:
        return datetime.fromisoformat(str(at)).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    except ValueError:
        return ""


def width() -> int | None:
    """Columns of the terminal on stdout; None if stdout is none."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def is_interactive() -> bool:
    """Whether a question would be seen and could be answered."""
    return sys.stdin is not None and sys.stdin.isatty() and sys.stderr.isatty()


def print_lines(answer: dict[str, Any], err: bool = False) -> None:
    """The lines of a LogsAnswer, each on one line whatever it holds."""
    for line in answer.get("lines", []):
        click.echo(escaped_line(str(line)), err=err)
