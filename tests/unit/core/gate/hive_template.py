"""A hive with agents that is made once, and copied for each test to the place where it was made."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path

from hive_core.layout import Layout
from hive_core.settings import Settings
from tests.helpers.memory import MEMORY
from tests.unit.core.gate.gate_hive import GateHive, layout_in, opened


class Template:
    """A hive with the manager, ada and bob. All copies have one place, because closures contain their paths."""

    def __init__(self) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="hive-", dir=MEMORY)
        self.layout = layout_in(Path(self._directory.name))
        self._first = Path(self._directory.name, "first")
        asyncio.run(self._make())
        self.layout.state_dir.rename(self._first)

    def remove(self) -> None:
        """Remove the hive and its last copy."""
        self._directory.cleanup()

    def copied(self) -> Layout:
        """Replace the last copy by a fresh one. Returns its layout."""
        return self._copied(self._first)

    async def grown(self, prepare: Callable[[GateHive], Awaitable[object]], settings: Settings) -> Callable[[], Layout]:
        """Prepare a hive further. Returns a function that makes copies of it."""
        kept = self._first.with_name("grown")
        async with opened(self.copied(), settings) as gate_hive:
            await prepare(gate_hive)
        shutil.rmtree(kept, ignore_errors=True)
        self.layout.state_dir.rename(kept)
        return lambda: self._copied(kept)

    def _copied(self, kept: Path) -> Layout:
        for place in (self.layout.state_dir, self.layout.run_dir):
            shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(kept, self.layout.state_dir)
        return self.layout

    async def _make(self) -> None:
        async with opened(self.layout) as gate_hive:
            await gate_hive.spawn("hm1nd", "ada", "bob")
            await gate_hive.check()
