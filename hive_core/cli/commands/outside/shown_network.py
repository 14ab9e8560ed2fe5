"""The network of agents for people: rules, requests, and what was refused."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

import click

from hive_core.cli.output import (
    Column,
    ago,
    coloured_agent,
    describe_network,
    dim,
    moment,
    now,
    quoted,
    render,
    width,
)
from hive_core.text import escaped_line, format_bytes

Answer = dict[str, Any]

_ALL = "*"
_NOTE = 200
_HOST = 300
AGENT_COLUMNS = (
    Column("AGENT", 9, style=coloured_agent),
    Column("NETWORK", 8),
    Column("ALLOWED", 6, right=True),
    Column("DENIED", 4, right=True),
    Column("REFUSED", 7, right=True),
    Column("CONNECTIONS", 5, right=True),
    Column("TODAY", 3),
)
RULE_COLUMNS = (
    Column("RULE", 8),
    Column("HOST", 9),
    Column("FROM", 7),
    Column("UNTIL", 6),
    Column("NOTE", 5),
)
SERVICE_COLUMNS = (
    Column("SERVICE", 7),
    Column("IN THE AGENT", 6),
    Column("ON THE HOST", 8),
)
REFUSED_COLUMNS = (
    Column("REFUSED", 9),
    Column("TIMES", 8, right=True),
    Column("LAST", 6),
    Column("WHY", 7),
)


def overview_lines(answer: Answer) -> Iterator[str]:
    """Yield the lines of `net` without an agent."""
    agents: list[Answer] = answer.get("agents", [])
    for each in agents:
        yield from open_lines(each)
    if agents:
        yield from render(AGENT_COLUMNS, [_agent_row(each) for each in agents], width())
    rules: list[Answer] = answer.get("rules", [])
    if rules:
        yield ""
        yield from _rule_lines(rules)
    yield from request_lines(answer)


def agent_lines(answer: Answer) -> Iterator[str]:
    """Yield the lines of `net AGENT`."""
    name = _word(answer, "agent")
    yield from open_lines(answer)
    if answer.get("network") == "host":
        yield f"{coloured_agent(name)} has the host's network: no rule holds for it"
        if answer.get("unsealed") or answer.get("network_implied"):
            yield f"network: {describe_network(answer)}"
    traffic = answer.get("traffic") or {}
    yield f"{coloured_agent(name)}: {_count(traffic.get('connections'), 'connection')} now, today {_bytes(traffic)}"
    if rules := answer.get("rules", []):
        yield ""
        yield from _rule_lines(rules)
    elif answer.get("network") != "host":
        yield f'no rules: {name} reaches no host; allow one with "hive-c0re net {name} allow HOST"'
    if services := answer.get("services", []):
        yield ""
        yield from render(SERVICE_COLUMNS, [_service_row(each) for each in services], width())
    if refused := answer.get("refused", []):
        yield ""
        yield from render(REFUSED_COLUMNS, [_refused_row(each, now()) for each in refused], width())
    yield from request_lines(answer)


def open_lines(summary: Answer) -> Iterator[str]:
    """Yield a warning if an agent reaches everything that is public."""
    if summary.get("open") and summary.get("network") != "host":
        name = _word(summary, "agent")
        until = moment(summary.get("open_until"))
        text = f"OPEN: {name} reaches everything that is public{f', until {until}' if until else ''}"
        yield click.style(text, fg="bright_red", bold=True) + f'; end it with "hive-c0re net {name} close"'


def request_lines(answer: Answer) -> Iterator[str]:
    """Yield the requests that are open, with how to decide on them."""
    at = now()
    for each in answer.get("requests", []):
        name, number = _word(each, "agent"), _word(each, "id")
        yield ""
        asked = dim(f"asked {ago(each.get('asked_at'), at)}")
        hours = f"{float(each.get('hours') or 0):g} h"
        yield f"request {number} of {coloured_agent(name)}: {_word(each, 'host')} for {hours}  {asked}"
        yield f"  {quoted(each.get('why'))}"
        if each.get("waits_for") == "operator":
            yield f"  hive-c0re net {name} approve {number}, or: hive-c0re net {name} deny-request {number} --note TEXT"
        else:
            yield f"  waits for the {_word(each, 'waits_for')}; you can decide, too"


def _agent_row(summary: Answer) -> list[str]:
    traffic = summary.get("traffic") or {}
    state = "host" if summary.get("network") == "host" else "OPEN" if summary.get("open") else "sealed"
    if summary.get("unsealed"):
        state = "NOT SEALED"
    counts = [_word(summary, key) for key in ("allowed", "denied", "refusals")]
    return [_word(summary, "agent"), state, *counts, _word(traffic, "connections"), _bytes(traffic)]


def _rule_lines(rules: list[Answer]) -> list[str]:
    rows = [
        [
            _word(rule, "effect"),
            _word(rule, "host") or "everything public",
            _origin(rule),
            moment(rule.get("ends_at")) or "-",
            quoted(rule.get("note"), otherwise="", most=_NOTE),
        ]
        for rule in rules
    ]
    return render(RULE_COLUMNS, rows, width())


def _origin(rule: Answer) -> str:
    origin = _word(rule, "origin")
    whom = " for all" if rule.get("agent") == _ALL and origin != "settings" else ""
    by = _word(rule, "made_by")
    if origin == "request":
        return f"request, approved by {by}{whom}"
    return (by or origin) + whom


def _service_row(each: Answer) -> list[str]:
    return [_word(each, "name"), _word(each, "in_agent") or "-", _word(each, "address") or "not offered any more"]


def _refused_row(each: Answer, at: datetime) -> list[str]:
    # The agent has asked for it, and it may be any text.
    port = f":{each['port']}" if each.get("port") else ""
    host = quoted(f"{each['host']}{port}", most=_HOST) if each.get("host") else "other hosts"
    missing = f"; missing: {_word(each, 'missing')}" if each.get("missing") else ""
    detail = f"; {quoted(each.get('detail'), most=_NOTE)}" if each.get("detail") else ""
    why = f"{_word(each, 'why')}{missing}{detail}"
    return [host, _word(each, "count"), ago(each.get("last_at"), at), why]


def _bytes(traffic: Answer) -> str:
    sent, received = (int(traffic.get(key) or 0) for key in ("sent_today", "received_today"))
    return f"{format_bytes(sent)} sent, {format_bytes(received)} received"


def _count(number: object, word: str) -> str:
    return f"{number or 0} {word}" if number == 1 else f"{number or 0} {word}s"


def _word(answer: Answer, key: str) -> str:
    value = answer.get(key)
    return "" if value is None else escaped_line(str(value))
