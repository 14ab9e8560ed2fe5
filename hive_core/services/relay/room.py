"""A bound of the memory that requests under way may take together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

MOST_OF_ONE = 64 * 1024 * 1024
"""Of one agent: two of the largest requests."""
ALWAYS = 2 * 1024 * 1024
"""Bytes that an agent may always hold, also when the requests of others take all the room."""


class HeldBytes:
    """The bytes of one request of an agent."""

    def __init__(self, room: RequestRoom, agent: str) -> None:
        self._room = room
        self._agent = agent
        self.size = 0

    def add(self, size: int) -> bool:
        """Hold more bytes; return False, and hold none of them, if the agent's or all requests would have too many."""
        own = self._room.used_by[self._agent] + size
        if own > MOST_OF_ONE or (own > ALWAYS and self._room.used + size > self._room.most):
            return False
        self._change(size)
        return True

    def release(self) -> None:
        """Hold nothing any more."""
        self._change(-self.size)

    def _change(self, size: int) -> None:
        self.size += size
        self._room.used += size
        self._room.used_by[self._agent] += size
        if not self._room.used_by[self._agent]:
            del self._room.used_by[self._agent]


class RequestRoom:
    """The bytes of all requests; each takes a multiple of its size while it is checked."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.used = 0
        self.used_by: Counter[str] = Counter()

    @contextmanager
    def hold(self, agent: str) -> Iterator[HeldBytes]:
        """Hold bytes of one request until the end of the block."""
        held = HeldBytes(self, agent)
        try:
            yield held
        finally:
            held.release()
