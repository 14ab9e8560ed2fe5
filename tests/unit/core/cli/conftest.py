"""The program and a fake of the daemon, on a socket of their own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.unit.core.cli.fake_host_api import FakeHost
from tests.unit.core.cli.run_cli import Program


@pytest.fixture
def socket(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A path short enough for a socket, where nobody listens yet."""
    return tmp_path_factory.mktemp("h") / "host.sock"


@pytest.fixture
def hive(socket: Path) -> Program:
    """The program, for that socket."""
    return Program(socket)


@pytest.fixture
async def daemon(socket: Path) -> AsyncIterator[FakeHost]:
    """A fake that answers there."""
    fake_host = FakeHost(socket)
    await fake_host.start()
    yield fake_host
    await fake_host.stop()
