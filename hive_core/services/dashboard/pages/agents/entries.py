"""Entries of transcripts, as a harness tells them, brought into the form in which they are shown. No I/O.

They are an agent's words: any field may be missing or of another kind.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hive_core.text import one_line, visible

MARK = re.compile(r"[0-9]{1,9}\.[0-9]{1,9}")
SHOWN_OUTPUT = 4_000
SHOWN_LETTER = 6_000
_DIGEST = 160
_TELLING = ("command", "file_path", "path", "pattern", "url", "query", "to", "description", "prompt", "text", "name")
"""Inputs of tools that say most about a call, the first that is there."""
_HIVE = re.compile(r"^(mcp__hive__|hive_)")
_MOST_INPUTS = 50
_LONGEST_DIFF = 20_000
"""Characters on both sides together: comparing takes more than linear time."""


@dataclass(frozen=True)
class Cut:
    """The beginning of a text. `whole` is its length, of which the harness may have kept `kept`."""

    text: str
    kept: int
    whole: int

    @property
    def is_cut(self) -> bool:
        """True if there is more that can be asked for."""
        return self.kept > len(self.text)


def cut(text: str, most: int, whole: int | None = None) -> Cut:
    """Return the beginning of `text`, which may be the beginning of a text of `whole` characters."""
    return Cut(text[:most], len(text), max(len(text), whole or 0))


def mark_of(entry: Mapping[str, Any]) -> str:
    """Return what tells an entry from the others of its turn; empty if it tells nothing."""
    found = f"{entry.get('attempt')}.{entry.get('n')}"
    return found if MARK.fullmatch(found) else ""


def call_id(turn: int, call: object) -> str:
    """Return the id of the element of a tool call. Ids of calls are an agent's words."""
    return f"c{turn}-{hashlib.sha256(str(call).encode(errors='replace')).hexdigest()[:16]}"


def words(entry: Mapping[str, Any], field: str) -> str:
    """Return a text of an entry; empty if it has none."""
    found = entry.get(field)
    return found if isinstance(found, str) else ""


def number(entry: Mapping[str, Any], field: str) -> int:
    """Return a number of an entry; 0 if it has none."""
    found = entry.get(field)
    return found if isinstance(found, int) and not isinstance(found, bool) else 0


def tool_name(entry: Mapping[str, Any]) -> str:
    """Return the name of a tool, without that of the hive's server before it."""
    return one_line(_HIVE.sub("", words(entry, "name")), 80) or "a tool"


def inputs(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return the named inputs of a call; none if it has another kind of input."""
    found = entry.get("input")
    return found if isinstance(found, dict) else {}


def sent_message(entry: Mapping[str, Any]) -> tuple[str, str] | None:
    """Return to whom a call sends a message, and its text; None for every other call."""
    given = inputs(entry)
    to, body = given.get("to"), given.get("body")
    is_send = _HIVE.sub("", words(entry, "name")) == "send"
    return (to, body) if is_send and isinstance(to, str) and isinstance(body, str) else None


def digest(entry: Mapping[str, Any]) -> str:
    """Return the line that tells a call from others: a command, a path, a pattern."""
    given = inputs(entry)
    for field in _TELLING:
        found = given.get(field)
        if isinstance(found, str) and found.strip():
            return one_line(found, _DIGEST)
    rest = entry.get("input")
    return one_line(rest if isinstance(rest, str) else _json(rest), _DIGEST) if rest else ""


def input_fields(entry: Mapping[str, Any]) -> list[tuple[str, Cut]]:
    """Return the inputs of a call by their names, each as text."""
    given = inputs(entry)
    if not given:
        rest = entry.get("input")
        return [("input", cut(rest if isinstance(rest, str) else _json(rest), SHOWN_OUTPUT))] if rest else []
    return [
        (one_line(str(name), 80), cut(value if isinstance(value, str) else _json(value), SHOWN_OUTPUT))
        for name, value in list(given.items())[:_MOST_INPUTS]
    ]


def whole_text(entry: Mapping[str, Any]) -> str:
    """Return all of what an entry says, for a window of its own."""
    if entry.get("kind") == "call":
        return "\n\n".join(
            f"{name}:\n{value if isinstance(value, str) else _json(value)}"
            for name, value in (inputs(entry) or {"input": entry.get("input")}).items()
        )
    return words(entry, "text")


@dataclass(frozen=True)
class FileEdit:
    """One changed place of a file, as an editing tool was asked for it: the old lines and the new ones."""

    path: str
    lines: list[tuple[str, str]]
    """`-`, `+` or a space, and the line."""


def change_of(entry: Mapping[str, Any]) -> FileEdit | None:
    """Return what a tool such as `Edit` or `Write` was asked to change; None for every other call."""
    given = inputs(entry)
    path = given.get("file_path") or given.get("path")
    old, new = given.get("old_string"), given.get("new_string")
    if new is None and words(entry, "name") in ("Write", "write_file", "write"):
        old, new = "", given.get("content")
    if not (isinstance(path, str) and isinstance(old, str) and isinstance(new, str)):
        return None
    if len(old) + len(new) > _LONGEST_DIFF:
        return None
    before, after = old.split("\n") if old else [], new.split("\n")
    lines = (
        [
            (line[0], visible(line[2:]))
            for line in difflib.ndiff(before, after, charjunk=None)
            if not line.startswith("?")
        ]
        if len(before) + len(after) <= 400
        else [*(("-", visible(line)) for line in before), *(("+", visible(line)) for line in after)]
    )
    return FileEdit(one_line(path, 300), lines)


def _json(value: object) -> str:
    try:
        return json.dumps(value, indent=2, ensure_ascii=False)
    except (ValueError, RecursionError):
        return "(cannot be shown)"
