"""The differences between the harnesses of agents and of the manager."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mcp.server import MCPServer

    from hive_agent.client.core_client import CoreClient
    from hive_agent.environment import AgentEnvironment


def _nothing() -> str:
    return ""


def _no_tools(_server: MCPServer[None], _client: CoreClient, _environment: AgentEnvironment) -> None:
    return None


@dataclass(frozen=True)
class Role:
    """One kind of harness.

    `module` is run as `python -m <module> mcp` for its tools; `duties` returns a part of the system prompt; `add_tools`
    adds MCP tools to those of every agent. Both load their modules when called, so that an idle harness does not.
    """

    program: str
    module: str
    duties: Callable[[], str] = _nothing
    add_tools: Callable[[MCPServer[None], CoreClient, AgentEnvironment], None] = _no_tools


AGENT = Role(program="hive-ag3nt", module="hive_agent")
