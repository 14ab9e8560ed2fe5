"""A ledger over a real database, with a clock and prices of the test."""

from __future__ import annotations

import asyncio
import itertools
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from hive_core.infra.database.database import Database
from hive_core.outside.models.budgets import DAY_MILLISECONDS
from hive_core.outside.models.ledger import Ledger, LedgerNotice, Reservation
from hive_core.protocol.models.limits import SpendingLimits
from hive_core.protocol.models.link import RelayReserve, RelaySettle
from hive_core.protocol.models.providers import ModelRates, ProviderSettings
from hive_core.protocol.models.usage import CallOutcome, TokenCounts
from tests.helpers.memory import MEMORY

NOON = 20_000 * DAY_MILLISECONDS + DAY_MILLISECONDS // 2
PROVIDERS = {
    # A token of input costs a dollar per million, one of output two.
    "plain": ProviderSettings(api="anthropic", keys=["key"], rates=ModelRates(input=1, output=2)),
    "vendor": ProviderSettings(api="anthropic", keys=["key"]),
}
RELAY = "relay-1"


class LedgerHive:
    """ada and bob with limits that the test sets."""

    def __init__(self, database: Database) -> None:
        self.now = NOON
        self.limits: dict[str, SpendingLimits] = {}
        self.hive_limits = SpendingLimits()
        self.database = database
        self._numbers = itertools.count(1)
        self.restart()

    def restart(self) -> None:
        """Replace the ledger by one that knows only the database, as a new daemon does."""
        self.ledger = Ledger(
            self.database,
            PROVIDERS,
            lambda name: self.limits.get(name, SpendingLimits()),
            self.hive_limits,
            clock=lambda: self.now,
        )

    def request(self, agent: str = "ada", *, size: int = 3_000, most: int = 1_000, **other: object) -> RelayReserve:
        """A call that needs at most 1,000 tokens of input and 1,000 of output: 0.003 dollars."""
        number = next(self._numbers)
        return RelayReserve.model_validate(
            {
                "id": number,
                "call": f"{RELAY}-{number}",
                "agent": agent,
                "provider": "plain",
                "model": "m",
                "bytes": size,
                "max_tokens": most,
                **other,
            }
        )

    async def reserve(self, request: RelayReserve) -> Reservation:
        return await self.ledger.reserve(request, RELAY)

    async def settle(
        self,
        request: RelayReserve,
        tokens: TokenCounts | None = None,
        outcome: CallOutcome = "done",
        *,
        complete: bool = True,
        answered: int = 100,
        status: int | None = 200,
        served: str = "",
    ) -> tuple[LedgerNotice, ...]:
        return await self.ledger.settle(
            RelaySettle(
                id=request.id,
                call=request.call,
                outcome=outcome,
                tokens=tokens,
                complete=complete,
                answered_bytes=answered,
                status=status,
                served=served,
            )
        )

    async def spend(self, agent: str = "ada", given: int = 1_000, written: int = 1_000) -> tuple[LedgerNotice, ...]:
        """Make one whole call that is granted; it costs 0.003 dollars."""
        request = self.request(agent)
        assert (await self.reserve(request)).refusal is None
        return await self.settle(request, TokenCounts(input=given, output=written))

    async def money(self, agent: str = "ada") -> tuple[float, float]:
        """What the agent has spent today, and what is reserved, by a limit that is far away."""
        kept, self.limits[agent] = self.limits.get(agent), SpendingLimits(money_per_day=1_000_000)
        (state,) = [each for each in (await self.ledger.budget(agent)).limits if each.whose == agent]
        if kept is None:
            del self.limits[agent]
        else:
            self.limits[agent] = kept
        return state.spent, state.reserved


@asynccontextmanager
async def ledger_hive() -> AsyncIterator[LedgerHive]:
    """A ledger in a database of its own."""
    with tempfile.TemporaryDirectory(prefix="hive-", dir=MEMORY) as directory:
        database = await Database.open(Path(directory) / "hive.sqlite")
        writing = asyncio.create_task(database.run())
        try:
            yield LedgerHive(database)
        finally:
            database.finish()
            await writing
            await database.close()
