"""One browser for all windows, and alice's page with fakes behind it."""

from __future__ import annotations

import socket
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page

from tests.browser.browser import chromium, window
from tests.unit.agent.web.fakes import Served, served


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncIterator[Browser]:
    """Chromium, for all tests of the process."""
    async with chromium() as started:
        yield started


@pytest.fixture
def run_dir() -> Iterator[Path]:
    """A directory with a path short enough for sockets."""
    with tempfile.TemporaryDirectory(prefix="hive-") as directory:
        yield Path(directory)


@pytest.fixture
def port() -> int:
    """A port of the loopback that is free."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        number: int = probe.getsockname()[1]
        return number


@pytest_asyncio.fixture(loop_scope="session")
async def alice(run_dir: Path, port: int) -> AsyncIterator[Served]:
    """Alice's page; the harness and the daemon behind it are fakes that do what the test says."""
    async with served(run_dir, port) as page:
        yield page


@pytest_asyncio.fixture(loop_scope="session")
async def page(browser: Browser, alice: Served) -> AsyncIterator[Page]:
    """A window on alice's page."""
    async with window(browser, alice.link) as opened:
        yield opened
