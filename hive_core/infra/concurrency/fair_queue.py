"""A limit of concurrent work that parties share in turns."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager


class QueueFull(Exception):
    """A party has as much work waiting as it may have."""


class FairQueue:
    """Slots for work of several parties, each named by a string.

    A party has at most `per_party` of the `slots` at a time, and at most `waiting` further pieces of work in the queue.
    A free slot goes to the party whose last turn is longest ago, so that no party can delay another by more than the
    work that is in progress.
    """

    def __init__(self, slots: int, per_party: int, waiting: int) -> None:
        self._free = slots
        self._per_party = per_party
        self._most_waiting = waiting
        self._running: Counter[str] = Counter()
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}
        """By party; a party goes to the end with each turn."""

    @asynccontextmanager
    async def slot(self, party: str) -> AsyncIterator[None]:
        """Wait for a slot and hold it for the block. Raises QueueFull."""
        release = await self.acquire(party)
        try:
            yield
        finally:
            release()

    async def acquire(self, party: str) -> Callable[[], None]:
        """Wait for a slot, and return the function that gives it back, to be called once. Raises QueueFull."""
        if len(self._waiting.get(party, ())) >= self._most_waiting and not self._has_turn(party):
            raise QueueFull
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(party, deque()).append(turn)
        self._hand_out()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # It got the slot and was cancelled before it could run.
                self._release(party)
            else:
                self._drop(party, turn)
            raise
        return lambda: self._release(party)

    def _has_turn(self, party: str) -> bool:
        return self._free > 0 and self._running[party] < self._per_party

    def _hand_out(self) -> None:
        while (party := next((party for party in self._waiting if self._has_turn(party)), None)) is not None:
            queue = self._waiting[party]
            turn = queue.popleft()
            if turn.cancelled():  # Its caller has gone in this iteration of the loop, and has not dropped it yet.
                if not queue:
                    del self._waiting[party]
                continue
            del self._waiting[party]
            if queue:
                self._waiting[party] = queue
            self._free -= 1
            self._running[party] += 1
            turn.set_result(None)

    def _drop(self, party: str, turn: asyncio.Future[None]) -> None:
        queue = self._waiting.get(party)
        if queue is not None and turn in queue:
            queue.remove(turn)
            if not queue:
                del self._waiting[party]

    def _release(self, party: str) -> None:
        self._free += 1
        self._running[party] -= 1
        if not self._running[party]:
            del self._running[party]
        self._hand_out()
