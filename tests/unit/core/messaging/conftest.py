"""A broker to test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.unit.core.messaging.messaging_hive import Hive, Scene


@pytest.fixture
async def hive(tmp_path: Path) -> AsyncIterator[Hive]:
    """A hive of ada and bob."""
    hive = Hive(tmp_path)
    await hive.open()
    yield hive
    await hive.close()


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    """ada and bob."""
    scene = Scene(tmp_path)
    await scene.open()
    yield scene
    await scene.close()
