"""On which line of a TOML document a value stands. tomllib reads values and keeps no positions.

The document must have been read by tomllib without an error: what is scanned here is known to be well-formed, so
a few patterns are enough.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from contextlib import suppress

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
