"""Parsing of `agent.toml` from an agent: errors with their lines, ceilings of limits.

The document must have been read by tomllib without an error: what is scanned here is known to be well-formed, so
a few patterns are enough.

What was deployed under a higher ceiling stays deployed: that it gets no more is seen to at its next start.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from pydantic import ValidationError

from hive_core.agents.limits import above_ceiling, excesses, remedy
from hive_core.errors import HiveError
from hive_core.protocol import AgentConfig
from hive_core.settings import LimitCeilings
from hive_core.text import shown

TOML_MOST = 64 * 1024
"""Bytes of agent.toml."""
_TOLD_MOST = 5
_DOTTED_MOST = 64
# Short ones only, so that looking for them takes no time: of longer ones there is no room for many.
_KEY = r"""(?>[\w-]{1,60}|"(?:[^"\\\n]|\\.){0,60}"|'[^'\n]{0,60}')"""
# tomllib needs the square of their number in time, or more.
_DOTTED = re.compile(rf"(?<![\w-]){_KEY}(?:[ \t]{{0,60}}\.[ \t]{{0,60}}{_KEY}){{{_DOTTED_MOST}}}", re.ASCII)
_AT = re.compile(r"^(?P<what>.*) \(at (?:line (?P<line>\d+), column \d+|end of document)\)$", re.DOTALL)
_HINT = f"known keys: {', '.join(AgentConfig.model_fields)}"


def parse_config(data: bytes) -> AgentConfig:
    """The settings in agent.toml. Raises HiveError `bad_agent_toml`; of many errors the first few are told."""
    if len(data) > TOML_MOST:
        raise toml_too_large(len(data))
    text = _decoded(data)
    document = _parsed(text)
    try:
        return AgentConfig.model_validate(document)
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False, include_input=False)
    told = sorted((line_of(text, each["loc"]), _words(each["loc"], each["msg"])) for each in found[:_TOLD_MOST])
    lines = [f"agent.toml, line {line}: {words}" for line, words in told]
    if len(found) > _TOLD_MOST:
        lines.append(f"and {len(found) - _TOLD_MOST:,} more")
    raise HiveError("bad_agent_toml", "; ".join(lines), hint=_HINT)


def toml_too_large(size: int) -> HiveError:
    """The refusal of an agent.toml of more than TOML_MOST bytes."""
    why = f"agent.toml has {size:,} bytes, at most {TOML_MOST:,} are allowed"
    return HiveError("bad_agent_toml", why, hint="long texts belong into prompt.md or files of their own")


