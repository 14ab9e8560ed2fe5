"""A client that publishes to JetStream: `python -m tests.benchmarks.sends_to_jetstream ADDRESS`."""

from __future__ import annotations

import asyncio
import sys
import time

import nats

from tests.benchmarks.client import serve
from tests.benchmarks.sends_to_hive import BODY_BYTES, IN_FLIGHT


async def main(address: str) -> None:
    """Rounds of so many messages: seconds, and the processor time of this client."""
    connection = await nats.connect(address)
    stream = connection.jetstream()
    await stream.add_stream(name="bench", subjects=["bench.*"], storage="file")
    body = b"x" * BODY_BYTES

    async def publish(count: int) -> dict[str, float]:
        left = iter(range(count))

        async def worker() -> None:
            for _ in left:
                await stream.publish("bench.bob", body)

        started, used = time.perf_counter(), time.process_time()
        await asyncio.gather(*(worker() for _ in range(IN_FLIGHT)))
        return {"seconds": time.perf_counter() - started, "cpu": time.process_time() - used}

    await serve(publish)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
