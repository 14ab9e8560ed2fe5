"""The time after a failure in which the harness tries nothing."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable

from hive_agent.turns.wishes import Wishes

log = logging.getLogger(__name__)

_FIRST_LOOK = 10.0
_LONGEST_LOOK = 60.0
"""How often to see whether there are credentials by now, in seconds: to ask takes a process of the agent CLI's."""


class Rest:
    """Lasts so many seconds, or with `until_login` until the backend has credentials, if that is sooner."""

    def __init__(self, seconds: float, *, until_login: bool = False) -> None:
        self._until = time.monotonic() + seconds
        self._look = _FIRST_LOOK if until_login else None

    async def over(self, wishes: Wishes, logged_in: Callable[[], Awaitable[bool]]) -> bool:
        """Wait until it is over; False if a person wishes for something before, or it is simply not over yet."""
        left = self._until - time.monotonic()
        if left <= 0:
            return True
        if self._look is None:
            return not await wishes.wait(left)
        if await wishes.wait(min(left, self._look)):
            return False
        self._look = min(self._look * 2, _LONGEST_LOOK)
        if not await logged_in():
            return False
        log.info("there are credentials now")
        return True
