"""Limits of spending and what is left of them. No I/O.

A call is granted if what is spent, what is reserved for calls that are under way, and its own reserve stay within each
limit. Limits of money are raised by what an operator has added.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple, get_args

from hive_core.outside.models.prices import to_dollars, to_nano
from hive_core.protocol.models.budgets import BudgetRefusal, LimitState, Measure, Period
from hive_core.protocol.models.limits import SpendingLimits

WARNED_PART = 0.8
"""The part of a limit from which on somebody is told."""
DAY_MILLISECONDS = 86_400_000


@dataclass(frozen=True)
class Spending:
    """The money that was spent in a period, what is reserved, and what was added; money is in nanodollars."""

    money: int = 0
    tokens: int = 0
    calls: int = 0
    open_money: int = 0
    open_tokens: int = 0
    added: int = 0
    warned: int = 0
    told: int = 0

    def spent(self, measure: Measure) -> int:
        """Return what is spent for good."""
        return {"money": self.money, "tokens": self.tokens, "calls": self.calls}[measure]

    def reserved(self, measure: Measure) -> int:
        """Return what calls that are under way may still cost; they count as calls already."""
        return {"money": self.open_money, "tokens": self.open_tokens, "calls": 0}[measure]


@dataclass(frozen=True)
class CallNeed:
    """The most that one call costs; money is in nanodollars."""

    money: int
    tokens: int

    def of(self, measure: Measure) -> int:
        """Return the need in one measure."""
        return {"money": self.money, "tokens": self.tokens, "calls": 1}[measure]


class Limit(NamedTuple):
    """One limit of a budget, with what was added to it; money is in nanodollars. `bit` stands for it in a mask."""

    measure: Measure
    period: Period
    limit: int
    bit: int


Spent = Mapping[Period, Spending]
"""The spending of the day and in all."""


def limits_of(limits: SpendingLimits, spent: Spent) -> Iterator[Limit]:
    """Return the limits that are set, each with what was added in its period."""
    bit = 1
    periods: tuple[Period, ...] = get_args(Period)
    measures: tuple[Measure, ...] = get_args(Measure)
    for period in periods:
        for measure in measures:
            value = getattr(limits, f"{measure}_{'per_day' if period == 'day' else 'total'}")
            if value is not None:
                limit = to_nano(value) + spent[period].added if measure == "money" else int(value)
                yield Limit(measure, period, limit, bit)
            bit <<= 1


def within(own: SpendingLimits, defaults: SpendingLimits, ceilings: SpendingLimits) -> SpendingLimits:
    """Return the limits that hold for an agent: its own or the operator's defaults, and never more than ceilings."""
    found = {}
    for name in SpendingLimits.model_fields:
        asked = getattr(own, name)
        asked = getattr(defaults, name) if asked is None else asked
        most = getattr(ceilings, name)
        found[name] = most if asked is None else asked if most is None else min(asked, most)
    return SpendingLimits(**found)


def find_refusal(
    whose: str, limits: SpendingLimits, spent: Spent, need: CallNeed, day: int
) -> tuple[BudgetRefusal, Limit] | None:
    """Return why a budget does not allow a call, with the limit; None if it does."""
    for limit in limits_of(limits, spent):
        period = spent[limit.period]
        used, reserved = period.spent(limit.measure), period.reserved(limit.measure)
        if used + reserved + need.of(limit.measure) > limit.limit:
            refusal = BudgetRefusal(
                whose=whose,
                measure=limit.measure,
                period=limit.period,
                limit=shown_amount(limit.measure, limit.limit),
                spent=shown_amount(limit.measure, used),
                reserved=shown_amount(limit.measure, reserved),
                reserve=shown_amount(limit.measure, need.of(limit.measure)),
                until=day_end(day) // 1_000 if limit.period == "day" else None,
            )
            return refusal, limit
    return None


def find_warnings(limits: SpendingLimits, spent: Spent) -> list[Limit]:
    """Return the limits of which so much is spent that somebody has to be told."""
    found = []
    for limit in limits_of(limits, spent):
        if spent[limit.period].spent(limit.measure) >= limit.limit * WARNED_PART:
            found.append(limit)
    return found


def describe(whose: str, limits: SpendingLimits, spent: Spent) -> list[LimitState]:
    """Return all limits of a budget with their state, for people."""
    return [
        LimitState(
            whose=whose,
            measure=limit.measure,
            period=limit.period,
            limit=shown_amount(limit.measure, limit.limit),
            added=to_dollars(spent[limit.period].added) if limit.measure == "money" else 0.0,
            spent=shown_amount(limit.measure, spent[limit.period].spent(limit.measure)),
            reserved=shown_amount(limit.measure, spent[limit.period].reserved(limit.measure)),
        )
        for limit in limits_of(limits, spent)
    ]


def shown_amount(measure: Measure, amount: int) -> float:
    """Return an amount as people read it: money in dollars."""
    return to_dollars(amount) if measure == "money" else float(amount)


def day_of(at: int) -> int:
    """Return the day of a time in milliseconds, counted from 1970 in UTC."""
    return at // DAY_MILLISECONDS


def day_end(day: int) -> int:
    """Return the end of a day in milliseconds."""
    return (day + 1) * DAY_MILLISECONDS
