"""Figures of the ledger for people."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest

from hive_core.protocol.models.amounts import dollars, tokens
from hive_core.services.dashboard.pages.hive.usage.figures import (
    HEIGHT,
    WIDTH,
    bars_of_days,
    limit_line,
    shown_part,
    usage_lines,
)

TOKENS = {"input": 1_000, "cache_read": 2_000_000, "cache_write": 500, "cache_write_hour": 0, "output": 12}


def _sum(key: str, cost: float, **changes: Any) -> dict[str, Any]:
    return {"key": key, "calls": 3, "tokens": TOKENS, "cost": cost, "uncertain": 0, **changes}


def _limit(**changes: Any) -> dict[str, Any]:
    told = {"whose": "ada", "measure": "money", "period": "day", "limit": 10.0, "added": 0.0, "reserved": 0.0}
    return {**told, "spent": 0.0, **changes}


def test_days_without_calls_are_gaps_of_the_graph() -> None:
    """Every day of the span has its place, the dearest one the full height, and no bar leaves the field."""
    bars = bars_of_days([_sum("2026-03-04", 2.0), _sum("2026-03-01", 1.0)], date(2026, 3, 5))
    assert [bar.title for bar in bars] == [
        *("2026-03-01: $1.00", "2026-03-02: $0.00", "2026-03-03: $0.00", "2026-03-04: $2.00", "2026-03-05: $0.00")
    ]
    assert [bar.height for bar in bars] == [HEIGHT / 2, 0, 0, HEIGHT, 0]
    assert all(bar.x >= 0 and bar.x + bar.width <= WIDTH and bar.y + bar.height == HEIGHT for bar in bars)


def test_graph_has_no_more_bars_than_it_can_show() -> None:
    """A ledger of years is shown by its last days; an empty one has no graph."""
    bars = bars_of_days([_sum("1999-01-01", 1.0), _sum("2026-03-05", 0.001)], date(2026, 3, 5))
    assert len(bars) == 92
    assert bars[-1].title == "2026-03-05: $0.0010"
    assert bars_of_days([], date(2026, 3, 5)) == []


def test_sums_are_compared_with_the_dearest() -> None:
    """Each line says which part of the dearest one it is."""
    dear, cheap = usage_lines([_sum("a", 4.0), _sum("b", 1.0, uncertain=2)])
    assert (dear.part, cheap.part) == (100.0, 25.0)
    assert (cheap.written, cheap.cached, cheap.output, cheap.uncertain) == ("1500", "2.0M", "12", 2)
    assert usage_lines([_sum("free", 0.0)])[0].part == 0.0


@pytest.mark.parametrize(
    ("changes", "state", "left"),
    [
        ({"spent": 1.0}, "good", "$9.00"),
        ({"spent": 7.0, "reserved": 1.5}, "warn", "$1.50"),
        ({"spent": 12.0}, "bad", "$0.00"),
        ({"limit": 0.0}, "bad", "$0.00"),
    ],
)
def test_limits_tell_how_near_their_end_is(changes: dict[str, Any], state: str, left: str) -> None:
    """Reserved money counts as used, and a limit of nothing is used up."""
    line = limit_line(_limit(**changes))
    assert (line.state, line.left) == (state, left)
    assert 0 <= line.part <= 1


def test_limits_name_their_measure() -> None:
    """Money is in dollars, other limits have their unit."""
    assert limit_line(_limit()).limit == "$10.00 a day"
    assert limit_line(_limit(measure="tokens", period="total", limit=2e6)).limit == "2.0M tokens in all"
    assert limit_line(_limit(added=5.0)).added == "$5.00"


def test_amounts_are_short() -> None:
    """Small amounts of money keep what they have, large numbers four digits."""
    assert [dollars(value) for value in (0, 0.0123, 0.5, 1234.5)] == ["$0.00", "$0.0123", "$0.50", "$1,234.50"]
    assert [tokens(value) for value in (7, 9_999, 12_345, 12_345_678)] == ["7", "9999", "12.3k", "12.3M"]


def test_tables_say_what_they_leave_out() -> None:
    """A table of some of the groups says how many there are."""
    sums = [_sum("a", 1.0)]
    assert shown_part({"by": "model", "sums": sums, "groups": 7}) == "1 of 7 are shown, the dearest"
    assert shown_part({"by": "day", "sums": sums, "groups": 1}) == ""
