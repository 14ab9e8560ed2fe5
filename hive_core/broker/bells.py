"""Wake-ups: one bell per recipient, rung when there may be something for it."""

from __future__ import annotations

import asyncio


class Bells:
    """Long polls wait on their recipient's bell. Ringing wakes all who wait, and costs nothing if nobody does."""

    def __init__(self) -> None:
        self._waiting: dict[str, set[asyncio.Future[None]]] = {}
        self.closed = False

    def listen(self, name: str) -> Ring:
        """Hear every ring from now on; look for work after this, and only then wait."""
        return Ring(self._waiting.setdefault(name, set()))

    def ring(self, name: str) -> None:
        """Wake whoever waits for `name`."""
        for future in self._waiting.get(name, ()):
            if not future.done():
                future.set_result(None)

    def close(self) -> None:
        """Wake everybody for the last time."""
        self.closed = True
        for name in self._waiting:
            self.ring(name)

    def listening(self, name: str) -> int:
        """How many long polls wait for `name`."""
        return len(self._waiting.get(name, ()))


class Ring:
    """One listener's place; to be used in a `with` block."""

    def __init__(self, places: set[asyncio.Future[None]]) -> None:
        self.ended = False
        self._places = places
        self._future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        places.add(self._future)

    def __enter__(self) -> Ring:
        return self

    def __exit__(self, *_: object) -> None:
        self._places.discard(self._future)

    def end(self) -> None:
        """Wake this listener alone, and for the last time: `ended` tells it to give up."""
        self.ended = True
        if not self._future.done():
            self._future.set_result(None)

    async def wait(self, seconds: float) -> bool:
        """Wait for a ring, at most `seconds`; whether there was one. Then listens for the next."""
        if not self._future.done() and seconds > 0:
            await asyncio.wait([self._future], timeout=seconds)
        rang = self._future.done()
        if rang:
            self._places.discard(self._future)
            self._future = asyncio.get_running_loop().create_future()
            self._places.add(self._future)
        return rang
