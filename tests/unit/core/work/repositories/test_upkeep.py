"""What is done with mirrors by the clock."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import cast

import pytest

from hive_core.errors import HiveError
from hive_core.work.repositories import upkeep
from hive_core.work.repositories.registry import Repositories


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), RuntimeError("x"), HiveError("x", "y")])
async def test_one_failed_fetch_ends_no_other(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """Whatever a fetch or a packing by the clock fails with, the next repository has its turn."""
    records = [SimpleNamespace(name=name, source="https://x/y", fetched_at=1, created_at=1) for name in ("a", "b")]
    tried: list[str] = []
    done = asyncio.Event()

    async def fetch(name: str) -> None:
        tried.append(name)
        if name == "b":
            done.set()
        raise error

    def tidy(mirror: object) -> None:
        tried.append(f"pack {mirror}")
        if mirror == "b":
            loop.call_soon_threadsafe(done.set)
        raise error

    loop = asyncio.get_running_loop()
    monkeypatch.setattr(upkeep, "tidy_mirror", tidy)
    repositories = cast(Repositories, SimpleNamespace(records=lambda: records, fetch=fetch, mirror=lambda name: name))
    for part in (upkeep.fetch_regularly(repositories, 1), upkeep.tidy_mirrors(repositories)):
        done.clear()
        task = asyncio.create_task(part)
        waiting = asyncio.create_task(done.wait())
        await asyncio.wait((task, waiting), return_when=asyncio.FIRST_COMPLETED, timeout=10)
        await asyncio.sleep(0)
        assert not task.done()
        task.cancel()
        waiting.cancel()
        await asyncio.wait((task, waiting))
    assert tried == ["a", "b", "pack a", "pack b"]


async def test_a_fetch_without_end_delays_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """While one repository is fetched by the clock, the next ones are, too; all fetches end with the daemon."""
    monkeypatch.setattr(upkeep, "_LOOK_SECONDS", 0.001)
    records = [SimpleNamespace(name=name, source="https://x/y", fetched_at=1, created_at=1) for name in ("a", "b")]
    begun: list[str] = []
    both = asyncio.Event()

    async def fetch(name: str) -> None:
        begun.append(name)
        if len(begun) == 2:
            both.set()
        await asyncio.Event().wait()

    repositories = cast(Repositories, SimpleNamespace(records=lambda: records, fetch=fetch))
    task = asyncio.create_task(upkeep.fetch_regularly(repositories, 1e-9))
    async with asyncio.timeout(10):
        await both.wait()
    await asyncio.sleep(0.01)
    assert begun == ["a", "b"]
    task.cancel()
    await asyncio.wait([task])
    assert [each for each in asyncio.all_tasks() if each is not asyncio.current_task()] == []
