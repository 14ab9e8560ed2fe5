"""A client that is many idle harnesses: `python -m tests.benchmarks.agents.idle_harnesses CORE_SOCKET...`."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from tests.benchmarks.client import serve
from tests.benchmarks.wakeups_of_hive import wait_idle


async def main(sockets: list[Path]) -> None:
    """Rounds do nothing: the harnesses wait until the client ends."""
    waiting = [await wait_idle(socket) for socket in sockets]

    async def wait(_: int) -> int:
        return len(waiting)

    await serve(wait)


if __name__ == "__main__":
    asyncio.run(main([Path(argument) for argument in sys.argv[1:]]))
