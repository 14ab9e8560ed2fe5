"""The pause between a failed attempt and the next one."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable

from hive_agent.turns.operator_controls import PendingRequests

log = logging.getLogger(__name__)

FIRST_LOGIN_CHECK = 10.0
LONGEST_LOGIN_CHECK = 60.0
"""Seconds between checks for credentials: each starts a process of the agent CLI."""


class RetryPause:
    """Lasts the given seconds, or with `until_login` until the backend has credentials, if that is sooner."""

    def __init__(self, seconds: float, *, until_login: bool = False) -> None:
        self._until = time.monotonic() + seconds
        self._login_check = FIRST_LOGIN_CHECK if until_login else None

    async def wait(self, requests: PendingRequests, logged_in: Callable[[], Awaitable[bool]]) -> bool:
        """Wait for the end of the pause. False if it has not ended, such as after a request of the operator."""
        left = self._until - time.monotonic()
        if left <= 0:
            return True
        if self._login_check is None:
            return not await requests.wait(left)
        if await requests.wait(min(left, self._login_check)):
            return False
        self._login_check = min(self._login_check * 2, LONGEST_LOGIN_CHECK)
        if not await logged_in():
            return False
        log.info("the backend has credentials now")
        return True
