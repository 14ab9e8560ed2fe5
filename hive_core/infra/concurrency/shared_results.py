"""Results that are computed once for all callers, and kept as long as there is room."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class SharedResults(Generic[K, V]):
    """A cache of results that never change, of at most `most` as `size` measures them; the least used go first.

    Callers that ask for one key at the same time share one computation, which is carried out to its end even if all of
    them are cancelled. A failure is not kept.
    """

    def __init__(self, most: int, size: Callable[[V], int]) -> None:
        self._most = most
        self._size = size
        self._kept: OrderedDict[K, V] = OrderedDict()
        self._used = 0
        self._running: dict[K, asyncio.Task[V]] = {}

    async def get(self, key: K, compute: Callable[[], Awaitable[V]]) -> V:
        """Return the result for `key`, computed by `compute` unless it is known or being computed already."""
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        task = self._running.get(key)
        if task is None:
            task = asyncio.ensure_future(self._compute(key, compute))
            self._running[key] = task
            task.add_done_callback(_retrieve_failure)
        return await asyncio.shield(task)

    async def _compute(self, key: K, compute: Callable[[], Awaitable[V]]) -> V:
        try:
            value = await compute()
        finally:
            del self._running[key]
        size = self._size(value)
        if size <= self._most:
            self._kept[key] = value
            self._used += size
        while self._used > self._most:
            _, old = self._kept.popitem(last=False)
            self._used -= self._size(old)
        return value


def _retrieve_failure(task: asyncio.Task[V]) -> None:
    """Retrieve a failure that no caller is left to see, so that asyncio does not log it."""
    if not task.cancelled():
        task.exception()
