"""Wake-ups: one bell per recipient, rung when there may be something for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Bells:
    """Long polls wait on their recipient's bell. Ringing wakes all who wait, and costs nothing if nobody does."""

    def __init__(self) -> None:
        self._waiting: dict[str, set[Ring]] = {}
        self.closed = False

    def listen(self, name: str) -> Ring:
        """Hear every ring from now on; look for work after this, and only then wait."""
        return Ring(self._waiting.setdefault(name, set()))

    def expect(self, name: str) -> None:
        """Say that there will be something for `name`: who waits may queue up behind it before the bell rings."""
        for ring in self._waiting.get(name, ()):
            if ring.expected is not None:
                ring.expected()

    def ring(self, name: str) -> None:
        """Wake whoever waits for `name`."""
        for ring in self._waiting.get(name, ()):
            ring.wake()

    def close(self) -> None:
        """Wake everybody for the last time."""
        self.closed = True
        for name in self._waiting:
            self.ring(name)

    def listening(self, name: str) -> int:
        """How many long polls wait for `name`."""
        return len(self._waiting.get(name, ()))


class Ring:
    """One listener's place; to be used in a `with` block. `expected` is called at once when something is expected."""

    def __init__(self, places: set[Ring]) -> None:
        self.ended = False
        self.expected: Callable[[], None] | None = None
        self._places = places
        self._rung = asyncio.get_running_loop().create_future()
        places.add(self)

    def __enter__(self) -> Ring:
        return self

    def __exit__(self, *_: object) -> None:
        self._places.discard(self)

    def wake(self) -> None:
        """Wake this listener alone."""
        if not self._rung.done():
            self._rung.set_result(None)

    def end(self) -> None:
        """Wake this listener alone, and for the last time: `ended` tells it to give up."""
        self.ended = True
        self.wake()

    async def wait(self, seconds: float) -> bool:
        """Wait for a ring, at most `seconds`; whether there was one. Then listens for the next."""
        if not self._rung.done() and seconds > 0:
            await asyncio.wait([self._rung], timeout=seconds)
        rang = self._rung.done()
        if rang:
            self._rung = asyncio.get_running_loop().create_future()
        return rang
