"""One watcher of units: a bounded queue of what happened to them, without repetitions and without late news."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator

from hive_core.infra.systemd.units import UnitProperties, is_late

MOST_WAITING = 1_000


class Watch(AsyncIterator[UnitProperties]):
    """States of the units whose names begin with `prefix`, each different from the unit's one before and newer.

    One that reads too slowly loses what lies between: the newest state of each unit is always kept.
    """

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self._newest: dict[str, UnitProperties] = {}
        self._waiting: deque[UnitProperties] = deque()
        self._news = asyncio.Event()
        self._ended = False

    @property
    def known(self) -> list[str]:
        """Names of the units that were heard of and not forgotten."""
        return list(self._newest)

    def put(self, state: UnitProperties) -> None:
        """Take a state of any unit."""
        if self._ended or not state.name.startswith(self.prefix):
            return
        newest = self._newest.get(state.name)
        if newest is not None and (newest == state or is_late(newest, state)):
            return
        self._newest[state.name] = state
        self._waiting.append(state)
        if len(self._waiting) > MOST_WAITING:
            self._waiting = deque({waiting.name: waiting for waiting in self._waiting}.values())
        self._news.set()

    def forget(self, name: str) -> None:
        """systemd has unloaded the unit: what it tells of it from now on is about a new one."""
        self._newest.pop(name, None)

    def end(self) -> None:
        """Nothing more will come: what waits is still handed out."""
        self._ended = True
        self._news.set()

    async def __anext__(self) -> UnitProperties:
        while not self._waiting:
            if self._ended:
                raise StopAsyncIteration
            self._news.clear()
            await self._news.wait()
        return self._waiting.popleft()
