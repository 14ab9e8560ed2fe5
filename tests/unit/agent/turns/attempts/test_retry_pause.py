"""The pause between a failed attempt and the next one."""

from __future__ import annotations

import asyncio

import pytest

from hive_agent.turns.attempts import retry_pause
from hive_agent.turns.attempts.retry_pause import RetryPause
from hive_agent.turns.operator_controls import PendingRequests

WEEK = 7 * 86_400.0


class Clock:
    """The machine's time since its start, which the test moves, and the waits that were made."""

    def __init__(self) -> None:
        self.now = 1_000.0
        self.waits: list[float] = []
        self.sleeps = 0.0
        """Seconds that the machine sleeps within the next wait."""

    async def wait(self, seconds: float | None = None) -> bool:
        """As `PendingRequests.wait`, in no time."""
        assert seconds is not None
        self.waits.append(seconds)
        self.now += seconds + self.sleeps
        self.sleeps = 0.0
        return False


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """A clock in place of the machine's."""
    clock = Clock()
    monkeypatch.setattr(retry_pause, "_now", lambda: clock.now)
    return clock


async def never() -> bool:
    return False


async def end_of(pause: RetryPause, requests: PendingRequests) -> int:
    """Wait until the pause has ended; returns how many waits it took."""
    waits = 1
    while not await pause.wait(requests, never):
        waits += 1
    return waits


async def test_a_long_pause_ends_on_time(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """A week is waited for to the second, also if the machine sleeps meanwhile, for which timers stand still."""
    requests = PendingRequests()
    monkeypatch.setattr(requests, "wait", clock.wait)
    began = clock.now
    await end_of(RetryPause(WEEK + 7.5, "rate_limit"), requests)
    assert clock.now - began == WEEK + 7.5
    assert len(clock.waits) < 3_000, "an idle harness is woken seldom"
    began, clock.sleeps = clock.now, 2 * 86_400.0
    await end_of(RetryPause(WEEK, "rate_limit"), requests)
    assert clock.now - began == WEEK
    clock.sleeps = 86_400.0
    assert await end_of(RetryPause(3_600.0, "budget"), requests) == 2, "it is over when the machine wakes up"


async def test_a_request_ends_the_wait(clock: Clock) -> None:
    """A request of the operator is served at once, and the pause goes on with what is left of it."""
    requests = PendingRequests()
    pause = RetryPause(WEEK, "rate_limit")
    waiting = asyncio.create_task(pause.wait(requests, never))
    await asyncio.sleep(0)
    requests.wake()
    assert await waiting is False
    clock.now += WEEK
    assert await pause.wait(requests, never) is True
    assert pause.kind == "rate_limit"
