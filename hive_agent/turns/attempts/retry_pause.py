"""The pause between a failed attempt and the next one."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable

from hive_agent.turns.failure_policy import Kind
from hive_agent.turns.operator_controls import PendingRequests

log = logging.getLogger(__name__)

FIRST_LOGIN_CHECK = 10.0
LONGEST_LOGIN_CHECK = 60.0
"""Seconds between checks for credentials: each starts a process of the agent CLI."""


_SLICE_SECONDS = 300.0
"""Longest wait at a time: timers stand still while the machine sleeps, and the pause does not."""


class RetryPause:
    """Lasts the given seconds, or with `until_login` until the backend has credentials, if that is sooner.

    `kind` is the failure before it.
    """

    def __init__(self, seconds: float, kind: Kind, *, until_login: bool = False) -> None:
        self.kind = kind
        self._until = _now() + seconds
        self._login_check = FIRST_LOGIN_CHECK if until_login else None

    async def wait(self, requests: PendingRequests, logged_in: Callable[[], Awaitable[bool]]) -> bool:
        """Wait for the end of the pause. False if it has not ended, such as after a request of the operator."""
        left = self._until - _now()
        if left <= 0:
            return True
        if self._login_check is None:
            return not await requests.wait(min(left, _SLICE_SECONDS)) and left <= _SLICE_SECONDS
        if await requests.wait(min(left, self._login_check)):
            return False
        self._login_check = min(self._login_check * 2, LONGEST_LOGIN_CHECK)
        if not await logged_in():
            return False
        log.info("the backend has credentials now")
        return True


def _now() -> float:
    """Return the seconds since the machine's start, with those that it has slept."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
