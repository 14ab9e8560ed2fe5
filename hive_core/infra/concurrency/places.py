"""Places for work that may take long, of which no party keeps the others waiting for long."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from hive_core.infra.concurrency.fair_queue import FairQueue
from hive_core.infra.concurrency.tasks import KeyedLocks

_TICK = 0.001
"""Timers of asyncio may be early by less than that."""


class GaveWay(Exception):
    """The work was ended for others: too many took long, and it was the slowest of them."""


@dataclass(eq=False)
class Holder:
    """Work that goes on. `done` counts what it has brought about so far, which tells the slow from the quick."""

    party: str
    began: float
    limit: asyncio.Timeout
    release: Callable[[], None]
    done: int = 0
    long: bool = False
    ending: bool = False

    def add(self, done: int) -> None:
        """Count more that it has brought about."""
        self.done += done

    def rate(self, now: float) -> float:
        """Return what it brings about in a second."""
        return self.done / max(now - self.began, 1.0)


class Places:
    """A few places for work of parties, each named by a string; a party has one piece of work at a time.

    A free place goes to the party whose last turn is longest ago. Work that has had its place for `turn_seconds` goes
    on without it as soon as others wait, so these wait for so long at most for each of those before them. When more
    than `most_long` go on so, the slowest of them is ended.
    """

    def __init__(self, at_once: int, turn_seconds: float, most_long: int) -> None:
        self._turn_seconds = turn_seconds
        self._most_long = most_long
        self._queue = FairQueue(at_once, 1, sys.maxsize)
        self._own = KeyedLocks()
        self._holders: list[Holder] = []
        self._waiting = 0

    def parties(self) -> list[str]:
        """Return the parties whose work goes on, by name."""
        return sorted({holder.party for holder in self._holders})

    @asynccontextmanager
    async def hold(self, party: str) -> AsyncIterator[Holder]:
        """Wait for a place, and hold it within the block. Raises GaveWay if the block was ended for others."""
        loop = asyncio.get_running_loop()
        async with self._own.hold(("place", party)):
            release = await self._wait(party)
            # It is made to expire when the work has to give way.
            limit = asyncio.timeout(None)
            holder = Holder(party, loop.time(), limit, release)
            self._holders.append(holder)
            timer = loop.call_at(holder.began + self._turn_seconds + _TICK, self._make_way)
            try:
                async with limit:
                    yield holder
            except TimeoutError:
                if limit.expired():
                    raise GaveWay from None
                raise
            finally:
                timer.cancel()
                self._holders.remove(holder)
                if not holder.long:
                    release()

    async def _wait(self, party: str) -> Callable[[], None]:
        self._waiting += 1
        # After it was asked for: if a place is free, nobody has to make way.
        asyncio.get_running_loop().call_soon(self._make_way)
        try:
            return await self._queue.acquire(party)
        finally:
            self._waiting -= 1

    def _make_way(self) -> None:
        """Let the work that has had its turn go on without a place, if others wait for one."""
        now = asyncio.get_running_loop().time()
        over = [holder for holder in self._holders if not holder.long and now - holder.began >= self._turn_seconds]
        for holder in over[: self._waiting]:
            holder.long = True
            holder.release()
        long = [holder for holder in self._holders if holder.long and not holder.ending]
        for holder in sorted(long, key=lambda holder: holder.rate(now))[: max(0, len(long) - self._most_long)]:
            holder.ending = True
            holder.limit.reschedule(now)
