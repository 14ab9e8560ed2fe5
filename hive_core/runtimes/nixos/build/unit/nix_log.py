"""The output of Nix in a unit (`--log-format internal-json`) as bounded lines that a terminal does not act on. Pure.

Most of it is written by an agent's configuration: the logs of builders, and `builtins.trace`. Nix writes each message
as one line of JSON after `@nix `, in which such texts are values, so none of them can pass for an error of Nix. A line
without that mark is from another program (systemd-run, or a git that Nix runs), or from Nix when its stack is full.
Such lines count as an error only if Nix has reported none.
"""

from __future__ import annotations

import json
import re
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from hive_core.text import visible

LINE_BYTES = 1024 * 1024
"""A longer line of output is left out."""
LOG_CHARACTERS = 8 * 1024 * 1024
"""Lines are passed on up to this length in total. The error is kept also after that."""
ERROR_CHARACTERS = 8_000
_LINE_CHARACTERS = 2_000
_LINE_COST = 64
"""A line counts for at least this many characters, however short it is."""
_ERROR_LINES = 100
_BUILDER_LINES = 10
_MARK = "@nix "
_ERROR = "error:"
_OMITTED = "[...]"
_INDENTATION = "       "
_SHOWN_LEVEL = 3
"""The level of information (`lvlInfo`); higher numbers are details."""
_BUILD = 105
"""The type of the activity of one builder (`actBuild`)."""
_BUILDER_LINE_TYPES = (101, 107)
"""The types of results that are a line of a builder, or of a post-build hook."""
_COLOUR = re.compile(r"\x1b\[[0-9;]*[mK]")
_DERIVATION_NAME = re.compile(r"/[0-9a-z]{32}-([0-9A-Za-z+._?=-]{1,211})\.drv$")


class NixLog:
    """Passes the lines of one unit on to `say`, and keeps the errors of Nix and the last line of another program."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._left = LOG_CHARACTERS
        self._error: list[str] = []
        self._error_end: deque[str] = deque(maxlen=_ERROR_LINES)
        self._builder_lines: deque[str] = deque(maxlen=_BUILDER_LINES)
        self._builders: dict[int, str] = {}
        self._foreign_line = ""
        self._foreign_error: list[str] = []
        self._nix_runs = False
        self._lost = False

    def feed(self, line: str) -> None:
        """Take one line, without its end."""
        if not line.startswith(_MARK):
            self._take_foreign(line)
            return
        self._nix_runs = True
        try:
            message = json.loads(line.removeprefix(_MARK))
        except (ValueError, RecursionError):
            message = None
        if not isinstance(message, dict):
            self._lost = True
            self._pass(_OMITTED)
            return
        match message.get("action"):
            case "msg":
                self._take_message(message)
            case "start":
                self._take_start(message)
            case "stop":
                self._builders.pop(_number(message, "id"), None)
            case "result":
                self._take_result(message)

    @property
    def foreign_line(self) -> str:
        """The last line of systemd-run; empty if there is none, or if Nix has run."""
        return "" if self._nix_runs else _shown(self._foreign_line)

    @property
    def error(self) -> str:
        """The errors of Nix with the end of the builder's log; empty if Nix has not reported any."""
        lines = [*self._error, *([_OMITTED] if len(self._error_end) == _ERROR_LINES else []), *self._error_end]
        if not lines and self._lost:
            return f"error: Nix has reported it in a line of more than {LINE_BYTES:,} bytes"
        lines = lines or self._foreign_error
        if not lines:
            return ""
        # The errors of some versions quote the end of the log.
        if self._builder_lines:
            last = self._builder_lines[-1].partition("> ")[2].rstrip()
            if not any(line.strip().removeprefix("> ").rstrip() == last for line in lines):
                lines += ["last lines of the log:", *self._builder_lines]
        return _cut("\n".join(map(_shown, lines)))

    def _take_foreign(self, line: str) -> None:
        if not line or line.isspace():
            return
        line = line[: _LINE_CHARACTERS + 1]
        self._foreign_line = line
        if (self._foreign_error or line.startswith(_ERROR)) and len(self._foreign_error) < _ERROR_LINES:
            self._foreign_error.append(line)
        self._pass(line)

    def _take_message(self, message: Mapping[str, Any]) -> None:
        text = message.get("msg")
        if not isinstance(text, str) or _number(message, "level") > _SHOWN_LEVEL:
            return
        # Nix writes errors and warnings also without their position and their colours; `builtins.warn` gives a warning
        # with a text of the configuration. A trace is a plain message.
        is_error = "raw_msg" in message and message.get("level") == 0
        for number, line in enumerate(one for one in _COLOUR.sub("", text).splitlines() if one.strip()):
            line = line[: _LINE_CHARACTERS + 1]  # noqa: PLW2901 - bounds what is kept
            if is_error:
                self._keep_error(line)
            self._pass(line if is_error or number == 0 else _INDENTATION + line)

    def _take_start(self, message: Mapping[str, Any]) -> None:
        text, fields = message.get("text"), message.get("fields")
        if _number(message, "type") == _BUILD and isinstance(fields, list) and fields:
            name = _DERIVATION_NAME.search(str(fields[0]))
            self._builders[_number(message, "id")] = "?" if name is None else name[1]
        if isinstance(text, str) and text and _number(message, "level") <= _SHOWN_LEVEL:
            self._pass(f"{_first_line(text)}...")

    def _take_result(self, message: Mapping[str, Any]) -> None:
        fields = message.get("fields")
        if _number(message, "type") not in _BUILDER_LINE_TYPES or not (isinstance(fields, list) and fields):
            return
        name = self._builders.get(_number(message, "id"), "?")
        for text in str(fields[0]).splitlines():
            if text.strip():
                line = f"{name}> {text}"[: _LINE_CHARACTERS + 1]
                self._builder_lines.append(line)
                self._pass(line)

    def _keep_error(self, line: str) -> None:
        (self._error if len(self._error) < _ERROR_LINES else self._error_end).append(line)

    def _pass(self, line: str) -> None:
        if self._left <= 0:
            return
        text = _shown(line)
        self._left -= max(len(text), _LINE_COST)
        self._say(text)
        if self._left <= 0:
            self._say("the output of the build is longer than what is kept; the rest is left out")


def _number(message: Mapping[str, Any], key: str) -> int:
    found = message.get(key)
    return found if isinstance(found, int) else 0


def _first_line(text: str) -> str:
    return _COLOUR.sub("", text).partition("\n")[0][: _LINE_CHARACTERS + 1]


def _shown(line: str) -> str:
    shown = visible(line).rstrip()
    return shown if len(shown) <= _LINE_CHARACTERS else f"{shown[:_LINE_CHARACTERS]} {_OMITTED}"


def _cut(text: str) -> str:
    """Keep the beginning and the end of a long text: newer versions of Nix report the cause after the trace."""
    if len(text) <= ERROR_CHARACTERS:
        return text
    return f"{text[: ERROR_CHARACTERS // 4]}\n{_OMITTED}\n{text[-ERROR_CHARACTERS // 2 :]}"
