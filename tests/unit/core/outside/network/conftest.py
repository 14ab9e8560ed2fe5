"""A network to test."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.helpers.memory import MEMORY
from tests.unit.core.outside.network.network_hive import NetworkHive


@pytest.fixture
async def hive() -> AsyncIterator[NetworkHive]:
    """A hive of ada, bob and the manager, all sealed, without rules."""
    with tempfile.TemporaryDirectory(prefix="hive-", dir=MEMORY) as directory:
        hive = NetworkHive(Path(directory))
        await hive.open()
        yield hive
        await hive.close()
