"""The words and calls of an agent's model, followed live and formatted as lines for a terminal."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal, NamedTuple

import click

from hive_core.cli.client import Client, agent_path
from hive_core.cli.errors import Failure
from hive_core.cli.events import parse
from hive_core.cli.output import coloured_agent, coloured_state, dim
from hive_core.text import escaped_first_line, escaped_line, visible

Level = Literal["quiet", "normal", "verbose"]
"""`quiet`: messages and what the model says; `normal`: tool calls too; `verbose`: results and usage too."""

_LEAST_WIDTH = 40
_WIDTH = 160
"""Columns of a tool call where the output is no terminal."""
_RESULT_LINES = 12
_TELLING = ("command", "file_path", "path", "pattern", "url", "query", "to", "description", "prompt")
"""Inputs of tools that say most about a call, the first that is there."""
_RETRY_SECONDS = 1.0
_GONE = frozenset({"harness_unreachable", "not_running", "too_many_followers"})


class Happening(NamedTuple):
    """One event of a harness: `now` (how things stand, when the stream begins), `entry`, `turn`, `state`, …"""

    kind: str
    data: Mapping[str, Any]


def follow_agent(
    client: Client, name: str, on_outage: Callable[[str], None] = lambda _: None, *, patient: bool = True
) -> Iterator[Happening]:
    """Yield what happens in the agent's harness from now on, also over restarts of the harness and the daemon.

    Ends only if not `patient`: when the harness cannot be reached any more. Raises Failure if it cannot be reached at
    the beginning.
    """
    last_id: str | None = None
    lost = reached = False
    while True:
        headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": last_id} if last_id is not None else {})
        try:
            with client.stream(agent_path(name, "control/events"), None, headers) as lines:
                if lost:
                    on_outage(f"connected to {name} again")
                reached, lost = True, False
                for item in parse(lines):
                    last_id = item.last_id if item.last_id is not None else last_id
                    if (data := _object(item.data)) is not None:
                        yield Happening(item.event, data)
        except Failure as failure:
            if not (reached and (failure.transient or failure.code in _GONE)):
                raise
            if not patient:
                return
            if not lost:
                on_outage(f"{failure.message}; trying again (Ctrl-C ends this)")
                lost = True
        time.sleep(_RETRY_SECONDS if lost else 0.0)


def _object(text: str) -> Mapping[str, Any] | None:
    try:
        found = json.loads(text) if text else None
    except (ValueError, RecursionError):
        return None  # An agent may write anything there.
    return found if isinstance(found, dict) else None


def entries_of(happening: Happening) -> list[Mapping[str, Any]]:
    """Return the entries of transcripts that an event brings, the oldest first."""
    if happening.kind == "entry":
        return [happening.data]
    if happening.kind != "now":
        return []
    latest = happening.data.get("latest")
    found = latest.get("entries") if isinstance(latest, dict) else None
    return [entry for entry in found if isinstance(entry, dict)] if isinstance(found, list) else []


def entry_lines(entry: Mapping[str, Any], level: Level, width: int | None) -> list[str]:
    """Format one entry of a transcript; no lines if it is not shown at this level. All of it is the agent's words."""
    kind, text = entry.get("kind"), str(entry.get("text") or "")
    room = max(_LEAST_WIDTH, width or _WIDTH)
    if kind == "message":
        head = f"{coloured_agent(_word(entry.get('sender')))} {dim('#' + _word(entry.get('id')))}"
        return [f"{head} {line}" if not number else f"  {line}" for number, line in enumerate(_lines(text))]
    if kind == "text":
        return [f"  {line}" for line in _lines(text)]
    if kind == "notice" and level != "quiet":
        colour = {"error": "red", "warning": "yellow"}.get(str(entry.get("level")))
        return [click.style(_cut(f"! {escaped_line(text)}", room), fg=colour)]
    if kind == "call" and level != "quiet":
        return [_call(entry, room)]
    if kind == "result":
        return _result(entry, text, level, room)
    if kind == "usage" and level == "verbose":
        counts = ", ".join(f"{key} {_word(entry.get(key))}" for key in ("input", "output", "cache_read"))
        return [dim(_cut(f"  tokens: {counts}", room))]
    if kind == "session" and level == "verbose":
        return [dim("  a new conversation begins" if entry.get("fresh") else "  the conversation goes on")]
    return []


def _call(entry: Mapping[str, Any], room: int) -> str:
    name = _word(entry.get("name"))
    given = entry.get("input")
    if isinstance(given, dict):
        told = next((str(given[key]) for key in _TELLING if given.get(key)), None)
        given = told if told is not None else json.dumps(given) if given else ""
    return _cut(f"> {name} {escaped_first_line(str(given or ''))}".rstrip(), room)


def _result(entry: Mapping[str, Any], text: str, level: Level, room: int) -> list[str]:
    failed = entry.get("is_error") is True
    if level == "verbose":
        lines = [_cut(f"    {line}", room) for line in _lines(text)]
        hidden = len(lines) - _RESULT_LINES
        shown = lines[:_RESULT_LINES] + ([f"    … {hidden} more lines"] if hidden > 0 else [])
        return [coloured_state("failed", line) if failed else dim(line) for line in shown if line.strip()]
    if failed and level == "normal":
        return [coloured_state("failed", _cut(f"  failed: {escaped_first_line(text)}", room))]
    return []


def turn_line(turn: Mapping[str, Any]) -> str:
    """Format one turn as a line: its number, state, senders, use and failure."""
    state = _word(turn.get("state"))
    senders = turn.get("senders")
    by = ", ".join(_word(sender) for sender in senders[:3]) if isinstance(senders, list) else ""
    parts = [f"turn {_word(turn.get('id'))}", coloured_state("deployed" if state == "ok" else state, state)]
    parts += [f"for {by}" if by else "", f"{_word(turn.get('tool_calls'))} calls"]
    detail = escaped_first_line(str(turn.get("detail") or ""))
    return "  ".join(part for part in [*parts, detail] if part)


def _lines(text: str) -> list[str]:
    return visible(text).split("\n")


def _word(value: object) -> str:
    return escaped_line(str(value if value is not None else ""))[:60]


def _cut(text: str, room: int) -> str:
    return text if len(text) <= room else text[: room - 1] + "…"