def _decoded(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise _bad(line, "not valid UTF-8") from None


def _parsed(text: str) -> dict[str, Any]:
    if dotted := _DOTTED.search(text):
        line = text.count("\n", 0, dotted.start()) + 1
        raise _bad(line, f"more than {_DOTTED_MOST} names are joined by dots")
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise _bad(None, "arrays or tables are nested too deeply") from None
    except ValueError as error:
        # TOMLDecodeError, and what Python's numbers and dates refuse.
        found = _AT.match(str(error))
        if found is None:
            raise _bad(None, str(error)) from None
        line = int(found["line"]) if found["line"] else text.rstrip("\n").count("\n") + 1
        raise _bad(line, found["what"]) from None


def _bad(line: int | None, what: str) -> HiveError:
    where = "agent.toml" if line is None else f"agent.toml, line {line}"
    return HiveError("bad_agent_toml", f"{where}: {_clean(what)}", hint="see toml.io for how TOML is written")


def _words(path: Sequence[str | int], message: str) -> str:
    where = ""
    for part in path:
        if isinstance(part, int):
            where += f"[{part}]"
        else:
            where += ("." if where else "") + (part if re.fullmatch(r"[\w-]{1,60}", part, re.ASCII) else shown(part))
    if message == "Extra inputs are not permitted":
        message = "there is no such key"
    return f"{where}: {_clean(message)}"


def _clean(text: str) -> str:
    return "".join(char if char.isprintable() else "?" for char in text[:300])


Path = Sequence[str | int]

_BLANK = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_SPACE = re.compile(r"[ \t]*")
_STRING = re.compile(
    r'"""(?:[^\\"]|\\.|"{1,2}(?!"))*"{3,5}'
    r"|'''(?:[^']|'{1,2}(?!'))*'{3,5}"
    r'|"(?:[^\\"\n]|\\.)*"'
    r"|'[^'\n]*'",
    re.DOTALL,
)
_BARE = re.compile(r"[A-Za-z0-9_-]+")
_PLAIN = re.compile(r"[^,\]}#\n]*")
_DEEP = 16
"""Parts of a path that are looked at: more than any path of a setting has."""


def line_of(text: str, path: Path) -> int:
    """The line, counted from 1, of the value at `path`, or of the nearest thing around it that has a line."""
    scan = _Scan(text, tuple(path)[:_DEEP])
    # Nested nearly as deep as tomllib can read: what was met so far has a line.
    with suppress(RecursionError):
        scan.run()
    return scan.line()


class _Scan:
    """One way through a document, which remembers the longest part of the wanted path that it has met."""

    def __init__(self, text: str, wanted: tuple[str | int, ...]) -> None:
        self._text = text
        self._wanted = wanted
        self._at = 0
        self._met = 0
        self._where = 0
        self._tables: dict[tuple[str | int, ...], int] = {}

    def line(self) -> int:
        """The line of what was met."""
        return self._text.count("\n", 0, self._where) + 1

    def run(self) -> None:
        table: tuple[str | int, ...] = ()
        self._skip(_BLANK)
        while self._at < len(self._text):
            start = self._at
            if self._text.startswith("[", start):
                table = self._header()
                self._meet(table, start)
            else:
                self._pair(table)
            self._skip(_BLANK)

    def _header(self) -> tuple[str | int, ...]:
        """A table's header: the path of the table, with the number of each element of an array of tables."""
        many = self._text.startswith("[[", self._at)
        self._at += 2 if many else 1
        key = self._key()
        self._at += 2 if many else 1
        path: tuple[str | int, ...] = ()
        for index, part in enumerate(key):
            path += (part,)
            if many and index == len(key) - 1:
                self._tables[path] = self._tables.get(path, -1) + 1
            if path in self._tables:
                path += (self._tables[path],)
        return path

    def _pair(self, table: tuple[str | int, ...]) -> None:
        """`key = value`."""
        start = self._at
        path = (*table, *self._key())[:_DEEP]
        self._at += 1
        self._skip(_SPACE)
        self._meet(path, start)
        self._value(path)

    def _key(self) -> list[str]:
        """A dotted key, and the space around it."""
        parts: list[str] = []
        while True:
            self._skip(_SPACE)
            quoted = self._text[self._at] in "\"'"
            part = self._skip(_STRING if quoted else _BARE)
            if len(parts) < _DEEP:
                parts.append(tomllib.loads(f"key = {part}")["key"] if quoted else part)
            self._skip(_SPACE)
            if not self._text.startswith(".", self._at):
                return parts
            self._at += 1

    def _value(self, path: tuple[str | int, ...]) -> None:
        first = self._text[self._at]
        if first == "[":
            self._array(path)
        elif first == "{":
            self._inline_table(path)
        elif first in "\"'":
            self._skip(_STRING)
        else:
            self._skip(_PLAIN)

    def _array(self, path: tuple[str | int, ...]) -> None:
        self._at += 1
        index = 0
        self._skip(_BLANK)
        while self._text[self._at] != "]":
            element = (*path, index)[:_DEEP]
            self._meet(element, self._at)
            self._value(element)
            self._skip(_BLANK)
            if self._text[self._at] == ",":
                self._at += 1
                self._skip(_BLANK)
            index += 1
        self._at += 1

    def _inline_table(self, path: tuple[str | int, ...]) -> None:
        self._at += 1
        self._skip(_BLANK)
        while self._text[self._at] != "}":
            self._pair(path)
            self._skip(_BLANK)
            if self._text[self._at] == ",":
                self._at += 1
                self._skip(_BLANK)
        self._at += 1

    def _meet(self, path: tuple[str | int, ...], start: int) -> None:
        """Something at `path` begins at `start`: remember it if more of the wanted path is met than before."""
        common = 0
        for one, other in zip(path, self._wanted, strict=False):
            if one != other or type(one) is not type(other):
                break
            common += 1
        if common > self._met:
            self._met, self._where = common, start

    def _skip(self, pattern: re.Pattern[str]) -> str:
        found = pattern.match(self._text, self._at)
        if found is None:
            raise ValueError(f"no TOML at character {self._at}")
        self._at = found.end()
        return found[0]


def check_file(data: bytes, config: AgentConfig, ceilings: LimitCeilings) -> None:
    """Refuse an agent.toml, read as `config`, that asks for too much. Raises `above_ceiling` with the lines."""
    if not (found := excesses(config, ceilings)):
        return
    text = data.decode()
    told = sorted((line_of(text, [each.key]), each.message()) for each in found)
    why = "; ".join(f"agent.toml, line {line}: {words}" for line, words in told)
    raise HiveError("above_ceiling", why, hint=remedy(found))


def check_settings(config: AgentConfig, ceilings: LimitCeilings) -> None:
    """Refuse settings that came without a file of which a line could be named. Raises HiveError `above_ceiling`."""
    if found := excesses(config, ceilings):
        raise above_ceiling(found)
