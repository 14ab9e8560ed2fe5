"""Client of the daemon's event stream, and its events formatted as lines."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from textwrap import wrap
from typing import Any

from hive_core.cli.client import Client
from hive_core.cli.errors import Failure
from hive_core.cli.output import clock, coloured_agent, coloured_state, dim, quoted
from hive_core.protocol.names import WORK_WORDS
from hive_core.text import escaped_line, visible

_NAME = 9
_MOST_SAID = 200
_LEAST_WRAPPED = 24
_QUIET = frozenset({"message.delivered", "message.acknowledged", "question.changed"})
"""Events that are routine or that a message announces too."""


def lines(event: Mapping[str, Any], width: int | None, every: bool) -> list[str]:
    """Format `event` as lines, wrapped at `width` columns if given; routine events only if `every`."""
    kind, data = str(event.get("kind")), event.get("data") or {}
    if kind in _QUIET and not (every or data.get("redelivered")):
        return []
    time = dim(clock(event.get("at")))
    if kind == "message.sent":
        return _sent(time, data, width)
    return [f"{time} {_plain(kind, data)}"]


def _network(data: Mapping[str, Any]) -> str:
    what = str(data.get("what"))
    words = {
        "allow": "may reach",
        "deny": "may not reach",
        "ended": "has no rule any more for",
        "asked": "asks to reach",
        "denied": "is denied its request for",
        "refused": "was refused",
    }
    if what == "open":
        said = coloured_state("failed", "may reach everything that is public")
    else:
        # A host that was refused is what the agent asked for, and may be any text.
        host = quoted(data.get("host"), "what was open" if what == "ended" else "other hosts")
        said = f"{dim(words.get(what, escaped_line(what)))} {host}"
    count = data.get("count") or 0
    times = f" {dim(f'and {count - 1} more')}" if isinstance(count, int) and count > 1 else ""
    by = f" {dim('by ' + escaped_line(str(data['by'])))}" if data.get("by") else ""
    return f"{said}{times}{by}"


def _sent(time: str, data: Mapping[str, Any], width: int | None) -> list[str]:
    sender, to = (escaped_line(str(data.get(key))) for key in ("sender", "to"))
    number = f"#{data.get('id')}"
    if data.get("reply_to") is not None:
        number += f" answers #{data['reply_to']}"
    shown_to = "everyone" if to == "*" else to
    head = f"{time} {_name(sender)} → {coloured_agent(to, shown_to.ljust(_NAME))} {dim(number)}"
    before = 9 + _NAME + 3 + _NAME + 1 + len(number)
    body = visible(str(data.get("body"))).split("\n")
    if len(body) == 1 and (width is None or before + 1 + len(body[0]) <= width):
        return [f"{head} {body[0]}"]
    room = width - 12 if width is not None else 0
    wrapped = [piece for line in body for piece in (_wrapped(line, room) if room >= _LEAST_WRAPPED else [line])]
    return [head, *(f"{' ' * 11}{piece}".rstrip() for piece in wrapped)]


def _wrapped(line: str, room: int) -> list[str]:
    return wrap(line, room, replace_whitespace=False, drop_whitespace=False) or [""]


def _plain(kind: str, data: Mapping[str, Any]) -> str:
    agent = escaped_line(str(data.get("agent", "")))
    if kind == "agent.state":
        return f"{_name(agent)} {_word(data.get('state'))}{_said(data.get('detail'))}"
    if kind == "agent.lifecycle":
        return f"{_name(agent)} {dim('process')} {_word(data.get('lifecycle'))}{_why(data.get('cause'))}"
    if kind == "agent.status":
        return f"{_name(agent)} {dim('is at')} {quoted(data.get('status'), 'nothing')}"
    if kind == "question.changed":
        return f"{_name(agent)} {_question(data)}"
    if kind == "proposal.changed":
        return f"{_name(agent)} {_proposal(data)}"
    if kind == "work.changed":
        return _work(data)
    if kind == "network.changed":
        return f"{_name(agent)} {_network(data)}"
    if kind == "events.lost":
        return coloured_state(
            "failed", f"{data.get('count')} events are not shown: they came faster than they were read"
        )
    if kind.startswith("message."):
        ids = ", ".join(f"#{number}" for number in data.get("ids", []))
        words = {"delivered": "got", "acknowledged": "handled", "released": "gave back"}
        verb = words.get(kind.removeprefix("message."), kind)
        again = " again" if data.get("redelivered") else ""
        return f"{_name(agent)} {dim(f'{verb} {escaped_line(ids)}{again}')}"
    return escaped_line(f"{agent} {kind}".strip())


def _question(data: Mapping[str, Any]) -> str:
    state, by = escaped_line(str(data.get("state"))), escaped_line(str(data.get("by")))
    word = {"open": "asks", "answered": f"answered by {by}"}.get(state, state)
    number = escaped_line(str(data.get("id")))
    return f"{dim(f'question {number}')} {word}{_said(data.get('text'))}"


def _proposal(data: Mapping[str, Any]) -> str:
    what = "proposal" if data.get("kind") == "config" else escaped_line(str(data.get("kind")))
    by = escaped_line(str(data.get("by")))
    state = str(data.get("state"))
    word = coloured_state(state, "proposed" if state == "proposal" else escaped_line(state))
    number = escaped_line(str(data.get("number")))
    return f"{dim(f'{what} {number}')} {word}  {by}{_said(data.get('note'))}"


def _work(data: Mapping[str, Any]) -> str:
    name = escaped_line(f"{data.get('repo')}/{data.get('number')}")
    state, by = str(data.get("state")), escaped_line(str(data.get("by")))
    return (
        f"{_name(by)} {dim(f'work {name}')} {coloured_state(state, WORK_WORDS.get(state, escaped_line(state)))}"
        + _said(data.get("title"))
    )


def _name(name: str) -> str:
    return coloured_agent(name, name.rjust(_NAME))


def _word(word: object) -> str:
    return coloured_state(escaped_line(str(word)))


def _said(text: object) -> str:
    """Format what an agent or a person has said, in quotes."""
    return f"  {quoted(text, most=_MOST_SAID)}" if text else ""


def _why(text: object) -> str:
    return f"  {escaped_line(str(text))}" if text else ""


_FIRST_RETRY_SECONDS = 0.1
_LAST_RETRY_SECONDS = 2.0


@dataclass(frozen=True)
class Item:
    """One item of a stream. `data` is empty if it only sets the id to continue from."""

    last_id: str | None
    data: str
    event: str = ""


def parse(lines: Iterable[bytes]) -> Iterator[Item]:
    """Parse a `text/event-stream`; comments, unknown fields and an incomplete last item are skipped."""
    last_id: str | None = None
    data: list[str] = []
    event = ""
    changed = False
    for raw in lines:
        line = raw.decode("utf-8", "replace").rstrip("\r\n")
        if not line:
            if data or changed:
                yield Item(last_id, "\n".join(data), event)
            data, event, changed = [], "", False
            continue
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "data":
            data.append(value)
        elif field == "event":
            event = value
        elif field == "id" and "\0" not in value:
            last_id, changed = value, True


def follow(client: Client, after: int | None, on_outage: Callable[[str], None]) -> Iterator[dict[str, Any]]:
    """Yield every event from now on (or after the event `after`), without end.

    If the connection breaks after it was open once, connect again; `on_outage` gets a text at the begin and the end
    of the outage.
    """
    last_id: str | None = None
    reached = False
    lost = False
    pause = _FIRST_RETRY_SECONDS
    while True:
        headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": last_id} if last_id is not None else {})
        query = {"after": after} if last_id is None else None
        try:
            with client.stream("/v1/events", query, headers) as lines:
                if lost:
                    on_outage("connected to the daemon again")
                reached, lost, pause = True, False, _FIRST_RETRY_SECONDS
                for item in parse(lines):
                    last_id = item.last_id if item.last_id is not None else last_id
                    if item.data:
                        yield _event(item.data)
        except Failure as failure:
            if not (reached and failure.transient):
                raise
        if not lost:
            on_outage("lost the connection to the daemon; trying to connect again (Ctrl-C ends this)")
            lost = True
        time.sleep(pause)
        pause = min(pause * 2, _LAST_RETRY_SECONDS)


def _event(data: str) -> dict[str, Any]:
    try:
        event = json.loads(data)
    except ValueError:
        event = None
    if not isinstance(event, dict) or not isinstance(event.get("data"), dict):
        raise Failure(
            "bad_answer",
            "the daemon sent an invalid event",
            hint="check that hive-c0re and the daemon have the same version",
        )
    return event
