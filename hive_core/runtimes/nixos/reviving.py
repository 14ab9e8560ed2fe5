"""Starting containers again that have crashed, ever more rarely if they crash again and again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import structlog

from hive_core.errors import HiveError
from hive_core.runtimes.base import UnitState
from hive_core.runtimes.local.supervisor import BackOff

log = structlog.get_logger(__name__)


class Reviving:
    """`start` is called for a container that waits in `backoff`; it is to look whether that is still so.

    What it refuses is tried again, until the container is started or stopped by somebody else.
    """

    def __init__(self, start: Callable[[str], Awaitable[None]], back_off: BackOff) -> None:
        self._start = start
        self._back_off = back_off
        self._delays: dict[str, float] = {}
        self._began: dict[str, float] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._newest: dict[str, asyncio.Task[None]] = {}

    async def run(self, changes: AsyncIterator[UnitState]) -> None:
        """Follow what becomes of containers, until that ends."""
        now = asyncio.get_running_loop().time
        async for state in changes:
            name = state.name
            if state.lifecycle in ("stopped", "failed") or (state.lifecycle == "starting" and state.restarts == 0):
                self._delays.pop(name, None)
                self._newest.pop(name, None)
            if state.lifecycle == "starting":
                self._began[name] = now()
            if state.lifecycle == "backoff":
                ran = now() - self._began.pop(name, now())
                delay = self._delays[name] = self._back_off.after(self._delays.get(name), ran)
                task = asyncio.create_task(self._revive(name, delay), name=f"start {name} again")
                self._newest[name] = task
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Start nothing more."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _revive(self, name: str, delay: float) -> None:
        await asyncio.sleep(delay)
        while True:
            try:
                await self._start(name)
                return
            except HiveError as error:
                log.warning("container not started again", agent=name, code=error.code, error=error.message)
            delay = self._back_off.after(delay, 0.0)
            await asyncio.sleep(delay)
            if self._newest.get(name) is not asyncio.current_task():
                return  # It was told since that it waits anew, which is another's turn, or that it does not wait.
