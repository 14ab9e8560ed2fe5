"""Starting crashed containers again: when, and how often."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from hive_core.errors import HiveError
from hive_core.protocol import Lifecycle
from hive_core.runtimes.base import UnitState
from hive_core.runtimes.local.supervisor import BackOff
from hive_core.runtimes.nixos.reviving import Reviving


async def states(*lifecycles: Lifecycle) -> AsyncIterator[UnitState]:
    restarts = 0
    for lifecycle in lifecycles:
        restarts = restarts + 1 if lifecycle == "backoff" else restarts
        yield UnitState("ada", lifecycle, restarts=restarts)


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long was waited; nobody waits really."""
    waited: list[float] = []

    async def noted(seconds: float) -> None:
        waited.append(seconds)

    monkeypatch.setattr("hive_core.runtimes.nixos.reviving.asyncio.sleep", noted)
    return waited


async def finished() -> None:
    await asyncio.gather(*(task for task in asyncio.all_tasks() if task.get_name() == "start ada again"))


async def test_the_pause_grows_with_every_crash_in_a_row(pauses: list[float]) -> None:
    """Up to the longest; a start on request, or a stop, makes the next crash the first again."""
    started: list[str] = []

    async def start(name: str) -> None:
        started.append(name)

    reviving = Reviving(start, BackOff(first=1, longest=4))
    await reviving.run(states(*["starting", "backoff"] * 4, "stopped", "starting", "backoff"))  # type: ignore[arg-type]
    await finished()
    assert sorted(pauses) == [1, 1, 2, 4, 4] and started == ["ada"] * 5


async def test_a_refusal_is_tried_again(pauses: list[float]) -> None:
    """After the next pause, until it works: systemd may be away for long."""
    tries: list[float] = []

    async def start(_name: str) -> None:
        tries.append(pauses[-1])
        if len(tries) < 4:
            raise HiveError("no_dbus", "the bus is away")

    reviving = Reviving(start, BackOff(first=1, longest=4))
    await reviving.run(states("backoff"))
    await finished()
    assert tries == [1, 2, 4, 4]


@pytest.mark.parametrize("since", ["stopped", "starting", "backoff"])
async def test_what_was_told_since_a_refusal_counts(since: Lifecycle, pauses: list[float]) -> None:
    """One that is stopped or started by somebody else is not tried again, and for one that waits anew there is one
    try at a time.
    """
    tried, heard = asyncio.Event(), asyncio.Event()
    tries = 0

    async def start(_name: str) -> None:
        nonlocal tries
        tries += 1
        if tries == 1:
            tried.set()
            await heard.wait()
            raise HiveError("no_dbus", "the bus is away")

    async def told() -> AsyncIterator[UnitState]:
        yield UnitState("ada", "backoff")
        await tried.wait()
        yield UnitState("ada", since)
        heard.set()

    reviving = Reviving(start, BackOff(first=1))
    await reviving.run(told())
    await finished()
    assert tries == (2 if since == "backoff" else 1)
    await reviving.close()
