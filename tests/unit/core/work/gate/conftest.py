"""Hives with the real gate of work."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from hive_core.layout import Layout
from tests.unit.core.work.gate.work_hive import WorkHive, opened, prepare


@pytest.fixture(scope="session")
def prepared() -> Iterator[Path]:
    """A state directory with the mirror and the clones, to be copied."""
    with tempfile.TemporaryDirectory(prefix="hive-work-") as home:
        prepare(Layout(Path(home, "state"), Path(home, "run")))
        yield Path(home)


@pytest.fixture
def layout(prepared: Path, tmp_path: Path) -> Layout:
    """The layout of a hive that is not open yet."""
    home = Path(shutil.copytree(prepared, tmp_path / "hive", symlinks=True))
    return Layout(home / "state", home / "run")


@pytest.fixture
async def hive(layout: Layout) -> AsyncIterator[WorkHive]:
    """An open hive."""
    async with opened(layout) as made:
        yield made
