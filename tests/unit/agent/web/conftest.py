"""A page that is served, and a browser fake on it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.unit.agent.web.fake_browser import FakeBrowser, browsing
from tests.unit.agent.web.fakes import Served, served


@pytest.fixture
async def page(run_dir: Path, port: int) -> AsyncIterator[Served]:
    """Alice's page, on its socket and a port."""
    async with served(run_dir, port) as running:
        yield running


@pytest.fixture
async def browser(page: Served) -> AsyncIterator[FakeBrowser]:
    """Somebody with a session, at the port."""
    async with browsing(page) as entered:
        yield entered


@pytest.fixture
async def dashboard(page: Served) -> AsyncIterator[FakeBrowser]:
    """Somebody with a session, at the socket."""
    async with browsing(page, socket=True) as entered:
        yield entered
