"""Pools of threads for each kind of work."""

from __future__ import annotations

import asyncio
import threading

from hive_core.infra.concurrency.threads import LIFECYCLE, READS, Threads


async def test_a_full_pool_delays_no_other() -> None:
    """While every thread for reads is held by one that does not end, the lifecycle goes on."""
    end = threading.Event()
    reads = [asyncio.create_task(READS.run(end.wait)) for _ in range(50)]
    try:
        async with asyncio.timeout(10):
            assert await LIFECYCLE.run(lambda: threading.current_thread().name) != threading.current_thread().name
    finally:
        end.set()
    assert await asyncio.gather(*reads) == [True] * 50


async def test_arguments_and_failures_pass() -> None:
    """A function gets its arguments, and what it raises reaches the caller."""
    threads = Threads("test", 1)
    assert await threads.run(sorted, [2, 1], reverse=True) == [2, 1]
    try:
        await threads.run(int, "x")
    except ValueError:
        return
    raise AssertionError("the failure is lost")
