"""The program under test: `hive-c0re` as a process of its own."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[4]


@dataclass(frozen=True)
class Ended:
    """How a run ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """stdout, which must be one JSON document and nothing else."""
        return json.loads(self.out)

    @property
    def error(self) -> dict[str, str]:
        """The error document on stderr."""
        error: dict[str, str] = json.loads(self.err)["error"]
        return error


@dataclass(frozen=True)
class Program:
    """`hive-c0re` for one socket, in an environment without any other hive."""

    socket: Path

    def environment(self, more: Mapping[str, str] | None = None) -> dict[str, str]:
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("HIVE_", "_HIVE", "NO_COLOR", "FORCE_"))}
        return clean | {"HIVE_SOCKET": str(self.socket), "PYTHONPATH": str(ROOT)} | dict(more or {})

    async def begin(self, *arguments: str, env: Mapping[str, str] | None = None) -> Process:
        """Start it, with pipes."""
        return await asyncio.create_subprocess_exec(
            sys.executable, "-m", "hive_core", *arguments,
            stdin=PIPE, stdout=PIPE, stderr=PIPE, env=self.environment(env),
        )  # fmt: skip

    async def run(self, *arguments: str, stdin: bytes = b"", env: Mapping[str, str] | None = None) -> Ended:
        """Run it to its end."""
        process = await self.begin(*arguments, env=env)
        out, err = await process.communicate(stdin)
        assert process.returncode is not None
        return Ended(process.returncode, out.decode(), err.decode())
