"""Wake-ups of long polls, by name."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Wakeups:
    """Wakes the long polls of a name, such as a recipient, when there may be something for it."""

    def __init__(self) -> None:
        self._waiters: dict[str, set[Waiter]] = {}
        self.closed = False

    def add_waiter(self, name: str) -> Waiter:
        """Register a waiter, which misses no wake-up from now on: first register, then query, then wait."""
        return Waiter(self._waiters.setdefault(name, set()))

    def announce(self, name: str) -> None:
        """Announce a pending delivery for `name`, so that long polls queue their lease behind it now."""
        for waiter in self._waiters.get(name, ()):
            if waiter.expected is not None:
                waiter.expected()

    def wake(self, name: str) -> None:
        """Wake all long polls of `name`."""
        for waiter in self._waiters.get(name, ()):
            waiter.wake()

    def close(self) -> None:
        """Wake all long polls for the last time."""
        self.closed = True
        for name in self._waiters:
            self.wake(name)

    def count_waiters(self, name: str) -> int:
        """Return how many long polls wait for `name`."""
        return len(self._waiters.get(name, ()))


class Waiter:
    """One registered long poll, used in a `with` block. `expected` is called when a delivery is announced."""

    def __init__(self, waiters: set[Waiter]) -> None:
        self.ended = False
        self.expected: Callable[[], None] | None = None
        self._waiters = waiters
        self._woken = asyncio.get_running_loop().create_future()
        waiters.add(self)

    def __enter__(self) -> Waiter:
        return self

    def __exit__(self, *_: object) -> None:
        self._waiters.discard(self)

    def wake(self) -> None:
        """Wake this waiter alone."""
        if not self._woken.done():
            self._woken.set_result(None)

    def end(self) -> None:
        """Wake this waiter alone and set `ended`, so that its long poll ends."""
        self.ended = True
        self.wake()

    async def wait(self, seconds: float) -> bool:
        """Wait for a wake-up, at most `seconds`; returns True if there was one."""
        if not self._woken.done() and seconds > 0:
            await asyncio.wait([self._woken], timeout=seconds)
        rang = self._woken.done()
        if rang:
            self._woken = asyncio.get_running_loop().create_future()
        return rang
