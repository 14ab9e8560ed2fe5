"""Records of turns: their messages, attempts, outcome and usage. No I/O."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, Field, StringConstraints

from hive_agent.backends.transcript import Entry, TokenUsage, ToolCall
from hive_agent.interfaces import TurnSummary
from hive_core.protocol import Delivery

MOST_MESSAGES = 200
"""Most messages in one turn, including those added while it ran."""
SHOWN_DETAIL = 1_000
"""Characters of a failure's detail that are stored."""
SHOWN_WORDS = 160
"""Characters of the first message that are stored, to tell turns apart."""
_SAME_TIME = 0.001
"""Times that differ by less are equal: a time read from a file may be rounded; seconds."""

TurnId = Annotated[int, Field(ge=1, le=10**12)]
_MOST = 2**53
Count = Annotated[int, Field(ge=0, le=_MOST)]
Seconds = Annotated[float, Field(ge=0, le=1e11, allow_inf_nan=False)]
_MOST_COST = 1e12
Cost = Annotated[float, Field(ge=0, le=_MOST_COST, allow_inf_nan=False)]
_LONGEST_SENDER = 100


class Ref(BaseModel):
    """A reference to a message. Its id alone is not enough: a recreated hive numbers messages from the start."""

    id: Annotated[int, Field(ge=0, le=2**63 - 1)]
    sender: Annotated[str, StringConstraints(max_length=_LONGEST_SENDER)]
    sent_at: Seconds

    @classmethod
    def to(cls, delivery: Delivery) -> Self:
        return cls(id=delivery.id, sender=delivery.sender[:_LONGEST_SENDER], sent_at=delivery.sent_at.timestamp())

    def means(self, delivery: Delivery) -> bool:
        """Return True if the delivery is of this message."""
        same_time = abs(self.sent_at - delivery.sent_at.timestamp()) < _SAME_TIME
        return same_time and (self.id, self.sender) == (delivery.id, delivery.sender[:_LONGEST_SENDER])


class TurnRecord(BaseModel):
    """One turn. Times are seconds since 1970.

    `settled`: the daemon knows the outcome; a turn that is `ok` or `skipped` and not settled has messages to be
    acknowledged. `compacted`: the conversation was compacted because of this turn. `interrupted` counts the attempts in
    which the harness ended although the hive had not stopped it; `broken_off`: the harness stopped in the last attempt.
    """

    id: TurnId
    attempt: Annotated[int, Field(ge=1, le=10**9)] = 1
    state: Literal["running", "waiting", "held", "ok", "failed", "skipped"] = "running"
    started_at: Seconds
    ended_at: Seconds | None = None
    next_try_at: Seconds | None = None
    messages: Annotated[list[Ref], Field(max_length=MOST_MESSAGES)]
    words: Annotated[str, StringConstraints(max_length=SHOWN_WORDS)] = ""
    failure: Annotated[str, StringConstraints(max_length=40)] | None = None
    detail: Annotated[str, StringConstraints(max_length=SHOWN_DETAIL)] = ""
    tool_calls: Count = 0
    tokens_in: Count = 0
    tokens_out: Count = 0
    cost_usd: Cost | None = None
    settled: bool = True
    compacted: bool = False
    interrupted: Count = 0
    broken_off: bool = False

    @property
    def open(self) -> bool:
        """True if the turn runs, or may be retried."""
        return self.state in ("running", "waiting", "held")

    @property
    def unfinished(self) -> bool:
        """True if its messages are still to be handled, acknowledged or released."""
        return self.open or not self.settled

    def add_usage(self, entry: Entry) -> bool:
        """Add the usage of an entry; returns whether it has any. An agent CLI may report any number."""
        if isinstance(entry, ToolCall):
            self.tool_calls += 1
        elif isinstance(entry, TokenUsage):
            taken = max(0, entry.input) + max(0, entry.cache_read) + max(0, entry.cache_write)
            self.tokens_in = min(self.tokens_in + taken, _MOST)
            self.tokens_out = min(self.tokens_out + max(0, entry.output), _MOST)
            if entry.cost_usd is not None and math.isfinite(entry.cost_usd):
                self.cost_usd = min((self.cost_usd or 0.0) + max(0.0, entry.cost_usd), _MOST_COST)
        else:
            return False
        return True

    def recount_usage(self, entries: Sequence[Mapping[str, Any]]) -> None:
        """Raise the usage to that of the stored transcript: a harness that was killed has not stored all of it."""
        fresh = TurnRecord(id=self.id, started_at=self.started_at, messages=[])
        for entry in entries:
            if entry["kind"] == "call":
                fresh.tool_calls += 1
            elif entry["kind"] == "usage" and (usage := _usage(entry)) is not None:
                fresh.add_usage(usage)
        self.tool_calls = max(self.tool_calls, fresh.tool_calls)
        self.tokens_in = max(self.tokens_in, fresh.tokens_in)
        self.tokens_out = max(self.tokens_out, fresh.tokens_out)
        if fresh.cost_usd is not None:
            self.cost_usd = max(self.cost_usd or 0.0, fresh.cost_usd)

    def summary(self) -> TurnSummary:
        """The record as the page shows it."""
        return TurnSummary(
            id=self.id,
            attempt=self.attempt,
            state=self.state,
            started_at=self.started_at,
            ended_at=self.ended_at,
            next_try_at=self.next_try_at,
            messages=[ref.id for ref in self.messages],
            senders=list(dict.fromkeys(ref.sender for ref in self.messages)),
            words=self.words,
            failure=self.failure,
            detail=self.detail,
            tool_calls=self.tool_calls,
            tokens_in=self.tokens_in,
            tokens_out=self.tokens_out,
            cost_usd=self.cost_usd,
        )


def _usage(entry: Mapping[str, Any]) -> TokenUsage | None:
    """Parse the usage of a transcript entry; None if it is not valid."""
    names = ("input", "output", "cache_read", "cache_write")
    tokens = {name: entry.get(name, 0) for name in names}
    cost = entry.get("cost_usd")
    if any(type(count) is not int for count in tokens.values()) or type(cost) not in (float, type(None)):
        return None
    return TokenUsage(**tokens, cost_usd=cost)


class Totals(BaseModel):
    """Number and usage of several turns together."""

    turns: Count = 0
    tokens_in: Count = 0
    tokens_out: Count = 0
    cost_usd: Cost | None = None

    def plus(self, record: TurnRecord) -> Totals:
        """The totals including this turn."""
        costs = [cost for cost in (self.cost_usd, record.cost_usd) if cost is not None]
        return Totals(
            turns=self.turns + 1,
            tokens_in=min(self.tokens_in + record.tokens_in, _MOST),
            tokens_out=min(self.tokens_out + record.tokens_out, _MOST),
            cost_usd=min(sum(costs), _MOST_COST) if costs else None,
        )
