"""A starter as a harness has it, and the commands of the agent beside it."""

from __future__ import annotations

import argparse
import asyncio
import os
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from hive_agent.environment import AgentEnvironment
from hive_agent.programs import commands
from hive_agent.programs.records import STARTER, listen
from hive_agent.programs.starter import Starter

Command = Callable[..., Coroutine[Any, Any, int]]


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """The directory of the records, whose path is longer than the address of a socket may be."""
    directory = tmp_path / ("d" * 100) / "programs"
    directory.mkdir(parents=True)
    return directory


@pytest.fixture
async def starter(programs: Path) -> AsyncIterator[Starter]:
    """A starter that is served beside the records, without systemd."""
    found = Starter(programs, {"PATH": os.environ["PATH"], "FROM_HARNESS": "here"}, grace=0.3)
    server = await asyncio.start_server(found.answer, sock=listen(programs, STARTER))
    try:
        yield found
    finally:
        server.close()
        await found.close()


@pytest.fixture
def command(programs: Path) -> Command:
    """Runs a command line of hive-ag3nt in a thread; returns the exit code."""
    variables = {**os.environ, "HIVE_AGENT_STATE": str(programs.parent)}
    environment = AgentEnvironment.read(variables)

    async def run(*arguments: str) -> int:
        parser = argparse.ArgumentParser("hive-ag3nt")
        commands.add_arguments(parser.add_subparsers(dest="command", required=True))
        return await asyncio.to_thread(commands.execute, environment, parser.parse_args(arguments))

    return run
