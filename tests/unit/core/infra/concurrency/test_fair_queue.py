"""The limit of concurrent work that parties share in turns."""

from __future__ import annotations

import asyncio

import pytest

from hive_core.infra.concurrency.fair_queue import FairQueue, QueueFull


class Work:
    """Pieces of work that hold a slot until they are told to end; `order` has the parties as they got theirs."""

    def __init__(self, queue: FairQueue) -> None:
        self._queue = queue
        self.order: list[str] = []
        self.ends: dict[str, asyncio.Event] = {}

    def start(self, piece: str) -> asyncio.Task[None]:
        """Begin a piece of work, named by its party and a digit; it has reached the queue when this returns."""
        self.ends[piece] = asyncio.Event()
        return asyncio.create_task(self._run(piece))

    async def _run(self, piece: str) -> None:
        async with self._queue.slot(piece[:-1]):
            self.order.append(piece)
            await self.ends[piece].wait()


async def turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_party_that_asks_often_does_not_delay_another() -> None:
    """Slots go to the parties in turns, however many pieces of work one of them has in the queue."""
    work = Work(FairQueue(2, 1, 10))
    tasks = [work.start(f"ann{number}") for number in range(5)]
    await turns()
    assert work.order == ["ann0"], "a party has one slot, even if others are free"
    tasks += [work.start("bob0"), work.start("cy0")]
    await turns()
    assert work.order == ["ann0", "bob0"]
    work.ends["ann0"].set()
    await turns()
    assert work.order == ["ann0", "bob0", "ann1"], "ann asked before cy, and is at the end from now on"
    work.ends["ann1"].set()
    await turns()
    assert work.order[3:] == ["cy0"]
    for end in work.ends.values():
        end.set()
    await asyncio.gather(*tasks)
    assert work.order[4:] == ["ann2", "ann3", "ann4"]


async def test_the_queue_of_a_party_is_bounded() -> None:
    """One piece too many of a party is refused; other parties may wait all the same."""
    work = Work(FairQueue(1, 1, 2))
    tasks = [work.start(f"ann{number}") for number in range(4)]
    await turns()
    with pytest.raises(QueueFull):
        await tasks.pop()
    tasks.append(work.start("bob0"))
    await turns()
    assert work.order == ["ann0"]
    for end in work.ends.values():
        end.set()
    await asyncio.gather(*tasks)
    assert sorted(work.order) == ["ann0", "ann1", "ann2", "bob0"]


async def test_a_slot_passes_by_a_caller_that_has_just_gone() -> None:
    """A slot that becomes free in the moment in which a waiting caller is cancelled goes to the next one."""
    queue = FairQueue(1, 1, 5)
    work = Work(queue)
    release = await queue.acquire("ann")
    gone, next_one, other = work.start("bob0"), work.start("bob1"), work.start("cy0")
    await turns()
    gone.cancel()
    release()  # Before the cancelled caller has run again.
    await turns()
    assert gone.cancelled() and work.order == ["bob1"]
    work.ends["bob1"].set()
    work.ends["cy0"].set()
    async with asyncio.timeout(5):
        await asyncio.gather(next_one, other)
        async with queue.slot("ann"):
            pass


async def test_a_caller_that_gives_up_takes_no_slot() -> None:
    """Neither while it waits, nor in the moment in which it gets its slot."""
    queue = FairQueue(1, 1, 5)
    work = Work(queue)
    release = await queue.acquire("ann")
    waiter, unlucky = work.start("bob0"), work.start("cy0")
    await turns()
    waiter.cancel()
    await turns()
    release()
    unlucky.cancel()  # It has been given the slot that ann gave back, and has not run yet.
    await asyncio.gather(waiter, unlucky, return_exceptions=True)
    async with asyncio.timeout(5), queue.slot("bob"):
        pass
    assert work.order == []
