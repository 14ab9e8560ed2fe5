"""The time and work that the relay adds to streams of a model, beside a bare pass-through of aiohttp on one core.

The relay asks a daemon's end with a ledger on a real disk before each call; the pass-through sends on what comes.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
import uvloop

from tests.benchmarks import proc
from tests.benchmarks.bench_directory import say
from tests.benchmarks.figure import Bound, Figure, percentile
from tests.benchmarks.relay_sides import pass_through, relay_side, vendor

STREAMS = 50
EVENTS = 100
"""Of a stream, in a second."""
ROUNDS = 5
FIRST_CALLS = 1_000
CALLS = 10_000
_BODY = {"model": "m", "stream": True, "max_tokens": 100, "messages": [{"role": "user", "content": "x" * 4_000}]}


def run(directory: Path) -> list[Figure]:
    """50 streams of 100 events a second; then calls one after another, and the memory after them."""
    return uvloop.run(_run(directory))


async def _run(directory: Path) -> list[Figure]:
    first: dict[str, list[list[float]]] = {"relay": [], "pass-through": [], "direct": []}
    shares: dict[str, list[float]] = {"relay": [], "pass-through": []}
    async with AsyncExitStack() as stack:
        address = await stack.enter_async_context(vendor(EVENTS))
        relay = await stack.enter_async_context(relay_side(directory, address))
        plain = await stack.enter_async_context(pass_through(address))
        for number in range(ROUNDS + 1):
            for name, url, pid in (
                ("direct", f"{address}/v1/messages", 0),
                ("pass-through", plain.url, plain.pid),
                ("relay", relay.url, relay.pid),
            ):
                before = proc.cpu_seconds(pid) if pid else 0.0
                times, seconds = await _round(url)
                if number:  # The first round warms up.
                    first[name].append(times)
                    if pid:
                        shares[name].append(100 * (proc.cpu_seconds(pid) - before) / seconds)
            say(f"round {number} of {ROUNDS}")
        memory = await _memory(relay.url, relay.pid)
    figures = []
    for text, part, most in (("p50", 0.5, 3.0), ("p99", 0.99, 10.0)):
        found = {name: [percentile(times, part) for times in rounds] for name, rounds in first.items()}
        figures.append(
            Figure(
                f"time to the first byte, {STREAMS} streams, {text}",
                "ms",
                found["relay"],
                found["pass-through"],
                "aiohttp pass-through",
                Bound("at most", most, "difference"),
            )
        )
        figures.append(Figure(f"  the same without either, {text}", "ms", found["direct"]))
    figures.append(
        Figure("  processor time", "% of a core", shares["relay"], shares["pass-through"], "aiohttp pass-through")
    )
    figures.append(
        Figure(
            f"memory after {CALLS:,} calls, beside that after 1,000",
            "MB",
            [memory[1]],
            [memory[0]],
            "after 1,000",
            Bound("at most", 2, "difference"),
        )
    )
    return figures


async def _round(url: str) -> tuple[list[float], float]:
    """Start streams a little apart, as agents do; return the times to the first byte in milliseconds."""
    started = time.perf_counter()
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

        async def one(number: int) -> list[float]:
            await asyncio.sleep(number / STREAMS)
            found = []
            for _ in range(2):
                begun = time.perf_counter()
                async with session.post(url, json=_BODY) as answer:
                    assert answer.status == 200, await answer.text()
                    await answer.content.readany()
                    found.append((time.perf_counter() - begun) * 1_000)
                    async for _ in answer.content.iter_any():
                        pass
            return found

        times = await asyncio.gather(*(one(number) for number in range(STREAMS)))
    return list(itertools.chain(*times)), time.perf_counter() - started


async def _memory(url: str, pid: int) -> tuple[float, float]:
    """Make short calls, some at a time, and return the memory after the first ones and after all, in MB."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

        async def some(count: int) -> None:
            for _ in range(count):
                async with session.post(url, json={**_BODY, "model": "short"}) as answer:
                    await answer.read()

        async def many(count: int) -> float:
            await asyncio.gather(*(some(count // STREAMS) for _ in range(STREAMS)))
            return proc.resident_mb(pid)

        return await many(FIRST_CALLS), await many(CALLS - FIRST_CALLS)
