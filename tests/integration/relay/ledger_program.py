"""A ledger in a process of its own that makes calls until it is killed, and prints what it was told of each."""

from __future__ import annotations

import asyncio
import itertools
import sys
from pathlib import Path

from hive_core.infra.database.database import Database
from hive_core.outside.models.ledger import Ledger
from hive_core.protocol.models.limits import SpendingLimits
from hive_core.protocol.models.link import RelayReserve, RelaySettle
from hive_core.protocol.models.usage import TokenCounts
from tests.unit.core.outside.models.ledger_hive import PROVIDERS

AGENTS = 20


def say(what: str, call: str) -> None:
    """Print a line at once."""
    sys.stdout.write(f"{what} {call}\n")
    sys.stdout.flush()


async def main(path: Path, instance: str) -> None:
    database = await Database.open(path)
    writing = asyncio.create_task(database.run())
    limits = SpendingLimits(money_total=1_000)
    ledger = Ledger(database, PROVIDERS, lambda _: limits, limits)
    await ledger.open_relay(instance)
    numbers = itertools.count(1)

    async def reserve(agent: str) -> str:
        name = f"{instance}-{next(numbers)}"
        request = RelayReserve(id=1, call=name, agent=agent, provider="plain", model="m", bytes=3_000, max_tokens=1_000)
        granted = (await ledger.reserve(request, instance)).granted
        say("reserved" if granted else "refused", name)
        return name

    async def call(agent: str) -> None:
        while True:
            name = await reserve(agent)
            tokens = TokenCounts(input=100, output=50)
            await ledger.settle(RelaySettle(id=1, call=name, outcome="done", tokens=tokens, complete=True))
            say("settled", name)

    await reserve("a0")  # It is under way at the end in any case.
    await asyncio.gather(writing, *(call(f"a{number}") for number in range(AGENTS)))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
