"""Models of the ledger of calls of models."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from hive_core.protocol.base import Answer, Query, Recipient

_Tokens = Annotated[int, Field(ge=0, le=1_000_000_000_000)]
CallOutcome = Literal["done", "failed", "broken", "left", "not_sent", "lost"]
"""The end of a call: the vendor's answer was complete; the vendor refused or could not be reached; the answer broke
off; the agent hung up; nothing was sent to the vendor; the relay ended before it could tell.
"""


class TokenCounts(Answer):
    """The tokens of one call by their price, as the vendor counts them; `reasoning` is a part of `output`."""

    input: _Tokens = 0
    cache_read: _Tokens = 0
    cache_write: _Tokens = 0
    cache_write_hour: _Tokens = 0
    output: _Tokens = 0
    reasoning: _Tokens = 0
    searches: _Tokens = 0

    @property
    def total(self) -> int:
        """All tokens of the call."""
        return self.input + self.cache_read + self.cache_write + self.cache_write_hour + self.output


class ModelCall(Answer):
    """One call of the ledger; `cost` is in US dollars, times are in milliseconds.

    `flags` say what its figures are worth: `unknown_model` is counted with the dearest price of its vendor, `reserve`
    with what was reserved, because the vendor has told nothing usable; `estimated` is an answer that broke off;
    `implausible` are figures that do not fit what was sent; `over_reserve` is a call that cost more than its reserve.
    """

    call: str
    at: datetime
    agent: str
    turn: str = ""
    provider: str
    requested: str
    served: str
    outcome: CallOutcome | None
    status: int | None
    tokens: TokenCounts
    cost: float
    reserve: float
    flags: list[str]
    first_byte: int | None
    duration: int | None


class UsageQuery(Query):
    """Sums of the ledger, grouped, for the last `days` or for all time; `agent` restricts them to one."""

    agent: Recipient | None = None
    by: Literal["day", "model", "agent"] = "day"
    days: Annotated[int, Field(ge=1, le=3_650)] | None = None


class UsageSum(Answer):
    """The calls of a day, a model or an agent; `uncertain` are those whose cost is not by the vendor's own figures."""

    key: str
    calls: int
    tokens: TokenCounts
    cost: float
    uncertain: int


class UsageAnswer(Answer):
    """Sums of the ledger with the date of the price table; `total` is over all groups."""

    by: Literal["day", "model", "agent"]
    prices_of: str
    sums: list[UsageSum]
    total: UsageSum


class CallList(Answer):
    """The newest calls of an agent, the newest first."""

    calls: list[ModelCall]
