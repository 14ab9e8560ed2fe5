"""The hive's tools for an agent CLI: an MCP server on stdin and stdout, which calls the daemon on core.sock."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Sequence
from typing import Annotated

from mcp.server import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from pydantic import Field

from hive_agent.client import fetched_messages
from hive_agent.client.connection import CoreError
from hive_agent.client.core_client import CoreClient
from hive_agent.environment import AgentEnvironment, version
from hive_agent.prompts.turn_prompt import frames
from hive_agent.role import Role
from hive_agent.tools.bounded_server import BoundedServer
from hive_agent.tools.network import add_network_tools
from hive_agent.tools.output import LONGEST_OUTPUT, add_log_tools, as_tool_errors, first_lines
from hive_agent.tools.proposals import add_proposal_tools
from hive_agent.tools.questions import add_asking_tools
from hive_agent.tools.work import add_work_tools
from hive_core.protocol import MAX_WAIT_SECONDS, Peer, ReceiveRequest, SendRequest
from hive_core.protocol.models.budgets import LimitState
from hive_core.protocol.names import NAME_RULE
from hive_core.text import escape_unprintable

PATIENCE_SECONDS = 30.0
"""Time for which a tool call is repeated while the daemon restarts."""


async def serve_tools(role: Role, environment: AgentEnvironment) -> int:
    """Serve until stdin closes; returns the exit code."""
    logging.getLogger().setLevel(logging.WARNING)  # the SDK logs every request at INFO
    async with CoreClient(environment.core_socket, PATIENCE_SECONDS) as client:
        server = build(role, environment, client)
        await server.run_stdio_async()
    return 0


def build(role: Role, environment: AgentEnvironment, client: CoreClient) -> MCPServer[None]:
    """Create the server with the tools of every agent, and those of `role`."""
    server = BoundedServer("hive", version=version(), results=environment.state / "results")
    _add_send(server, client)
    _add_recv(server, client, environment)
    _add_directory_tools(server, client)
    add_asking_tools(server, client)
    add_log_tools(server, client)
    add_proposal_tools(server, client, environment)
    add_work_tools(server, client)
    add_network_tools(server, client)
    role.add_tools(server, client, environment)
    return server


def _add_send(server: MCPServer[None], client: CoreClient) -> None:
    @server.tool(structured_output=False)
    async def send(
        to: Annotated[str, Field(description="An agent's name, `hm1nd` (the manager), `operator`, or `*` for all.")],
        body: Annotated[str, Field(description="The text, up to 256 KiB.")],
        reply_to: Annotated[int | None, Field(description="Number of the message that this answers.")] = None,
    ) -> str:
        """Send a message. Once this returns, the hive stores the message until its recipient has handled it."""
        with as_tool_errors(f"names are {NAME_RULE}; see list_agents"):
            request = SendRequest(to=to, body=body, reply_to=reply_to, idempotency_key=f"tool:{uuid.uuid4()}")
            answer = await client.send(request)
        names = ", ".join(answer.recipients) or "nobody (there are no other agents)"
        return f"Sent to {names} as message {answer.id}."


def _add_recv(server: MCPServer[None], client: CoreClient, environment: AgentEnvironment) -> None:
    instance = environment.variables.get("HIVE_INSTANCE", "")

    @server.tool(structured_output=False)
    async def recv(
        wait_seconds: Annotated[
            float, Field(ge=0, le=MAX_WAIT_SECONDS, description="Seconds to wait for the first message.")
        ] = 0.0,
        max: Annotated[int, Field(ge=1, le=100, description="Maximum number of messages.")] = 10,
    ) -> str:
        """Fetch new messages into this turn. They count as handled when the turn succeeds."""
        if not instance:
            raise ToolError("No harness runs here, so there is no turn that could get messages.")
        with as_tool_errors():
            answer = await client.receive(ReceiveRequest(instance=instance, wait_seconds=wait_seconds, max=max))
        if not answer.deliveries:
            return "No new messages."
        shown = _shown_characters([delivery.body for delivery in answer.deliveries])
        text = frames(answer.deliveries, environment.state / "messages", shown)
        fetched_messages.record(environment.state, instance, [delivery.id for delivery in answer.deliveries])
        return text + (f"\n\n{answer.waiting} more wait." if answer.waiting else "")


def _shown_characters(bodies: Sequence[str]) -> int:
    """Most characters to show of each body: all of them if they fit into one result."""
    room = LONGEST_OUTPUT - _FRAME_CHARACTERS * len(bodies)
    return LONGEST_OUTPUT if sum(map(len, bodies)) <= room else max(_LEAST_SHOWN, room // len(bodies))


_FRAME_CHARACTERS = 250
"""About the length of the two lines around a body, with the name of the file that has all of it."""
_LEAST_SHOWN = 50


def _add_directory_tools(server: MCPServer[None], client: CoreClient) -> None:
    @server.tool(structured_output=False)
    async def whoami() -> str:
        """Show your name, kind and deployment, the allowed recipients of your messages, and your budget for models."""
        with as_tool_errors():
            me = await client.whoami()
            limits = await _read_limits(client)
        allowed = "everyone" if me.allowed_recipients is None else ", ".join(me.allowed_recipients) or "nobody"
        known = f"name: {me.name}\nkind: {me.kind}\nmay send to: {allowed}\ndeployment: {me.deployment}"
        return "\n".join([known, *(f"budget: {limit_line(limit)}" for limit in limits)])

    @server.tool(structured_output=False)
    async def list_agents(
        skip: Annotated[int, Field(ge=0, description="Number of agents to skip at the beginning.")] = 0,
    ) -> str:
        """List the hive's agents: name, kind, whether it runs, its state, and the status that it has set."""
        with as_tool_errors():
            peers = (await client.peers()).agents
        return first_lines(list(map(_peer, peers)), skip) or "No agents."


async def _read_limits(client: CoreClient) -> list[LimitState]:
    """Return the agent's own limits; none if the hive has no providers of models, or does not know of budgets."""
    try:
        return (await client.budget()).limits
    except CoreError as error:
        if not error.refusal:
            raise
        return []


def limit_line(limit: LimitState) -> str:
    """Return a limit and what is left of it in one line."""

    def amount(value: float) -> str:
        return f"${value:,.2f}" if limit.measure == "money" else f"{value:,.0f} {limit.measure}"

    left = max(0.0, limit.limit - limit.spent - limit.reserved)
    period = "a day (UTC)" if limit.period == "day" else "in all"
    return f"{amount(left)} left of {amount(limit.limit)} {period}"


def _peer(peer: Peer) -> str:
    # The status is text of that agent: one marked line, so that it cannot look like the line of another agent.
    status = f"; its status:\n> {escape_unprintable(' '.join(peer.status.split()))}" if peer.status.strip() else ""
    return f"{peer.name} ({peer.kind}): {peer.lifecycle}, {peer.state}{status}"
