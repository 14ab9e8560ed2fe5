"""Subscriptions to changes of units' states, and the delay of restarts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from weakref import WeakSet

from hive_core.runtimes.base import UnitState


class StateSubscription(AsyncIterator[UnitState]):
    """The changes for one subscriber. None is dropped for a slow one, because the back-off limits their rate."""

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
    """The subscribers of one runtime. A subscription without references is forgotten."""

    def __init__(self) -> None:
        self._watchers: WeakSet[StateSubscription] = WeakSet()
        self._closed = False

    def publish(self, state: UnitState) -> None:
        """Give a change to every subscriber; never waits."""
        for watcher in list(self._watchers):
            watcher.put(state)

    def watch(self) -> StateSubscription:
        """Subscribe to every change from this call on."""
        watcher = StateSubscription()
        if self._closed:
            watcher.put(None)
        self._watchers.add(watcher)
        return watcher

    def close(self) -> None:
        """End every subscription after the changes that it has not read yet."""
        self._closed = True
        for watcher in list(self._watchers):
            watcher.put(None)


@dataclass(frozen=True)
class BackOff:
    """The pause after a crash, in seconds: `first`, then twice as long each time, at most `longest`.

    After a run of `reset_after` seconds the next crash counts as the first.
    """

    first: float = 0.5
    longest: float = 60.0
    reset_after: float = 60.0

    def after(self, delay: float | None, ran: float) -> float:
        """Return the next pause; `delay` is the previous one (None: there was none), `ran` the length of the run."""
        if delay is None or ran >= self.reset_after:
            return self.first
        return min(delay * 2, self.longest)
