"""A running hive with one agent, and the caller's side of sessions in it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.helpers.real_daemon import Daemon, running
from tests.integration.access.caller import Caller
from tests.unit.core.runtimes.local.local_hive import why_no_bubblewrap


@pytest.fixture
async def caller(hive_home: Path) -> AsyncIterator[Caller]:
    """Commands of `hive-c0re` against an agent ada, sandboxed where that works."""
    sandbox = "none" if why_no_bubblewrap() else "bubblewrap"
    async with running(Daemon(hive_home, settings={"sandbox": sandbox})) as daemon:
        await daemon.spawn("ada")
        yield Caller(daemon)
