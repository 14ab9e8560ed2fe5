"""Models of budgets: limits of money, tokens and calls, per day and in all."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from hive_core.protocol.base import Answer, Request
from hive_core.protocol.models.limits import SpendingLimits

ALL = "all"
"""The word for all agents together, which no agent has as its name."""
Measure = Literal["money", "tokens", "calls"]
Period = Literal["day", "total"]


class BudgetSettings(Request):
    """The operator's limits: of agents that set none, the most that an agent may set, and of all agents together."""

    agents: SpendingLimits = Field(default_factory=SpendingLimits)
    ceilings: SpendingLimits = Field(default_factory=SpendingLimits)
    hive: SpendingLimits = Field(default_factory=SpendingLimits)


class AddBudgetRequest(Request):
    """Raise the limits of money of an agent, or of the hive: for today, and in all."""

    money: Annotated[float, Field(gt=0, le=1_000_000, allow_inf_nan=False)]
    note: Annotated[str, StringConstraints(max_length=1_000)] = ""


class LimitState(Answer):
    """One limit of a budget, and what is spent of it. `reserved` is for calls that are under way.

    Money is in US dollars. `whose` is the agent, or "all" for all agents together. `added` is a part of `limit`.
    """

    whose: str
    measure: Measure
    period: Period
    limit: float
    added: float = 0.0
    spent: float = 0.0
    reserved: float = 0.0


class BudgetAnswer(Answer):
    """The budget of an agent, with the hive's, which holds for it as well. `day_ends_at` is the end of today.

    What is spent is in US dollars. The answer about all agents (`all`) has the hive's limits first, then those of each
    agent. `stopped` are agents whose calls are not passed on, because the vendor has refused many in a row.
    """

    agent: str
    limits: list[LimitState]
    day_ends_at: datetime
    spent_today: float = 0.0
    spent_total: float = 0.0
    stopped: list[str] = Field(default_factory=list)


class BudgetRefusal(Answer):
    """A call that a budget does not allow, with the numbers: `reserve` is what the call would need at most.

    `until` is the end of the day whose limit it is, in seconds since 1970; None for a limit in all.
    """

    whose: str
    measure: Measure
    period: Period
    limit: float
    spent: float
    reserved: float
    reserve: float
    until: int | None = None
