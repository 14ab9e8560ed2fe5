"""Models of the ledger of calls of models."""

from __future__ import annotations

from datetime import date, datetime
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
    """One call of the ledger; `cost` is in US dollars, times are in milliseconds. `id` grows with each call.

    `flags` say what its figures are worth: `unknown_model` is counted with the dearest price of its vendor, `reserve`
    with what was reserved, because the vendor has told nothing usable; `estimated` is an answer that broke off;
    `implausible` are figures that do not fit what was sent; `over_reserve` is a call that cost more than its reserve.
    """

    id: int
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
    """Sums of the ledger, grouped, from the day `since` on (UTC) or for all time; `agent` restricts them to one.

    At most `limit` groups are told: the newest days, or the dearest models or agents.
    """

    agent: Recipient | None = None
    by: Literal["day", "model", "agent"] = "day"
    since: date | None = None
    limit: Annotated[int, Field(ge=1, le=1_000)] = 100


class CallsQuery(Query):
    """The newest calls of an agent, at most `limit`; `before` is the id of one, of which older ones are told."""

    limit: Annotated[int, Field(ge=1, le=1_000)] = 50
    before: Annotated[int, Field(ge=1, le=2**63 - 1)] | None = None


class UsageSum(Answer):
    """The calls of a day, a model or an agent; `uncertain` are those whose cost is not by the vendor's own figures.

    Calls that the vendor has refused, or that did not reach it, have no model: their `key` is empty.
    """

    key: str
    calls: int
    tokens: TokenCounts
    cost: float
    uncertain: int


class UsageAnswer(Answer):
    """Sums of the ledger with the date of the price table; `total` is over all `groups`, also those not in `sums`."""

    by: Literal["day", "model", "agent"]
    prices_of: str
    sums: list[UsageSum]
    total: UsageSum
    groups: int = 0


class CallList(Answer):
    """Calls of an agent, the newest first, with the date of the price table."""

    calls: list[ModelCall]
    prices_of: str = ""
