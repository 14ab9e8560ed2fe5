"""A bound of the time of the relay that the requests of one agent take, so that none is slow because of another."""

from __future__ import annotations

import asyncio
import math

_FREE_SECONDS = 5.0
"""Debt at which requests still do not wait."""
_REQUEST_SECONDS = 0.05
"""Charged for a request that is refused: 20 of them in a second are answered in the long run."""
_SECONDS_PER_BYTE = 1 / (32 * 1024 * 1024)
"""Charged for a body."""
_CHECK_FACTOR = 4
"""An agent may keep the thread of a large check busy for a fifth of the time."""


class Pace:
    """The debt of one agent, which time pays off; while it is large, the agent's requests wait one behind another."""

    def __init__(self) -> None:
        self._paid_at = -math.inf
        """The time of the loop at which nothing is owed."""
        self._turn = asyncio.Lock()

    async def wait(self) -> None:
        """Wait until the agent may make a request, which is charged as one that is refused."""
        loop = asyncio.get_running_loop()
        async with self._turn:
            if (left := self._paid_at - _FREE_SECONDS - loop.time()) > 0:
                await asyncio.sleep(left)
            self._charge(_REQUEST_SECONDS)

    def served(self) -> None:
        """Take the charge for a request back."""
        self._paid_at -= _REQUEST_SECONDS

    def charge_bytes(self, count: int) -> None:
        """Charge bytes that were read."""
        self._charge(count * _SECONDS_PER_BYTE)

    def charge_check(self, seconds: float) -> None:
        """Charge the time of a check."""
        self._charge(seconds * _CHECK_FACTOR)

    def _charge(self, seconds: float) -> None:
        self._paid_at = max(self._paid_at, asyncio.get_running_loop().time()) + seconds
