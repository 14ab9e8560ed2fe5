"""A client that sends messages over `host.sock`: `python -m tests.benchmarks.sends_to_hive SOCKET RECIPIENT`."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

from tests.benchmarks.client import serve
from tests.benchmarks.raw_http import RawConnection, post

IN_FLIGHT = 64
BODY_BYTES = 512


async def main(socket: Path, recipient: str) -> None:
    """Rounds of so many messages: seconds, and the processor time of this client."""
    connections = [await RawConnection.open(socket) for _ in range(IN_FLIGHT)]
    request = post("/v1/messages", {"to": recipient, "body": "x" * BODY_BYTES})

    async def send(count: int) -> dict[str, float]:
        left = iter(range(count))

        async def worker(connection: RawConnection) -> None:
            for _ in left:
                await connection.request(request)

        started, used = time.perf_counter(), time.process_time()
        await asyncio.gather(*(worker(connection) for connection in connections))
        return {"seconds": time.perf_counter() - started, "cpu": time.process_time() - used}

    await serve(send)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
