"""The ledger against a plain model: whatever happens in whatever order, no money is lost and no limit overdrawn."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from hive_core.outside.models.budgets import DAY_MILLISECONDS
from hive_core.protocol.models.limits import SpendingLimits
from hive_core.protocol.models.link import RelayReserve
from hive_core.protocol.models.usage import CallsQuery, TokenCounts
from tests.unit.core.outside.models.ledger_hive import NOON, LedgerHive, ledger_hive

AGENTS = ("ada", "bob")
LIMIT = 20_000
"""Of a day, in millionths of a dollar; that of the hive is half as much again."""
HIVE_LIMIT = 30_000


@dataclass
class PlainCall:
    agent: str
    day: int
    reserve: int
    request: RelayReserve
    cost: int | None = None
    """In millionths of a dollar; None while it is under way."""
    lost: bool = False


@dataclass
class PlainLedger:
    """Every call that was granted; sums are made anew each time."""

    day: int = NOON // DAY_MILLISECONDS
    calls: list[PlainCall] = field(default_factory=list)

    def used(self, agent: str | None) -> int:
        """What is spent and reserved today."""
        return sum(
            call.reserve if call.cost is None else call.cost
            for call in self.calls
            if call.day == self.day and agent in (None, call.agent)
        )


OPERATIONS = st.one_of(
    st.tuples(st.just("call"), st.sampled_from(AGENTS), st.integers(0, 3_000), st.integers(1, 3_000)),
    st.tuples(st.just("settle"), st.integers(0, 30), st.integers(1, 4_000), st.integers(0, 3_000)),
    st.tuples(st.just("silent"), st.integers(0, 30), st.just(0), st.just(0)),
    st.tuples(st.just("relay dies"), st.just(0), st.just(0), st.just(0)),
    st.tuples(st.just("daemon dies"), st.just(0), st.just(0), st.just(0)),
    st.tuples(st.just("midnight"), st.just(0), st.just(0), st.just(0)),
)


async def apply(hive: LedgerHive, plain: PlainLedger, step: tuple[str, object, int, int], number: int) -> None:
    name, first, second, third = step
    if name == "call":
        agent = str(first)
        request = hive.request(agent, size=second * 3, most=third)
        reserve = second + 2 * third
        refused = (await hive.reserve(request)).refusal
        fits = plain.used(agent) + reserve <= LIMIT and plain.used(None) + reserve <= HIVE_LIMIT
        assert (refused is None) == fits
        if fits:
            plain.calls.append(PlainCall(agent, plain.day, reserve, request))
    elif name in ("settle", "silent") and plain.calls:
        call = plain.calls[int(str(first)) % len(plain.calls)]
        tokens = TokenCounts(input=second, output=third) if name == "settle" else None
        await hive.settle(call.request, tokens, answered=0)
        if call.cost is None or call.lost:
            call.cost = second + 2 * third if name == "settle" else call.reserve
            call.lost = False
    elif name == "relay dies":
        left = [call for call in plain.calls if call.cost is None]
        assert await hive.ledger.open_relay(f"another-{number}") == len(left)
        for call in left:
            call.cost, call.lost = call.reserve, True
    elif name == "daemon dies":
        hive.restart()
    elif name == "midnight":
        plain.day += 1
        hive.now += DAY_MILLISECONDS


async def run(steps: list[tuple[str, object, int, int]]) -> None:
    async with ledger_hive() as hive:
        for agent in AGENTS:
            hive.limits[agent] = SpendingLimits(money_per_day=LIMIT / 1_000_000)
        hive.hive_limits = SpendingLimits(money_per_day=HIVE_LIMIT / 1_000_000)
        hive.restart()
        plain = PlainLedger()
        for number, step in enumerate(steps):
            await apply(hive, plain, step, number)
        for agent in AGENTS:
            states = {each.whose: each for each in (await hive.ledger.budget(agent)).limits}
            for whose, expected in ((agent, plain.used(agent)), ("all", plain.used(None))):
                assert round((states[whose].spent + states[whose].reserved) * 1_000_000) == expected
            calls = (await hive.ledger.calls(agent, CallsQuery(limit=100))).calls
            known = sum(call.cost or 0 for call in plain.calls if call.agent == agent)
            assert round(sum(call.cost for call in calls) * 1_000_000) == known


@settings(max_examples=60, deadline=None)
@given(st.lists(OPERATIONS, max_size=30))
def test_the_ledger_is_like_the_plain_model(steps: list[tuple[str, object, int, int]]) -> None:
    """Grants, sums and rows are those of a plain list of calls, through kills of both sides and days' ends."""
    asyncio.run(run(steps))
