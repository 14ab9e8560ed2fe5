"""A bound of the memory that requests under way may take together."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class HeldBytes:
    """The bytes of one request."""

    def __init__(self, room: RequestRoom) -> None:
        self._room = room
        self.size = 0

    def add(self, size: int) -> bool:
        """Hold more bytes; return False, and hold none of them, if all requests would have too many."""
        if self._room.used + size > self._room.most:
            return False
        self._room.used += size
        self.size += size
        return True


class RequestRoom:
    """The bytes of all requests; each takes a multiple of its size while it is checked."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.used = 0

    @contextmanager
    def hold(self) -> Iterator[HeldBytes]:
        """Hold bytes of one request until the end of the block."""
        held = HeldBytes(self)
        try:
            yield held
        finally:
            self.used -= held.size
