"""A proxy in a small internet of network namespaces."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.helpers.network.fake_daemon import FakeDaemon
from tests.helpers.network.world import World, why_not


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Return the namespaces with their servers."""
    if reason := why_not():
        pytest.skip(reason)
    world = World(tmp_path_factory.mktemp("world"))
    try:
        world.start()
        yield world
    finally:
        world.stop()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def running(world: World, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[FakeDaemon]:
    """Return a daemon with its proxy, which has the listener of the agent `ada`."""
    daemon = FakeDaemon(world, tmp_path_factory.mktemp("proxy"))
    try:
        await daemon.start()
        await daemon.allow()
        await daemon.lend()
        await daemon.synced()
        yield daemon
    finally:
        await daemon.stop()
    assert "Traceback" not in daemon.log(), daemon.log()


@pytest_asyncio.fixture(loop_scope="session")
async def daemon(running: FakeDaemon) -> FakeDaemon:
    """Return the daemon; `ada` may reach a few hosts."""
    running.forget()
    await running.allow("ok.example.org", "files.example.org", "*.below.example.org")
    return running


@pytest_asyncio.fixture(loop_scope="session")
async def own(world: World, tmp_path: Path) -> AsyncIterator[FakeDaemon]:
    """Return a daemon whose proxy is started for one test, and serves nobody yet; with an agent of its own."""
    daemon = FakeDaemon(world, tmp_path)
    with world.another_agent():
        try:
            await daemon.start()
            yield daemon
        finally:
            await daemon.stop()
    assert "Traceback" not in daemon.log(), daemon.log()
