"""The hive's tools as an agent CLI calls them, in this process or as the program that an agent CLI starts."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from mcp import Client, StdioServerParameters
from mcp.types import CallToolResult, TextContent

from hive_agent.client.core_client import CoreClient
from hive_agent.environment import AgentEnvironment
from hive_agent.role import AGENT
from hive_agent.tools.server import PATIENCE_SECONDS, build
from hive_manager.role import MANAGER
from tests.unit.agent.fake_core_api import FakeCore

ROOT = Path(__file__).parents[4]
INSTANCE = "instance-1"
ROLES = {role.module: role for role in (AGENT, MANAGER)}


@asynccontextmanager
async def tools(
    core: FakeCore, state: Path, module: str = AGENT.module, instance: str = INSTANCE, **more: str
) -> AsyncIterator[Client]:
    """A client of the tools in this process: what they say and do, without the second that a program takes to start."""
    environment = AgentEnvironment.read(_variables(core, state, instance) | more)
    async with CoreClient(environment.core_socket, PATIENCE_SECONDS) as connection:
        server = build(ROLES[module], environment, connection)
        async with Client(server) as client:
            yield client


@asynccontextmanager
async def program(
    core: FakeCore, state: Path, module: str = AGENT.module, instance: str = INSTANCE
) -> AsyncIterator[Client]:
    """A client of `python -m MODULE mcp`, started as an agent CLI starts it."""
    environment = _variables(core, state, instance) | {"PYTHONPATH": str(ROOT), "PYTHONSAFEPATH": "1"}
    server = StdioServerParameters(command=sys.executable, args=["-m", module, "mcp"], env=environment, cwd=state)
    async with Client(server) as client:
        yield client


def text(result: CallToolResult) -> str:
    """All text of a tool's result."""
    return "\n".join(block.text for block in result.content if isinstance(block, TextContent))


def _variables(core: FakeCore, state: Path, instance: str) -> dict[str, str]:
    return {"HIVE_AGENT_RUN": str(core.socket.parent), "HIVE_AGENT_STATE": str(state), "HIVE_INSTANCE": instance}
