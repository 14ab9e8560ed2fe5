"""The spending of agents over a real database, with a clock of the test and harnesses that only note what they hear."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from hive_core.errors import HiveError
from hive_core.gate.policy import Principal
from hive_core.infra.telemetry.events import EventHub
from hive_core.messaging import Broker, Directory, Member
from hive_core.outside.spending import ModelSpending
from hive_core.protocol import HarnessState
from hive_core.protocol.models.link import RelayReserve
from hive_core.protocol.models.usage import TokenCounts
from hive_core.protocol.names import OPERATOR
from tests.unit.core.messaging.messaging_hive import UNLIMITED
from tests.unit.core.outside.models.ledger_hive import LedgerHive, ledger_hive
from tests.unit.core.outside.network.network_hive import FakeAgents

ROOT = Principal("operator", "operator", "operator:root")


class SpendingHive:
    """ada and bob, whose harnesses are in the states that the test says."""

    def __init__(self, ledger: LedgerHive) -> None:
        self.money = ledger
        self.database = ledger.database
        self.agents = FakeAgents()
        self.states: dict[str, HarnessState] = {}
        self.told: list[str] = []
        """Agents whose harness was told to go on."""
        self.unreachable: set[str] = set()
        self.directory = Directory()
        self.broker = Broker(
            self.database, self.directory, EventHub(), inbox_limit=10_000, lease_seconds=60.0, budgets=UNLIMITED
        )
        for name in ("ada", "bob"):
            self.agents.put(name, {})
            self.directory.put(Member(name, "agent"))
        self.restart()

    def restart(self, *, has_providers: bool = True) -> None:
        """Replace the ledger and its view by ones that know only the database."""
        self.money.restart()
        self.spending = ModelSpending(
            self.money.ledger,
            agents=self.agents,
            broker=self.broker,
            state_of=lambda name: self.states.get(name, "idle"),
            let_go_on=self._hear,
            has_providers=has_providers,
        )

    async def reserve(self, agent: str = "ada") -> RelayReserve | None:
        """Ask for a call as the relay does, and tell what there is to tell; None if it is refused."""
        request = self.money.request(agent)
        found = await self.money.reserve(request)
        for notice in found.notices:
            self.spending.notify(notice)
        return request if found.granted else None

    async def spend(self, agent: str = "ada") -> bool:
        """Make a whole call, which costs 0.003 dollars; return False if it is refused."""
        request = await self.reserve(agent)
        if request is None:
            return False
        for notice in await self.money.settle(request, TokenCounts(input=1_000, output=1_000)):
            self.spending.notify(notice)
        return True

    async def refuse(self, agent: str = "ada", status: int = 401) -> bool:
        """Make a call that the vendor refuses; return False if it is not passed on."""
        request = await self.reserve(agent)
        if request is None:
            return False
        for notice in await self.money.settle(request, None, "failed", status=status):
            self.spending.notify(notice)
        return True

    async def messages(self) -> list[str]:
        """The messages to the operator, when all is told."""
        await self.settled()
        inbox = await self.broker.peek(OPERATOR, 100)
        return [message.body for message in inbox.messages]

    async def settled(self) -> None:
        """Wait until what is under way in the background has ended."""
        names = ("tell of spending", "let an agent go on")
        await asyncio.gather(*(task for task in asyncio.all_tasks() if task.get_name() in names))

    async def audited(self) -> list[tuple[str, str, str, str]]:
        """The rows of the audit log."""
        query = "SELECT actor, action, subject, detail FROM audit ORDER BY id"
        return await self.database.read(lambda db: [tuple(map(str, row)) for row in db.execute(query)])  # type: ignore[misc]

    async def _hear(self, name: str) -> None:
        if name in self.unreachable:
            raise HiveError("harness_unreachable", f"the harness of {name} cannot be reached", status=503)
        self.told.append(name)


@asynccontextmanager
async def spending_hive() -> AsyncIterator[SpendingHive]:
    """A hive with providers and without limits."""
    async with ledger_hive() as ledger:
        hive = SpendingHive(ledger)
        await hive.broker.open()
        try:
            yield hive
        finally:
            await hive.spending.close()
            hive.broker.close()
