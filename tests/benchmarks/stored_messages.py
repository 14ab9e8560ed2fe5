"""A client that fills inboxes: `python -m tests.benchmarks.stored_messages HOST_SOCKET KEPT CORE_SOCKET...`."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

from tests.benchmarks.client import serve
from tests.benchmarks.raw_http import RawConnection, post
from tests.benchmarks.wakeups_of_hive import hello

_SENDERS = 64
_HARNESSES = 16
_INSTANCE = "benchmark-1"


async def main(host: Path, kept: int, agents: list[Path]) -> None:
    """Rounds of so many messages per agent, of which `kept` stay unacknowledged."""

    async def fill(count: int) -> int:
        left = iter([agent.parent.name for _ in range(count) for agent in agents])

        async def send() -> None:
            connection = await RawConnection.open(host)
            for name in left:
                await connection.request(post("/v1/messages", {"to": name, "body": "x" * 512}))
            connection.close()

        await asyncio.gather(*(send() for _ in range(_SENDERS)))
        waiting = iter(agents)

        async def harness() -> None:
            for agent in waiting:
                await _acknowledge(agent, count - kept)

        if count:
            await asyncio.gather(*(harness() for _ in range(_HARNESSES)))
        return count * len(agents)

    await serve(fill)


async def _acknowledge(agent: Path, count: int) -> None:
    connection = await hello(agent)
    while count > 0:
        receive = {"instance": _INSTANCE, "max": min(count, 100)}
        answer: Any = await connection.json(post("/v1/messages/receive", receive))
        ids = [delivery["id"] for delivery in answer["deliveries"]]
        await connection.request(post("/v1/messages/ack", {"instance": _INSTANCE, "ids": ids}))
        count -= len(ids)
    connection.close()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2]), [Path(argument) for argument in sys.argv[3:]]))
