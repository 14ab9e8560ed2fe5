"""The manager's own tools: start, stop and restart agents, read their logs, and all that concerns proposals."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Literal

from mcp.server import MCPServer
from pydantic import Field

from hive_agent.client.core_client import CoreClient
from hive_agent.environment import AgentEnvironment
from hive_agent.tools.logs import Lines, Skip, read
from hive_agent.tools.output import in_words
from hive_manager.request_tools import add_request_tools
from hive_manager.review_tools import add_review_tools

AgentName = Annotated[str, Field(description="The agent's name; see list_agents.")]


def add_tools(server: MCPServer[None], client: CoreClient, environment: AgentEnvironment) -> None:
    """Add the manager's tools to `server`."""
    add_review_tools(server, client, environment)
    add_request_tools(server, client, environment)
    _add_lifecycle_tools(server, client)


def _add_lifecycle_tools(server: MCPServer[None], client: CoreClient) -> None:
    async def change(name: str, action: Literal["start", "stop", "restart"]) -> str:
        with in_words():
            status = await client.change_agent(name, action)
        waiting = f", {status.unacked} messages wait for it" if status.unacked else ""
        return f"{status.name} is {status.lifecycle}{waiting}."

    @server.tool(structured_output=False)
    async def start(name: AgentName) -> str:
        """Start an agent that is stopped."""
        return await change(name, "start")

    @server.tool(structured_output=False)
    async def stop(name: AgentName) -> str:
        """Stop an agent. Its turn is cut off; its messages wait until it is started again."""
        return await change(name, "stop")

    @server.tool(structured_output=False)
    async def restart(name: AgentName) -> str:
        """Stop an agent and start it again. A turn that is cut off gets its messages again."""
        return await change(name, "restart")

    @server.tool(structured_output=False)
    async def agent_logs(name: AgentName, lines: Lines = 100, skip: Skip = 0) -> str:
        """Read the end of an agent's log: what its harness did, and why a turn failed."""
        return await read(partial(client.agent_logs, name), lines, skip)
