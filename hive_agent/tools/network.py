"""The tool `request_network`, and the list of requests to reach hosts."""

from __future__ import annotations

from typing import Annotated

from mcp.server import MCPServer
from pydantic import Field

from hive_agent.client.core_client import CoreClient
from hive_agent.tools.output import as_tool_errors
from hive_core.protocol import AskForHost, NetworkRequest, NetworkRequestsQuery
from hive_core.protocol.network.access import REQUEST_DAYS
from hive_core.text import Quoted, escape_unprintable

_TEXT_CHARACTERS = 500
_HOST_CHARACTERS = 300
_LISTED = 50

Host = Annotated[str, Field(description="crates.io, github.com:22, *.crates.io, or a set such as pypi.")]
Hours = Annotated[float, Field(gt=0, le=720, description="How many hours you need it.")]


def add_network_tools(server: MCPServer[None], client: CoreClient) -> None:
    """Add the tools that every agent has."""

    @server.tool(structured_output=False)
    async def request_network(
        host: Host,
        why: Annotated[str, Field(description="What you need it for; whoever decides reads this.")],
        hours: Hours = 24.0,
    ) -> str:
        """Ask to reach a host that the hive's proxy refuses to you. Somebody decides; the rule then has an end."""
        with as_tool_errors():
            asked = await client.ask_for_host(AskForHost(host=host, why=why, hours=hours))
        return (
            f"Asked as request {asked.id}, on which the {asked.waits_for or 'operator'} decides. The decision comes as "
            f"a message from `system`; after {REQUEST_DAYS} days without one the request expires. Do the work that "
            "does not need the host, then end your turn; do not wait for it."
        )

    @server.tool(structured_output=False)
    async def list_network_requests() -> str:
        """List the open requests to reach hosts that you see: your own; the manager sees those of all agents."""
        with as_tool_errors():
            found = await client.host_requests(NetworkRequestsQuery(limit=_LISTED))
        lines = [request_line(request) for request in found.requests]
        if len(lines) < found.total:
            lines.append(f"[{len(lines)} of {found.total} are shown]")
        return "\n".join(lines) or "No request waits for a decision."


def request_line(request: NetworkRequest) -> str:
    """A request in lines: the hive's own words, then the host and the reason, which are the agent's."""
    if request.state == "open":
        state = f"waits for the {request.waits_for}"
    elif request.state == "expired":
        state = "expired, as nobody has decided"
    else:
        state = f"{request.state} by {request.decided_by}"
    host = Quoted(escape_unprintable(request.host)).line(_HOST_CHARACTERS)
    why = Quoted(escape_unprintable(request.why)).line(_TEXT_CHARACTERS)
    head = f"request {request.id} of {request.agent}, for {request.hours:g} hours: {state}; the host and the reason:"
    return f"{head}\n> {host}\n> {why}"
