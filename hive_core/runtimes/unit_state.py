"""Changes of units' states for those who watch, and the delay of restarts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from weakref import WeakSet

from hive_core.runtimes.base import UnitState


class StateSubscription(AsyncIterator[UnitState]):
    """One watcher's changes. It may read slowly: back-off bounds how fast changes come, so none is dropped."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[UnitState | None] = asyncio.Queue()

    def put(self, state: UnitState | None) -> None:
        self._queue.put_nowait(state)

    async def __anext__(self) -> UnitState:
        state = await self._queue.get()
        if state is None:
            self._queue.put_nowait(None)
            raise StopAsyncIteration
        return state


class StateChanges:
    """The watchers of one runtime. A watcher that nobody holds any more is forgotten."""

    def __init__(self) -> None:
        self._watchers: WeakSet[StateSubscription] = WeakSet()
        self._closed = False

    def publish(self, state: UnitState) -> None:
        """Hand a change to every watcher; never waits."""
        for watcher in list(self._watchers):
            watcher.put(state)

    def watch(self) -> StateSubscription:
        """Every change from this call on."""
        watcher = StateSubscription()
        if self._closed:
            watcher.put(None)
        self._watchers.add(watcher)
        return watcher

    def close(self) -> None:
        """End every watcher after the changes that it has not read yet."""
        self._closed = True
        for watcher in list(self._watchers):
            watcher.put(None)


@dataclass(frozen=True)
class BackOff:
    """How long to wait after a crash, in seconds: `first`, then twice as long each time, at most `longest`.

    Having run for `reset_after` seconds makes the next crash the first again.
    """

    first: float = 0.5
    longest: float = 60.0
    reset_after: float = 60.0

    def after(self, delay: float | None, ran: float) -> float:
        """The next wait: `delay` is the one before (None: there was none), `ran` how long the harness ran since."""
        if delay is None or ran >= self.reset_after:
            return self.first
        return min(delay * 2, self.longest)
