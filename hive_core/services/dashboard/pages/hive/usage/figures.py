"""Figures of the ledger for people: bars of graphs, and limits with their use. No I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from typing import Any, NamedTuple

from hive_core.protocol.models.amounts import dollars, tokens

Answer = Mapping[str, Any]

WIDTH, HEIGHT = 720, 120
_GAP = 2.0
_MOST_BARS = 92
_NEARLY = 0.8
_PERIODS = {"day": "a day", "total": "in all"}


class Bar(NamedTuple):
    """One bar of a graph, in a field of 720 by 120, and what it stands for."""

    x: float
    y: float
    width: float
    height: float
    title: str


class UsageLine(NamedTuple):
    """One line of a table of sums; `part` is that of the dearest one, from 0 to 100."""

    key: str
    calls: int
    written: str
    cached: str
    output: str
    cost: str
    uncertain: int
    part: float


class LimitLine(NamedTuple):
    """One limit, and its use in words and as a part from 0 to 1."""

    whose: str
    measure: str
    period: str
    limit: str
    added: str
    spent: str
    reserved: str
    left: str
    part: float
    state: str
    """`good`, `warn` near its end, `bad` if nothing is left."""


def bars_of_days(sums: Sequence[Answer], last: date, first: date | None = None) -> list[Bar]:
    """Return a bar for each day from `first`, or the earliest of `sums`, to `last`; days without calls are empty."""
    costs = {str(each["key"]): float(each["cost"]) for each in sums}
    if not costs:
        return []
    begin = first or min(date.fromisoformat(key) for key in costs)
    begin = max(begin, last - timedelta(days=_MOST_BARS - 1))
    days = [(begin + timedelta(days=number)).isoformat() for number in range((last - begin).days + 1)]
    top = max((costs.get(day, 0.0) for day in days), default=0.0) or 1.0
    step = WIDTH / len(days)
    bars = []
    for number, day in enumerate(days):
        cost = costs.get(day, 0.0)
        height = max(1.0, HEIGHT * cost / top) if cost else 0.0
        bars.append(
            Bar(
                round(number * step, 2),
                round(HEIGHT - height, 2),
                round(max(1.0, step - _GAP), 2),
                round(height, 2),
                f"{day}: {dollars(cost)}",
            )
        )
    return bars


def usage_lines(sums: Sequence[Answer]) -> list[UsageLine]:
    """Return the lines of a table of sums."""
    top = max((float(each["cost"]) for each in sums), default=0.0) or 1.0
    return [usage_line(each, top) for each in sums]


def usage_line(each: Answer, top: float = 0.0) -> UsageLine:
    """Return one line; `top` is the cost of the dearest one."""
    counts, cost = each["tokens"], float(each["cost"])
    written = sum(int(counts[name]) for name in ("input", "cache_write", "cache_write_hour"))
    return UsageLine(
        str(each["key"]),
        int(each["calls"]),
        tokens(written),
        tokens(counts["cache_read"]),
        tokens(counts["output"]),
        dollars(cost),
        int(each["uncertain"]),
        round(100 * cost / top, 1) if top else 0.0,
    )


def limit_line(limit: Answer) -> LimitLine:
    """Return one limit of a budget."""
    most, used = float(limit["limit"]), float(limit["spent"]) + float(limit["reserved"])
    part = min(1.0, used / most) if most else 1.0
    measure = str(limit["measure"])

    def bare(value: float) -> str:
        return dollars(value) if measure == "money" else tokens(value)

    return LimitLine(
        str(limit["whose"]),
        measure,
        str(limit["period"]),
        f"{bare(most)}{'' if measure == 'money' else f' {measure}'} {_PERIODS[str(limit['period'])]}",
        bare(float(limit["added"])) if limit["added"] else "",
        bare(float(limit["spent"])),
        bare(float(limit["reserved"])) if limit["reserved"] else "",
        bare(max(0.0, most - used)),
        round(part, 4),
        "bad" if part >= 1 else "warn" if part >= _NEARLY else "good",
    )


def shown_part(answer: Answer) -> str:
    """Return how many groups are shown, if not all are."""
    shown, groups = len(answer["sums"]), int(answer["groups"])
    if shown >= groups:
        return ""
    return f"{shown} of {groups} are shown, {'the newest' if answer['by'] == 'day' else 'the dearest'}"
