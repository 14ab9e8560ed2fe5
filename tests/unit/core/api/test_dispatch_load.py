"""Limits of expensive requests."""

from __future__ import annotations

import asyncio

import pytest

from hive_core.api.dispatch import LoadLimits, TooManyRequests


class Work:
    """Work that ends when it is told to; `running` is the number in progress."""

    def __init__(self) -> None:
        self.running = 0
        self.end = asyncio.Event()

    async def __call__(self) -> str:
        self.running += 1
        try:
            await self.end.wait()
        finally:
            self.running -= 1
        return "answer"


async def turns() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_heavy_requests_of_a_caller_take_turns() -> None:
    """One of a caller runs, some wait, and the others are told to ask again; another caller has its own turn."""
    limits, work = LoadLimits(), Work()
    asked = [asyncio.create_task(limits.run_heavy("ann", work)) for _ in range(30)]
    await turns()
    assert work.running == 1
    asked.append(asyncio.create_task(limits.run_heavy("bob", work)))
    await turns()
    assert work.running == 2
    work.end.set()
    answers = await asyncio.gather(*asked, return_exceptions=True)
    refused = [answer for answer in answers if isinstance(answer, TooManyRequests)]
    assert answers.count("answer") == 1 + 8 + 1
    assert [(each.code, each.status, each.retry_after) for each in refused] == [("too_many_reads", 429, 1)] * 21


async def test_hanging_up_frees_no_turn() -> None:
    """Work goes on when its caller is gone, so it counts until it has ended."""
    limits, work = LoadLimits(), Work()
    for _ in range(5):
        gone = asyncio.create_task(limits.run_heavy("ann", work))
        await turns()
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)
    assert work.running == 1
    last = asyncio.create_task(limits.run_heavy("ann", work))
    await turns()
    assert work.running == 1
    work.end.set()
    assert await last == "answer"


async def test_a_caller_follows_a_few_logs() -> None:
    """Each that is followed takes a process or a file, so there are at most eight; one that ends makes room."""
    limits, work = LoadLimits(), Work()
    following = [asyncio.create_task(limits.run_following("ann", work)) for _ in range(8)]
    await turns()
    with pytest.raises(TooManyRequests) as refused:
        await limits.run_following("ann", work)
    assert refused.value.code == "too_many_followers"
    other = asyncio.create_task(limits.run_following("bob", work))
    following[0].cancel()
    await asyncio.gather(following.pop(0), return_exceptions=True)
    following += [asyncio.create_task(limits.run_following("ann", work)), other]
    await turns()
    assert work.running == 9
    work.end.set()
    assert await asyncio.gather(*following) == ["answer"] * 9
