"""The command line against an agent, as processes of their own."""

from __future__ import annotations

import asyncio
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.helpers.real_daemon import Daemon

SECONDS = 60


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: bytes
    err: str


@dataclass(frozen=True)
class Caller:
    """Runs `hive-c0re` for the daemon's agents."""

    daemon: Daemon

    def line(self, *arguments: str) -> Sequence[str]:
        """Return the command line of a command."""
        return [sys.executable, "-m", "hive_core", "--socket", str(self.daemon.host_socket), *arguments]

    @property
    def environment(self) -> dict[str, str]:
        """The environment of commands."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("HIVE_")}
        return kept | {"PYTHONPATH": str(Path(__file__).parents[3]), "TERM": "xterm", "HOME": str(self.daemon.home)}

    async def start(self, *arguments: str, cwd: Path | None = None) -> Process:
        """Start a command with pipes."""
        return await asyncio.create_subprocess_exec(
            *self.line(*arguments), stdin=PIPE, stdout=PIPE, stderr=PIPE, env=self.environment, cwd=cwd
        )

    async def run(
        self, *arguments: str, stdin: bytes = b"", cwd: Path | None = None, seconds: float = SECONDS
    ) -> Ended:
        """Run a command to its end, for at most this long."""
        process = await self.start(*arguments, cwd=cwd)
        async with asyncio.timeout(seconds):
            out, err = await process.communicate(stdin)
        assert process.returncode is not None
        return Ended(process.returncode, out, err.decode())
