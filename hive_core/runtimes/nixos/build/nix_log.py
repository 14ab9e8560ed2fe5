"""The output of a build (`nix build -L` without a terminal) as bounded lines that a terminal does not act on. Pure.

Most of it is written by an agent's configuration: the logs of builders, and `builtins.trace`.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable

from hive_core.text import visible

LOG_CHARACTERS = 8 * 1024 * 1024
"""Lines are passed on up to this length in total. The error is kept also after that."""
ERROR_CHARACTERS = 8_000
_LINE_CHARACTERS = 2_000
_LINE_COST = 64
"""A line counts for at least this many characters, however short it is."""
_ERROR_LINES = 100
_BUILDER_LINES = 10
_ERROR = "error:"
_BUILDER_LINE = re.compile(r"[\w+.?=-]+> .")
"""Nix puts the name of the derivation before each line of a builder, so that none of these looks like an error."""
_OMITTED = "[...]"


class NixLog:
    """Passes the lines of one build on to `say`, and keeps its error: all that follows the first line of an error."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._left = LOG_CHARACTERS
        self._error: list[str] = []
        self._error_end: deque[str] = deque(maxlen=_ERROR_LINES)
        self._builder_lines: deque[str] = deque(maxlen=_BUILDER_LINES)
        self._last_line = ""

    def feed(self, line: str) -> None:
        """Take one line, without its end."""
        if not line or line.isspace():
            return
        line = line[: _LINE_CHARACTERS + 1]
        self._last_line = line
        if self._error or line.startswith(_ERROR):
            (self._error if len(self._error) < _ERROR_LINES else self._error_end).append(line)
        elif _BUILDER_LINE.match(line):
            self._builder_lines.append(line)
        if self._left > 0:
            text = _shown(line)
            self._left -= max(len(text), _LINE_COST)
            self._say(text)
            if self._left <= 0:
                self._say("the output of the build is longer than what is kept; the rest is left out")

    @property
    def last_line(self) -> str:
        """The last line; from a program other than Nix, such as systemd-run, this is its error."""
        return _shown(self._last_line)

    @property
    def error(self) -> str:
        """The error of Nix with the end of the builder's log; empty if Nix has not reported one."""
        lines = [*self._error, *([_OMITTED] if len(self._error_end) == _ERROR_LINES else []), *self._error_end]
        # A Nix daemon puts the end of the log into its error. Nix without a daemon leaves it out under -L.
        if lines and self._builder_lines:
            last = self._builder_lines[-1].partition("> ")[2].rstrip()
            if not any(line.strip().removeprefix("> ").rstrip() == last for line in lines):
                lines += ["last lines of the log:", *self._builder_lines]
        return _cut("\n".join(map(_shown, lines)))


def _shown(line: str) -> str:
    shown = visible(line).rstrip()
    return shown if len(shown) <= _LINE_CHARACTERS else f"{shown[:_LINE_CHARACTERS]} {_OMITTED}"


def _cut(text: str) -> str:
    """Keep the beginning and the end of a long text: newer versions of Nix report the cause after the trace."""
    if len(text) <= ERROR_CHARACTERS:
        return text
    return f"{text[: ERROR_CHARACTERS // 4]}\n{_OMITTED}\n{text[-ERROR_CHARACTERS // 2 :]}"
