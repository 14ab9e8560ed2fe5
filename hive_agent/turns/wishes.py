"""What a person has asked of the harness, until it comes to that."""

from __future__ import annotations

import asyncio


class Wishes:
    """`first` is the turn to be tried next; `go_on`: do not wait any longer after a failure; `reopen`: start the
    backend anew.
    """

    def __init__(self) -> None:
        self.compact = False
        self.new_session = False
        self.reopen = False
        self.go_on = False
        self.first: int | None = None
        self._woken = asyncio.Event()

    def wake(self) -> None:
        """There is something new to look at."""
        self._woken.set()

    def looked(self) -> bool:
        """All that was wished for so far is seen to from here on; whether there was something new."""
        woken = self._woken.is_set()
        self._woken.clear()
        return woken

    async def wait(self, seconds: float | None = None) -> bool:
        """Wait for something new, at most so long; whether there is."""
        try:
            async with asyncio.timeout(seconds):
                await self._woken.wait()
        except TimeoutError:
            return False
        return True
