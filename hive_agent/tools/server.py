"""The hive's tools for an agent CLI: an MCP server on stdin and stdout, each tool one call on core.sock."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Sequence
from typing import Annotated

from mcp.server import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from pydantic import Field

from hive_agent.client import fetched_messages
from hive_agent.client.core_client import CoreClient
from hive_agent.environment import AgentEnvironment, version
from hive_agent.prompts.turn_prompt import frames
from hive_agent.role import Role
from hive_agent.tools.output import LONGEST_OUTPUT, add_log_tools, as_tool_errors
from hive_agent.tools.proposals import add_proposal_tools
from hive_agent.tools.questions import add_asking_tools
from hive_core.protocol import MAX_WAIT_SECONDS, Peer, ReceiveRequest, SendRequest
from hive_core.text import escape_unprintable

PATIENCE_SECONDS = 30.0
"""How long a tool call waits for a daemon that restarts."""


async def serve_tools(role: Role, environment: AgentEnvironment) -> int:
    """Serve until stdin closes; returns the exit code."""
    logging.getLogger().setLevel(logging.WARNING)  # the SDK tells of every request at INFO
    async with CoreClient(environment.core_socket, PATIENCE_SECONDS) as client:
        server = build(role, environment, client)
        await server.run_stdio_async()
    return 0


def build(role: Role, environment: AgentEnvironment, client: CoreClient) -> MCPServer[None]:
    """The server with the tools of every agent, and those of `role`."""
    server: MCPServer[None] = MCPServer("hive", version=version(), log_level="WARNING")
    _add_send(server, client)
    _add_recv(server, client, environment)
    _add_looks(server, client)
    add_asking_tools(server, client)
    add_log_tools(server, client)
    add_proposal_tools(server, client, environment)
    role.add_tools(server, client, environment)
    return server


def _add_send(server: MCPServer[None], client: CoreClient) -> None:
    @server.tool(structured_output=False)
    async def send(
        to: Annotated[str, Field(description="An agent's name, `hm1nd` (the manager), `operator`, or `*` for all.")],
        body: Annotated[str, Field(description="The text, up to 256 KiB.")],
        reply_to: Annotated[int | None, Field(description="Number of the message that this answers.")] = None,
    ) -> str:
        """Send a message. Once this returns, the hive keeps the message until its recipient has handled it."""
        with as_tool_errors("names are 1 to 9 characters of a-z and 0-9; see list_agents"):
            request = SendRequest(to=to, body=body, reply_to=reply_to, idempotency_key=f"tool:{uuid.uuid4()}")
            answer = await client.send(request)
        names = ", ".join(answer.recipients) or "nobody (there is no one else)"
        return f"Sent to {names} as message {answer.id}."


def _add_recv(server: MCPServer[None], client: CoreClient, environment: AgentEnvironment) -> None:
    instance = environment.variables.get("HIVE_INSTANCE", "")

    @server.tool(structured_output=False)
    async def recv(
        wait_seconds: Annotated[
            float, Field(ge=0, le=MAX_WAIT_SECONDS, description="How long to wait for the first message.")
        ] = 0.0,
        max: Annotated[int, Field(ge=1, le=100, description="How many to fetch at most.")] = 10,
    ) -> str:
        """Fetch messages that came in while you work, into this turn. They count as handled when the turn ends well."""
        if not instance:
            raise ToolError("No harness runs here, so there is no turn to fetch messages into.")
        with as_tool_errors():
            answer = await client.receive(ReceiveRequest(instance=instance, wait_seconds=wait_seconds, max=max))
        if not answer.deliveries:
            return "No new messages."
        shown = _shown([delivery.body for delivery in answer.deliveries])
        text = frames(answer.deliveries, environment.state / "messages", shown)
        fetched_messages.record(environment.state, instance, [delivery.id for delivery in answer.deliveries])
        return text + (f"\n\n{answer.waiting} more wait." if answer.waiting else "")


def _shown(bodies: Sequence[str]) -> int:
    """How many characters of each are shown: all, if that makes no longer an answer than agent CLIs take."""
    fair = LONGEST_OUTPUT // len(bodies)
    return LONGEST_OUTPUT if sum(map(len, bodies)) <= LONGEST_OUTPUT else fair


def _add_looks(server: MCPServer[None], client: CoreClient) -> None:
    @server.tool(structured_output=False)
    async def whoami() -> str:
        """Say which agent you are and whom you may send to."""
        with as_tool_errors():
            me = await client.whoami()
        allowed = "everyone" if me.allowed_recipients is None else ", ".join(me.allowed_recipients) or "nobody"
        return f"name: {me.name}\nkind: {me.kind}\nmay send to: {allowed}\ndeployment: {me.deployment}"

    @server.tool(structured_output=False)
    async def list_agents() -> str:
        """List the hive's agents: name, kind, whether it runs, what it is doing, what it says it is at."""
        with as_tool_errors():
            peers = (await client.peers()).agents
        return "\n".join(map(_peer, peers)) or "No agents."


def _peer(peer: Peer) -> str:
    # The status is that agent's own text: on one line, so that it cannot pass for another agent's.
    status = f"; says it is at: {escape_unprintable(' '.join(peer.status.split()))}" if peer.status else ""
    return f"{peer.name} ({peer.kind}): {peer.lifecycle}, {peer.state}{status}"
