"""A client that wakes a long poll: `python -m tests.benchmarks.wakeups_of_hive HOST_SOCKET CORE_SOCKET IDLE...`."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path

from tests.benchmarks.client import serve
from tests.benchmarks.raw_http import RawConnection, get, post

PAUSE_SECONDS = 0.005
"""Between two messages, so that each one finds the daemon asleep."""

_INSTANCE = "benchmark-1"
_POLL = post("/v1/messages/receive", {"instance": _INSTANCE, "wait_seconds": 300.0})


async def wait_idle(socket: Path) -> RawConnection:
    """Be a harness without work: say hello and idle, then wait for a message, which nobody will send."""
    connection = await hello(socket)
    connection.request(_POLL)
    return connection


async def hello(socket: Path) -> RawConnection:
    """Be the harness of the agent whose socket this is."""
    connection = await RawConnection.open(socket)
    await connection.request(post("/v1/harness/hello", {"instance": _INSTANCE, "version": "0"}))
    await connection.request(post("/v1/harness/state", {"instance": _INSTANCE, "state": "idle"}))
    return connection


async def main(host: Path, recipient: Path, idle: list[Path]) -> None:
    """Rounds of so many messages: for each the seconds from sending until the waiting recipient has it."""
    waiting = [await wait_idle(socket) for socket in idle]
    sender, receiver, other = (
        await RawConnection.open(host),
        await hello(recipient),
        await RawConnection.open(recipient),
    )
    send = post("/v1/messages", {"to": recipient.parent.name, "body": "x" * 512})

    async def wake() -> float:
        polling = receiver.request(_POLL)
        # When a later request of the same agent is answered, the poll has been taken.
        await other.request(get("/v1/whoami"))
        await asyncio.sleep(PAUSE_SECONDS)
        started = time.perf_counter()
        sending = sender.request(send)
        await polling
        seconds = time.perf_counter() - started
        await sending
        delivered = [delivery["id"] for delivery in json.loads(polling.result())["deliveries"]]
        await receiver.request(post("/v1/messages/ack", {"instance": _INSTANCE, "ids": delivered}))
        return seconds

    async def wake_often(count: int) -> list[float]:
        return [await wake() for _ in range(count)]

    await serve(wake_often)
    for connection in waiting:
        connection.close()


if __name__ == "__main__":
    paths = [Path(argument) for argument in sys.argv[1:]]
    asyncio.run(main(paths[0], paths[1], paths[2:]))
