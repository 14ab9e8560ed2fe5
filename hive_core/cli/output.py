"""Output for people: tables, colours, times, lines of programs in agents, the terminal's width."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import click

from hive_core.protocol.names import MANAGER, OPERATOR
from hive_core.text import escaped_line, one_line, visible

Row = Sequence[str]

_LONGEST_LINE = 16 * 1024
_GAP = "  "
_LEAST_LAST = 12
"""Least width of the last column in cells; another column is left out to keep it."""


@dataclass(frozen=True)
class Column:
    """A column of a table.

    `keep` is its rank: a narrow terminal leaves out the lowest first. `style` gets the text and the padded text.
    """

    header: str
    keep: int
    right: bool = False
    style: Callable[[str, str], str] = lambda text, padded: padded


def render(columns: Sequence[Column], rows: Sequence[Row], width: int | None) -> list[str]:
    """Format header and rows as lines. The last column is cut at `width` cells; None cuts nothing."""
    widths = [max([_cells(c.header), *(_cells(row[i]) for row in rows)]) for i, c in enumerate(columns)]
    shown = _fitting_columns(columns, widths, width)
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


def _fitting_columns(columns: Sequence[Column], widths: Sequence[int], width: int | None) -> list[int]:
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
    """Return the width of `text` on a terminal, in cells."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len  # noqa: PLC0415 - most tables are ASCII and do not need it

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
    "budget": "bright_magenta",
    "proposal": "yellow",
    "building": "yellow",
    "built": "bright_magenta",
    "approved": "yellow",
    "deployed": "green",
}


def coloured_agent(name: str, padded: str | None = None) -> str:
    """Colour an agent's name, always in the same colour; `padded` is shown instead of the name."""
    shown = name if padded is None else padded
    if name == OPERATOR:
        return click.style(shown, bold=True)
    if name == MANAGER:
        return click.style(shown, fg="magenta", bold=True)
    return click.style(shown, fg=_AGENTS[sum(name.encode()) % len(_AGENTS)])


def coloured_state(word: str, shown: str | None = None) -> str:
    """Colour a lifecycle or state.

    Green is good, yellow in progress, red failed, magenta waits for you, dim is absent.
    """
    text = word if shown is None else shown
    colour = _WORDS.get(word)
    return click.style(text, fg=colour) if colour else dim(text)


def describe_network(agent: Mapping[str, Any]) -> str:
    """Describe the network of an agent, and why it is the host's if nobody has decided that."""
    if agent.get("unsealed"):
        return click.style(
            "host: NOT SEALED, as nothing can seal it here (unsealed = true)", fg="bright_red", bold=True
        )
    if agent.get("network") == "host" and agent.get("network_implied"):
        return "host (from before sealed was the default)"
    return escaped_line(str(agent.get("network") or ""))


_SHOWN_LINE = 200


def describe_crash(agent: Mapping[str, Any]) -> str:
    """Format the last crash of an agent since it was last ready; empty if there was none.

    The last line of its programs, which may say anything, is cut, escaped and in quotes.
    """
    cause, times, line = agent.get("last_crash"), agent.get("crashes", 0), str(agent.get("last_line") or "")
    if not cause:
        return ""
    words = f": {quoted(line, most=_SHOWN_LINE)}" if line.strip() else ""
    return f"{times} times in a row, the last time with: {cause}{words}" if times > 1 else f"with: {cause}{words}"


def quoted(text: object, otherwise: str = "no reason given", most: int = 1_000) -> str:
    """Return what somebody else has said as one line of at most `most` characters, in quotes, else `otherwise`."""
    said = one_line(str(text or ""), most).replace('"', "'")
    return f'"{said}"' if said else otherwise


def warn(text: str) -> None:
    """Print a warning on stderr."""
    click.echo(f"hive-c0re: warning: {escaped_line(text)}", err=True)


def dim(text: str) -> str:
    """Dim a less important text."""
    return click.style(text, dim=True)


_STEPS = ((60, 1, "s"), (3_600, 60, "min"), (86_400, 3_600, "h"))


def now() -> datetime:
    """Return the current time in UTC."""
    return datetime.now(UTC)


def duration(since: object, until: datetime) -> str:
    """Format the time since the ISO time `since` ("3 min"); empty if it is no time, "0 s" if it is in the future."""
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
    """Format as `duration` does, with "ago"; empty if `since` is no time."""
    text = duration(since, until)
    if not text:
        return ""
    return "just now" if text == "0 s" else f"{text} ago"


def clock(at: object) -> str:
    """Format the ISO time `at` as hours, minutes and seconds in the local time zone."""
    try:
        return datetime.fromisoformat(str(at)).astimezone().strftime("%H:%M:%S")
    except ValueError:
        return "--:--:--"


def moment(at: object) -> str:
    """Format the ISO time `at` as date and time in the local time zone, with the zone; empty if it is no time."""
    try:
        return datetime.fromisoformat(str(at)).astimezone().strftime("%Y-%m-%d %H:%M:%S %Z")
    except (ValueError, OverflowError):
        return ""


def moment_of(seconds: object) -> str:
    """Format a time in seconds since 1970 as `moment` does."""
    try:
        return moment(datetime.fromtimestamp(float(str(seconds)), UTC).isoformat())
    except (ValueError, OverflowError, OSError):
        return ""


def page(lines: Sequence[str], wanted: bool = True) -> None:
    """Print lines, through the pager if they do not fit on the terminal; `wanted` is false with --no-pager."""
    text = "\n".join(lines)
    if wanted and sys.stdout.isatty() and len(lines) >= shutil.get_terminal_size().lines:
        # less keeps colours with -R, and leaves the text on the screen with -X.
        os.environ.setdefault("LESS", "-RFX")
        click.echo_via_pager(text + "\n")
    elif lines:
        click.echo(text)


def width() -> int | None:
    """Return the columns of the terminal on stdout; None if stdout is no terminal."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def is_interactive() -> bool:
    """Return True if the user can see a question and answer it."""
    return sys.stdin is not None and sys.stdin.isatty() and sys.stderr.isatty()


def print_lines(answer: dict[str, Any], err: bool = False) -> None:
    """Print the lines of a LogsAnswer, with control characters escaped."""
    for line in _lines_of(answer):
        click.echo(line, err=err)


def page_lines(answer: dict[str, Any], wanted: bool = True) -> None:
    """Print the lines as `print_lines` does, through the pager if they are many, as `page` does."""
    page(list(_lines_of(answer)), wanted)


def _lines_of(answer: dict[str, Any]) -> Iterator[str]:
    return (escaped_line(str(line)) for line in answer.get("lines", []))


class ShownLines:
    """Takes lines out of bytes that arrive in parts, escaped. A line that is too long becomes several."""

    def __init__(self) -> None:
        self._rest = b""

    def add(self, data: bytes) -> Iterator[str]:
        """Yield the lines that are complete with these bytes."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            yield from _shown_parts(line)
        if len(self._rest) > _LONGEST_LINE:
            yield from self.end()

    def end(self) -> Iterator[str]:
        """Yield what is left as the last line."""
        if self._rest:
            yield from _shown_parts(self._rest)
            self._rest = b""


def shown_lines(read: Callable[[], bytes]) -> Iterator[str]:
    """Yield the lines of what `read` returns until that is nothing."""
    lines = ShownLines()
    while data := read():
        yield from lines.add(data)
    yield from lines.end()


def _shown_parts(line: bytes) -> Iterator[str]:
    for start in range(0, len(line) or 1, _LONGEST_LINE):
        yield visible(line[start : start + _LONGEST_LINE].decode(errors="backslashreplace"))
