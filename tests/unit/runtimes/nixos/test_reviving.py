"""Starting crashed containers again: when, and how often."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from hive_core.errors import HiveError
from hive_core.protocol import Lifecycle
from hive_core.runtimes.base import UnitState
from hive_core.runtimes.nixos.reviving import Reviving
from hive_core.runtimes.supervisor import BackOff


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


async def test_a_refusal_ends_nothing(pauses: list[float]) -> None:
    """systemd may refuse a start: that is logged, and the next crash is still heard of."""

    async def start(_name: str) -> None:
        raise HiveError("no_dbus", "the bus is away")

    reviving = Reviving(start, BackOff(first=1))
    await reviving.run(states("backoff", "starting", "backoff"))
    await finished()
    assert len(pauses) == 2
    await reviving.close()
