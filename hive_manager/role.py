"""The role of the manager: that of an agent, with additional duties and tools."""

from __future__ import annotations

from importlib import resources
from typing import TYPE_CHECKING

from hive_agent.role import Role

if TYPE_CHECKING:
    from mcp.server import MCPServer

    from hive_agent.client.core_client import CoreClient
    from hive_agent.environment import AgentEnvironment


def _duties() -> str:
    return resources.files("hive_manager").joinpath("prompt.md").read_text()


def _add_tools(server: MCPServer[None], client: CoreClient, environment: AgentEnvironment) -> None:
    from hive_manager import tools  # noqa: PLC0415 (loads the MCP SDK, not for `serve`)

    tools.add_tools(server, client, environment)


MANAGER = Role(program="hive-m1nd", module="hive_manager", duties=_duties, add_tools=_add_tools)
