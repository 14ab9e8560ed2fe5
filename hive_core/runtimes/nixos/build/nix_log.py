"""What Nix says while it builds (`--log-format internal-json`), as lines for people. Pure.

Each record is a line `@nix {...}`: activities start and stop, and have results while they last; messages stand alone.
Kinds of activities and results are those of Nix's `src/libutil/logging.hh`; what is not known here, or no record at
all, is passed over or passed on as it is. All of it may be an agent's doing: lines are cut, what is said of a build is
bounded, and nothing in it can end a terminal's line or colour it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from hive_core.runtimes.nixos.commands import plain

RECORD = "@nix "
SAID_CHARACTERS = 8 * 1024 * 1024
"""So much of a build is said at most; after that only errors are kept."""
ERROR_CHARACTERS = 8_000
_LINE_CHARACTERS = 2_000
_SHORT = 64
"""A line counts for at least so many characters: it takes room of its own, however short it is."""
_ERRORS = 10
_ACTIVITIES = 10_000
"""Most activities at one time that are followed."""

_UNKNOWN, _FILE_TRANSFER, _COPY_PATHS, _BUILDS, _BUILD, _SUBSTITUTE, _FETCH_TREE = 0, 101, 103, 104, 105, 108, 112
_LOG_LINE, _PROGRESS = 101, 105
_ERROR, _INFO = 0, 3
_TRACE = "trace:"
"""Begins what `builtins.trace` says, on the level of errors."""
_NOT_WORTH_SAYING = (".narinfo", "/nix-cache-info", ".nar", ".nar.xz", ".nar.zst", ".nar.bz2", ".nar.gz")
"""Ends of addresses that belong to downloads which are told of otherwise."""


class NixLogFormatter:
    """Reads one build's records. `say` gets each line; `errors` holds what went wrong, in Nix's own words."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._left = SAID_CHARACTERS
        self._names: dict[int, str] = {}
        """Of builds that run, by their activity."""
        self._counters: dict[int, int] = {}
        """Activities that count builds or downloads, and which of them."""
        self._counts: dict[int, str] = {}
        self._begun: list[tuple[int, str]] = []
        """Told when the counts, which come after, include it."""
        self.errors: list[str] = []
        self.said = ""
        """The last line that was no record: what a program that is not Nix had to say."""

    def feed(self, line: str) -> None:
        """Take one line, without its end. Never raises."""
        record = _record(line)
        if record is None:
            self._flush()
            if text := _cut(line):
                self.said = text
                self._tell(text)
            return
        action = record.get("action")
        if action == "start":
            self._start(record)
        elif action == "stop":
            self._flush()
            self._names.pop(_number(record.get("id")), None)
            self._counters.pop(_number(record.get("id")), None)
        elif action == "result":
            self._result(record)
        elif action == "msg":
            self._flush()
            self._message(record)

    def finish(self) -> None:
        """There are no more lines."""
        self._flush()

    @property
    def failure(self) -> str:
        """Why the build failed, as far as Nix has said so; empty if it has not."""
        return _ends("\n".join(self.errors))

    def _start(self, record: dict[str, Any]) -> None:
        kind, number = record.get("type"), _number(record.get("id"))
        if kind in (_COPY_PATHS, _BUILDS) and len(self._counters) < _ACTIVITIES:
            self._counters[number] = kind
            return
        text = _cut(_text(record.get("text")))
        subject = _name_of(_field(record, 0))
        if kind == _BUILD and subject:
            if len(self._names) < _ACTIVITIES:
                self._names[number] = subject
            self._begin(_BUILDS, f"building {subject}")
        elif kind == _SUBSTITUTE and subject:
            source = _cut(_text(_field(record, 1)))
            self._begin(_COPY_PATHS, f"downloading {subject}" + (f" from {source}" if source else ""))
        elif kind == _FILE_TRANSFER:
            address = _cut(_text(_field(record, 0)))
            if address and not address.endswith(_NOT_WORTH_SAYING):
                self._tell(f"downloading {address}")
        elif kind == _FETCH_TREE or (kind == _UNKNOWN and text.startswith("fetching ")):
            self._tell(text)

    def _result(self, record: dict[str, Any]) -> None:
        kind, number = record.get("type"), _number(record.get("id"))
        if kind == _LOG_LINE and self._left > 0:
            self._flush()
            text = _cut(_text(_field(record, 0)))
            name = self._names.get(number, "")
            self._tell(f"{name}> {text}" if name else text)
        elif kind == _PROGRESS and number in self._counters:
            done, expected = _number(_field(record, 0)), _number(_field(record, 1))
            left = max(expected - done, 0)
            counted = self._counters[number]
            self._counts[counted] = f"{left} left of {expected}" if expected > 0 else ""
            self._flush(counted)

    def _message(self, record: dict[str, Any]) -> None:
        level = record.get("level")
        text = plain(_text(record.get("msg"))).strip()
        if level == _ERROR and not text.startswith(_TRACE):
            text = _ends(text)
            if text and text not in self.errors and len(self.errors) < _ERRORS:
                self.errors.append(text)
        elif isinstance(level, int) and level <= _INFO:
            for line in text.split("\n"):
                self._tell(_cut(line))

    def _begin(self, counted: int, text: str) -> None:
        self._begun.append((counted, text))
        if len(self._begun) >= _ERRORS:
            self._flush()

    def _flush(self, only: int | None = None) -> None:
        begun = self._begun
        self._begun = [] if only is None else [entry for entry in begun if entry[0] != only]
        for counted, text in begun:
            if only in (None, counted):
                count = self._counts.get(counted, "")
                self._tell(f"{text} ({count})" if count else text)

    def _tell(self, text: str) -> None:
        if self._left <= 0:
            return
        self._left -= max(len(text), _SHORT)
        self._say(text)
        if self._left <= 0:
            self._say("the build says more than is kept: the rest is left out")


def _record(line: str) -> dict[str, Any] | None:
    if not line.startswith(RECORD):
        return None
    try:
        found = json.loads(line[len(RECORD) :])
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _field(record: dict[str, Any], index: int) -> object:
    fields: Sequence[object] | object = record.get("fields")
    return fields[index] if isinstance(fields, list) and len(fields) > index else None


def _number(found: object) -> int:
    return found if isinstance(found, int) else -1


def _text(found: object) -> str:
    return found if isinstance(found, str) else ""


def _cut(text: str) -> str:
    """As one line that is not too long."""
    line = plain(text[: 2 * _LINE_CHARACTERS]).replace("\n", " ").rstrip()
    return line if len(line) <= _LINE_CHARACTERS else line[:_LINE_CHARACTERS] + " [...]"


def _ends(text: str) -> str:
    """Beginning and end of a long text: newer versions of Nix say what is wrong at the end of where it is."""
    if len(text) <= ERROR_CHARACTERS:
        return text
    return f"{text[: ERROR_CHARACTERS // 4]}\n[...]\n{text[-ERROR_CHARACTERS // 2 :]}"


def _name_of(path: object) -> str:
    """What a store path or a derivation is of: its name without directory, hash and `.drv`."""
    name = _cut(_text(path)).rpartition("/")[2].removesuffix(".drv")
    head, dash, rest = name.partition("-")
    return rest if dash and len(head) == 32 else name
