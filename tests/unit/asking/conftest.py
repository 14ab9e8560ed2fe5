"""A scene to ask in."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.unit.asking.scene import Scene


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    """ada and bob."""
    scene = Scene(tmp_path)
    await scene.open()
    yield scene
    await scene.close()
