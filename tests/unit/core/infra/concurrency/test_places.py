"""Places that parties hold for long, and how others get theirs."""

from __future__ import annotations

import asyncio

import pytest

from hive_core.infra.concurrency.places import GaveWay, Holder, Places

AT_ONCE = 0.0
NEVER = 1_000.0


class Work:
    """Pieces of work that go on until they are told to end, by party."""

    def __init__(self, places: Places) -> None:
        self._places = places
        self.holders: dict[str, Holder] = {}
        self.tasks: dict[str, asyncio.Task[None]] = {}
        self.ends: dict[str, asyncio.Event] = {}

    async def start(self, *parties: str, done: int = 0) -> None:
        """Begin work of each party, after the other; it has its place when this returns, if it gets one at all."""
        for party in parties:
            self.ends[party] = asyncio.Event()
            self.tasks[party] = asyncio.create_task(self._run(party, done))
            await self.turns()

    async def end(self, party: str) -> None:
        self.ends[party].set()
        await self.tasks[party]
        await self.turns()

    async def turns(self) -> None:
        # A timer of no time is due within the clock's next tick.
        await asyncio.sleep(0.003)

    async def _run(self, party: str, done: int) -> None:
        try:
            async with self._places.hold(party) as holder:
                holder.add(done)
                self.holders[party] = holder
                await self.ends[party].wait()
        finally:
            self.holders.pop(party, None)


async def test_work_that_takes_long_keeps_nobody_waiting() -> None:
    """Those who wait get places when the turns of others are over, whose work goes on; quick work keeps its place."""
    work = Work(Places(2, AT_ONCE, 10))
    await work.start("ann", "bob", "cleo", "dan", "eve")
    assert list(work.holders) == ["ann", "bob", "cleo", "dan", "eve"]
    waiting = Work(Places(2, NEVER, 10))
    await waiting.start("ann", "bob", "cleo")
    assert list(waiting.holders) == ["ann", "bob"] == waiting._places.parties()
    await waiting.end("ann")
    assert list(waiting.holders) == ["bob", "cleo"]
    for each in (work, waiting):
        for party in list(each.holders):
            await each.end(party)
        await each.start("zoe")
        assert list(each.holders) == ["zoe"] and each._places._queue._free == 1
        await each.end("zoe")


async def test_of_too_many_that_take_long_the_slowest_ends() -> None:
    """Beyond the limit of work that takes long, what has brought least is ended, and says so."""
    work = Work(Places(1, AT_ONCE, 2))
    await work.start("quick", done=1_000)
    await work.start("slow", done=1)
    await work.start("quicker", done=2_000)
    assert list(work.holders) == ["quick", "slow", "quicker"]
    await work.start("next")
    assert list(work.holders) == ["quick", "quicker", "next"]
    with pytest.raises(GaveWay):
        await work.tasks["slow"]
    for party in list(work.holders):
        await work.end(party)
    assert work._places._queue._free == 1


async def test_a_party_has_one_place() -> None:
    """Further work of a party waits for its own, however long that takes, and takes no place of others meanwhile."""
    places = Places(2, AT_ONCE, 10)
    first, second = Work(places), Work(places)
    await first.start("ann", "bob")
    await second.start("ann")
    assert list(second.holders) == []
    await first.start("cleo")
    assert list(first.holders) == ["ann", "bob", "cleo"]
    await first.end("ann")
    assert list(second.holders) == ["ann"]
    second.tasks["ann"].cancel()
    await asyncio.wait([second.tasks["ann"]])
    for party in ("bob", "cleo"):
        await first.end(party)
    assert places._queue._free == 2 and places.parties() == []


async def test_timeouts_of_the_work_are_its_own() -> None:
    """A timeout that the work itself raises is passed on as it is."""
    with pytest.raises(TimeoutError):
        async with Places(1, NEVER, 1).hold("ann"):
            raise TimeoutError
