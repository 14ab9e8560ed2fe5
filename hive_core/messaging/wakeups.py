"""Wake-ups: one bell per recipient, rung when there may be something for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Wakeups:
    """Long polls wait on their recipient's bell. Ringing wakes all who wait, and costs nothing if nobody does."""

    def __init__(self) -> None:
        self._waiters: dict[str, set[Waiter]] = {}
        self.closed = False

    def add_waiter(self, name: str) -> Waiter:
        """Hear every ring from now on; look for work after this, and only then wait."""
        return Waiter(self._waiters.setdefault(name, set()))

    def announce(self, name: str) -> None:
        """Say that there will be something for `name`: who waits may queue up behind it before the bell rings."""
        for waiter in self._waiters.get(name, ()):
            if waiter.expected is not None:
                waiter.expected()

    def wake(self, name: str) -> None:
        """Wake whoever waits for `name`."""
        for waiter in self._waiters.get(name, ()):
            waiter.wake()

    def close(self) -> None:
        """Wake everybody for the last time."""
        self.closed = True
        for name in self._waiters:
            self.wake(name)

    def count_waiters(self, name: str) -> int:
        """How many long polls wait for `name`."""
        return len(self._waiters.get(name, ()))


class Waiter:
    """One listener's place; to be used in a `with` block. `expected` is called at once when something is expected."""

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
        """Wake this listener alone."""
        if not self._woken.done():
            self._woken.set_result(None)

    def end(self) -> None:
        """Wake this listener alone, and for the last time: `ended` tells it to give up."""
        self.ended = True
        self.wake()

    async def wait(self, seconds: float) -> bool:
        """Wait for a ring, at most `seconds`; whether there was one. Then listens for the next."""
        if not self._woken.done() and seconds > 0:
            await asyncio.wait([self._woken], timeout=seconds)
        rang = self._woken.done()
        if rang:
            self._woken = asyncio.get_running_loop().create_future()
        return rang
