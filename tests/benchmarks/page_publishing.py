"""Events for the benchmark of the page, each with the time when it was due."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

A_SECOND = 50
TEXT = "x" * 400


async def publish_evenly(count: int, publish: Callable[[int], Awaitable[None]]) -> None:
    """Publish `count` events, 50 a second. Each is given when it was due: nanoseconds of the machine's monotonic clock,
    which all processes share.
    """
    start = time.monotonic_ns()
    for number in range(count):
        due = start + number * 1_000_000_000 // A_SECOND
        await asyncio.sleep(max(0.0, (due - time.monotonic_ns()) / 1e9))
        await publish(due)
