"""Events as lines for people: who told whom what, and who does what."""

from __future__ import annotations

from collections.abc import Mapping
from textwrap import wrap
from typing import Any

from hive_core.cli import colours
from hive_core.cli.times import clock
from hive_core.cli.untrusted import first_line, one_line, visible

_NAME = 9
_LEAST_WRAPPED = 24
_QUIET = frozenset({"message.delivered", "message.acknowledged", "question.changed"})
"""Routine, or told by a message as well."""


def lines(event: Mapping[str, Any], width: int | None, every: bool) -> list[str]:
    """`event` as lines, wrapped at `width` columns if there are any; routine events only if `every` one is wanted."""
    kind, data = str(event.get("kind")), event.get("data") or {}
    if kind in _QUIET and not (every or data.get("redelivered")):
        return []
    time = colours.dim(clock(event.get("at")))
    if kind == "message.sent":
        return _sent(time, data, width)
    return [f"{time} {_plain(kind, data)}"]


def _sent(time: str, data: Mapping[str, Any], width: int | None) -> list[str]:
    sender, to = (one_line(str(data.get(key))) for key in ("sender", "to"))
    number = f"#{data.get('id')}"
    if data.get("reply_to") is not None:
        number += f" answers #{data['reply_to']}"
    shown_to = "everyone" if to == "*" else to
    head = f"{time} {_name(sender)} → {colours.agent(to, shown_to.ljust(_NAME))} {colours.dim(number)}"
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
    agent = one_line(str(data.get("agent", "")))
    if kind == "agent.state":
        return f"{_name(agent)} {_word(data.get('state'))}{_why(data.get('detail'))}"
    if kind == "agent.lifecycle":
        return f"{_name(agent)} {colours.dim('process')} {_word(data.get('lifecycle'))}{_why(data.get('cause'))}"
    if kind == "agent.status":
        return f"{_name(agent)} {colours.dim('is at')} {one_line(str(data.get('status') or 'nothing'))}"
    if kind == "question.changed":
        return f"{_name(agent)} {_question(data)}"
    if kind == "proposal.changed":
        return f"{_name(agent)} {_proposal(data)}"
    if kind == "events.lost":
        return colours.state("failed", f"{data.get('count')} events were too fast for this reader and are not shown")
    if kind.startswith("message."):
        ids = ", ".join(f"#{number}" for number in data.get("ids", []))
        words = {"delivered": "got", "acknowledged": "handled", "released": "gave back"}
        verb = words.get(kind.removeprefix("message."), kind)
        again = " again" if data.get("redelivered") else ""
        return f"{_name(agent)} {colours.dim(f'{verb} {one_line(ids)}{again}')}"
    return one_line(f"{agent} {kind}".strip())


def _question(data: Mapping[str, Any]) -> str:
    state, by = one_line(str(data.get("state"))), one_line(str(data.get("by")))
    word = {"open": "asks", "answered": f"answered by {by}"}.get(state, state)
    number = one_line(str(data.get("id")))
    return f"{colours.dim(f'question {number}')} {word}  {first_line(str(data.get('text') or ''))}"


def _proposal(data: Mapping[str, Any]) -> str:
    what = "proposal" if data.get("kind") == "config" else one_line(str(data.get("kind")))
    note = first_line(str(data.get("note") or ""))
    by = one_line(str(data.get("by")))
    state = str(data.get("state"))
    word = colours.state(state, "proposed" if state == "proposal" else one_line(state))
    number = one_line(str(data.get("number")))
    return f"{colours.dim(f'{what} {number}')} {word}  {by}{': ' + note if note else ''}"


def _name(name: str) -> str:
    return colours.agent(name, name.rjust(_NAME))


def _word(word: object) -> str:
    return colours.state(one_line(str(word)))


def _why(text: object) -> str:
    return f"  {one_line(str(text))}" if text else ""
