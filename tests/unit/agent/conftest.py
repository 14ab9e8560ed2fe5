"""A fake of the daemon, and a client on its socket."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hive_agent.client.core_client import CoreClient
from tests.unit.agent.fake_core_api import FakeCore, fake_core


@pytest.fixture
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory short enough for a socket."""
    return tmp_path_factory.mktemp("r")


@pytest.fixture
def port() -> int:
    """A port of the loopback that is free."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        number: int = probe.getsockname()[1]
        return number


@pytest.fixture
async def core(run_dir: Path) -> AsyncIterator[FakeCore]:
    """The agent's core.sock, answered by the fake."""
    async with fake_core(run_dir) as fake:
        yield fake


@pytest.fixture
async def client(core: FakeCore) -> AsyncIterator[CoreClient]:
    """A client that waits five seconds for a daemon that is away."""
    async with CoreClient(core.socket, patience=5.0) as connected:
        yield connected
