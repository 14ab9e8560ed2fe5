"""An agent's tool for reading its own log, and what the tools that read logs have in common."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated

from mcp.server import MCPServer
from pydantic import Field

from hive_agent.client.core_client import CoreClient
from hive_agent.tools.output import in_words, last_lines
from hive_core.protocol import LogsAnswer, LogsQuery

_MOST = 10_000
"""Lines that the hive gives at once."""
Lines = Annotated[int, Field(ge=1, le=_MOST, description="How many of the last lines.")]
Skip = Annotated[int, Field(ge=0, le=_MOST - 1, description="How many of the newest lines to leave out.")]


def add_log_tools(server: MCPServer[None], client: CoreClient) -> None:
    """Add the tool to `server`."""

    @server.tool(structured_output=False)
    async def read_logs(lines: Lines = 100, skip: Skip = 0) -> str:
        """Read the end of your harness's log: which turns there were, and why one failed."""
        return await read(client.logs, lines, skip)


async def read(logs: Callable[[LogsQuery], Awaitable[LogsAnswer]], lines: int, skip: int) -> str:
    """The last `lines` before the newest `skip` ones; what does not fit is left out, with how to get it."""
    with in_words():
        answer = await logs(LogsQuery(lines=min(lines + skip, _MOST)))
    return last_lines(answer.lines, skip) or "There are no lines."
