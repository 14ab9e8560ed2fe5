"""A client that wakes a JetStream consumer: `python -m tests.benchmarks.wakeups_of_jetstream ADDRESS IDLE`."""

from __future__ import annotations

import asyncio
import sys
import time

import nats
from nats.js.client import JetStreamContext

from tests.benchmarks.client import serve
from tests.benchmarks.wakeups_of_hive import PAUSE_SECONDS

_WAIT_SECONDS = 300.0


async def main(address: str, idle: int) -> None:
    """Rounds of so many messages: for each the seconds from publishing until the waiting consumer has it."""
    sender = (await nats.connect(address)).jetstream()
    await sender.add_stream(name="wake", subjects=["wake.*"], storage="file")
    waiting = []
    for number in range(idle):
        consumer = await _consumer(address, f"idle{number}")
        waiting.append(asyncio.create_task(consumer.fetch(1, timeout=_WAIT_SECONDS)))
    receiver = await _consumer(address, "bob")

    async def wake() -> float:
        polling = asyncio.create_task(receiver.fetch(1, timeout=_WAIT_SECONDS))
        await asyncio.sleep(PAUSE_SECONDS)
        started = time.perf_counter()
        sending = asyncio.create_task(sender.publish("wake.bob", b"x" * 512))
        (message,) = await polling
        seconds = time.perf_counter() - started
        await sending
        await message.ack_sync()
        return seconds

    async def wake_often(count: int) -> list[float]:
        return [await wake() for _ in range(count)]

    await serve(wake_often)
    for task in waiting:
        task.cancel()


async def _consumer(address: str, name: str) -> JetStreamContext.PullSubscription:
    """A durable consumer with a connection of its own, as every agent has one."""
    stream = (await nats.connect(address)).jetstream()
    return await stream.pull_subscribe(f"wake.{name}", durable=name, stream="wake")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
