"""The ledger and budgets for people: tables of what was spent, of calls and their flags, and of limits."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any

import click

from hive_core.cli.output import Column, coloured_agent, coloured_state, moment, render, width
from hive_core.protocol.models.amounts import FLAGS, dollars, tokens
from hive_core.text import escaped_line

Answer = dict[str, Any]

_LONGEST_KEY = 34
_NO_MODEL = "(refused)"
_NEARLY_SPENT = 0.8
_PERIODS = {"day": "a day", "total": "in all"}


def _used(text: str, padded: str) -> str:
    part = float(text.removesuffix("%") or 0) / 100
    return click.style(padded, fg="bright_red" if part >= 1 else "yellow") if part >= _NEARLY_SPENT else padded


def _outcome(text: str, padded: str) -> str:
    return padded if text in ("done", "under way") else coloured_state("failed", padded)


def _whose(text: str, padded: str) -> str:
    return padded if text == "all" else coloured_agent(text, padded)


_FIGURES = (
    Column("CALLS", 7, right=True),
    Column("INPUT", 6, right=True),
    Column("CACHED", 3, right=True),
    Column("OUTPUT", 5, right=True),
    Column("COST", 8, right=True),
    Column("UNCERTAIN", 4, right=True),
)
CALL_COLUMNS = (
    Column("ID", 3, right=True),
    Column("AT", 6),
    Column("MODEL", 7),
    Column("INPUT", 4, right=True),
    Column("OUTPUT", 5, right=True),
    Column("COST", 9, right=True),
    Column("TIME", 2, right=True),
    Column("OUTCOME", 8, style=_outcome),
    Column("FLAGS", 6),
)
BUDGET_COLUMNS = (
    Column("BUDGET", 9, style=_whose),
    Column("LIMIT", 8),
    Column("ADDED", 3, right=True),
    Column("SPENT", 7, right=True),
    Column("RESERVED", 4, right=True),
    Column("LEFT", 6, right=True),
    Column("USED", 5, right=True, style=_used),
)


def usage_lines(answer: Answer) -> Iterator[str]:
    """Yield the table of sums, and their total."""
    by = str(answer.get("by"))
    total = answer.get("total") or {}
    rows = [_sum_row(_key(each), each) for each in answer.get("sums", [])]
    columns = (Column(escaped_line(by.upper()), 9, style=_whose if by == "agent" else _plain), *_FIGURES)
    yield from render(columns, [*rows, _sum_row("total", total)], width())


def usage_notes(answer: Answer, whose: str) -> Iterator[str]:
    """Yield what has to be known to read the table."""
    yield f"prices are those of {_text(answer, 'prices_of')}; days are those of UTC"
    shown, groups = len(answer.get("sums", [])), int(answer.get("groups") or 0)
    if shown < groups:
        which = "the newest" if answer.get("by") == "day" else "the dearest"
        yield f"{shown} of {groups} are shown, {which}: -n shows more"
    uncertain = int((answer.get("total") or {}).get("uncertain") or 0)
    if uncertain:
        yield f'the cost of {_count(uncertain, "call")} is uncertain: "hive-c0re usage {whose} --calls" says why'


def call_lines(answer: Answer) -> Iterator[str]:
    """Yield the table of calls."""
    yield from render(CALL_COLUMNS, [_call_row(call) for call in answer.get("calls", [])], width())


def call_notes(answer: Answer) -> Iterator[str]:
    """Yield the meaning of the flags that occur, and the date of the price table."""
    found = {str(flag) for call in answer.get("calls", []) for flag in call.get("flags", [])}
    for flag, meaning in FLAGS.items():
        if flag in found:
            yield f"{flag}: the cost is {meaning}"
    if any(call.get("outcome") is None for call in answer.get("calls", [])):
        yield "under way: the cost is what is reserved for the call"
    yield f"prices are those of {_text(answer, 'prices_of')}"


def budget_lines(answer: Answer) -> Iterator[str]:
    """Yield the table of limits; nothing if there are none."""
    limits = answer.get("limits", [])
    if not limits:
        return
    has_added = any(limit.get("added") for limit in limits)
    columns = [column for column in BUDGET_COLUMNS if column.header != "ADDED" or has_added]
    yield from render(columns, [_limit_row(limit, has_added=has_added) for limit in limits], width())


def budget_notes(answer: Answer) -> Iterator[str]:
    """Yield what was spent, and when limits begin anew."""
    whose = _text(answer, "agent")
    whom = "all agents have" if whose == "all" else f"{coloured_agent(whose)} has"
    spent = f"{whom} spent {dollars(answer.get('spent_today'))} today, {dollars(answer.get('spent_total'))} in all"
    if not any(limit.get("whose") == whose for limit in answer.get("limits", [])):
        spent += ", without a limit of its own" if whose != "all" else ", without a limit for all together"
    yield spent
    if any(limit.get("period") == "day" for limit in answer.get("limits", [])):
        yield f"limits of a day begin anew at {moment(answer.get('day_ends_at'))}"
    for name in answer.get("stopped") or []:
        agent = escaped_line(str(name))
        yield f'{agent} is stopped, as its provider refuses its calls: mend that, then "hive-c0re resume {agent}"'


def spent_limits(limits: Iterable[Answer]) -> list[Answer]:
    """Return the limits of which nothing is left."""
    return [limit for limit in limits if _left(limit) <= 0]


def describe_limit(limit: Answer) -> str:
    """Format a limit and what is left of it in one phrase."""
    shown = {key: amount(limit, limit.get(key)) for key in ("limit", "spent")}
    whose = " of all agents" if limit.get("whose") == "all" else ""
    return f"{shown['spent']} of {shown['limit']} {_PERIODS.get(str(limit.get('period')), '')}{whose}"


def amount(limit: Answer, value: object) -> str:
    """Format an amount in the measure of a limit."""
    measure = str(limit.get("measure"))
    return dollars(value) if measure == "money" else f"{tokens(value)} {escaped_line(measure)}"


def _sum_row(key: str, each: Answer) -> list[str]:
    counts = each.get("tokens") or {}
    written = sum(int(counts.get(name) or 0) for name in ("input", "cache_write", "cache_write_hour"))
    uncertain = int(each.get("uncertain") or 0)
    return [
        key,
        str(int(each.get("calls") or 0)),
        tokens(written),
        tokens(counts.get("cache_read")),
        tokens(counts.get("output")),
        dollars(each.get("cost")),
        str(uncertain) if uncertain else "",
    ]


def _call_row(call: Answer) -> list[str]:
    counts = call.get("tokens") or {}
    read = sum(int(counts.get(name) or 0) for name in ("input", "cache_read", "cache_write", "cache_write_hour"))
    outcome, status = call.get("outcome"), call.get("status")
    refused = f" {status}" if outcome == "failed" and status is not None else ""
    duration = call.get("duration")
    return [
        _text(call, "id"),
        _minute(call.get("at")),
        _cut(_text(call, "served") or _text(call, "requested")),
        tokens(read),
        tokens(counts.get("output")),
        dollars(call.get("cost") if outcome is not None else call.get("reserve")),
        f"{duration / 1_000:.1f} s" if isinstance(duration, int) else "",
        "under way" if outcome is None else f"{escaped_line(str(outcome))}{refused}",
        " ".join(escaped_line(str(flag)) for flag in call.get("flags", [])),
    ]


def _limit_row(limit: Answer, *, has_added: bool) -> list[str]:
    total = float(limit.get("limit") or 0)
    used = float(limit.get("spent") or 0) + float(limit.get("reserved") or 0)
    part = used / total if total else 1.0
    added = dollars(limit.get("added")) if limit.get("added") else ""
    return [
        _text(limit, "whose"),
        f"{amount(limit, total)} {_PERIODS.get(_text(limit, 'period'), '')}",
        *([added] if has_added else []),
        _bare(limit, limit.get("spent")),
        _bare(limit, limit.get("reserved")) if limit.get("reserved") else "",
        _bare(limit, max(0.0, _left(limit))),
        f"{min(part, 9.99):.0%}",
    ]


def _left(limit: Answer) -> float:
    return float(limit.get("limit") or 0) - float(limit.get("spent") or 0) - float(limit.get("reserved") or 0)


def _bare(limit: Answer, value: object) -> str:
    return dollars(value) if limit.get("measure") == "money" else tokens(value)


def _key(each: Answer) -> str:
    return _cut(_text(each, "key")) or _NO_MODEL


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST_KEY else f"{text[: _LONGEST_KEY - 1]}…"


def _minute(at: object) -> str:
    try:
        return datetime.fromisoformat(str(at)).astimezone().strftime("%m-%d %H:%M")
    except ValueError:
        return ""


def _plain(_text: str, padded: str) -> str:
    return padded


def _count(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def _text(answer: Answer, key: str) -> str:
    value = answer.get(key)
    return "" if value is None else escaped_line(str(value))
