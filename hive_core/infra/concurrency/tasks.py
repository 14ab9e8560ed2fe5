"""Background tasks, coroutines that run to completion even if their caller is cancelled, and locks by key."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import structlog

from hive_core.errors import HiveError

T = TypeVar("T")

_log = structlog.get_logger(__name__)


class BackgroundTasks:
    """Tasks that no caller waits for. Their failures are logged.

    The event loop keeps only weak references to tasks, so this class keeps the strong ones.
    """

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, work: Coroutine[Any, Any, None], *, name: str | None = None) -> asyncio.Task[None]:
        """Run `work` as a task, and return the task."""
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._end)
        return task

    async def close(self) -> None:
        """Cancel all tasks and wait until they have ended."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _end(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("background task failed", task=task.get_name(), exc_info=error)


async def shield_to_completion(work: Coroutine[Any, Any, T]) -> T:
    """Run `work` and return its result.

    If the caller is cancelled, it still waits for the end of `work`; a failure of `work` is then logged.
    """
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        log_failure(task)
        raise


async def finish_detached(task: asyncio.Future[T]) -> T:
    """Return the result of `task`, which goes on if the caller is cancelled; a failure of it is logged then."""
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        task.add_done_callback(log_failure)
        raise


def log_failure(task: asyncio.Future[Any]) -> None:
    """Log the failure of a task that has ended after its caller was cancelled."""
    if task.cancelled() or (error := task.exception()) is None:
        return
    if isinstance(error, HiveError):  # Expected, for example while the daemon stops.
        _log.warning("failed after its caller was cancelled", code=error.code, error=error.message)
    else:
        _log.error("failed after its caller was cancelled", exc_info=error)


class KeyedLocks:
    """Locks by key, which exist only while they are in use."""

    def __init__(self) -> None:
        self._locks: dict[tuple[str, str], tuple[asyncio.Lock, int]] = {}

    @asynccontextmanager
    async def hold(self, key: tuple[str, str]) -> AsyncIterator[None]:
        """Hold the lock of `key`, waiting for it if it is held."""
        lock, users = self._locks.get(key, (asyncio.Lock(), 0))
        self._locks[key] = (lock, users + 1)
        try:
            async with lock:
                yield
        finally:
            lock, users = self._locks[key]
            if users == 1:
                del self._locks[key]
            else:
                self._locks[key] = (lock, users - 1)
