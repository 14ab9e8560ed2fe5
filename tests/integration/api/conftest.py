"""A hive for the tests of the sockets: a manager and two agents, none of which runs."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import pytest_asyncio

from tests.helpers.real_daemon import Daemon, running


@asynccontextmanager
async def small_hive(home: Path, inbox_limit: int = 5) -> AsyncIterator[Daemon]:
    """hm1nd, ann, who may write to anybody, and bob, who may write to hm1nd and the operator; small inboxes.

    There is a provider of models, which no agent has, and a budget for all.
    """
    settings = {
        "inbox_limit": inbox_limit,
        "stop_timeout": 2,
        "relay": '{"providers": {"main": {"api": "openai", "base_url": "http://127.0.0.1:9/v1"}}}',
        "budget": '{"agents": {"money_per_day": 5}, "hive": {"money_total": 1000}}',
    }
    async with running(Daemon(home, settings=settings)) as daemon:
        for name, allowed in (("hm1nd", None), ("ann", None), ("bob", ["hm1nd", "operator"])):
            config = {"allowed_recipients": allowed}
            await daemon.ask("POST", "/v1/agents", {"name": name, "config": config, "start": False})
        yield daemon


@pytest.fixture
async def hive(hive_home: Path) -> AsyncIterator[Daemon]:
    """A small hive of the test's own."""
    async with small_hive(hive_home) as daemon:
        yield daemon


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared() -> AsyncIterator[Daemon]:
    """A small hive for all tests of a module; they must leave no trace but agents of their own."""
    with tempfile.TemporaryDirectory(prefix="hive-") as home:
        async with small_hive(Path(home)) as daemon:
            yield daemon
