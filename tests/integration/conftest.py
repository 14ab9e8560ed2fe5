"""Fixtures of the tests that run the real programs."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.helpers.real_daemon import Daemon, running


@pytest.fixture
def hive_home() -> Iterator[Path]:
    """An empty directory with a path short enough for unix sockets."""
    home = Path(tempfile.mkdtemp(prefix="hive-"))
    yield home
    shutil.rmtree(home)


@pytest.fixture
async def daemon(hive_home: Path) -> AsyncIterator[Daemon]:
    """A running daemon with an empty hive; its agents are plain processes."""
    async with running(Daemon(hive_home)) as started:
        yield started


@pytest.fixture
def place() -> Iterator[Path]:
    """An empty directory with a short path, as sockets need it: the demo's TMPDIR."""
    with tempfile.TemporaryDirectory(prefix="hd") as directory:
        yield Path(directory)
