"""Results of tools: errors, long output, the agent's log."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Annotated

from mcp.server import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from pydantic import BaseModel, Field, ValidationError

from hive_agent.client.connection import NO_ANSWER, CoreError
from hive_agent.client.core_client import CoreClient
from hive_agent.tools.bounded_server import MOST_LINES
from hive_core.errors.faults import find_faults
from hive_core.protocol import LogsAnswer, LogsQuery
from hive_core.text import printable_line

LONGEST_OUTPUT = 30_000
"""Most bytes of a result's content, so that it fits into a result with the lines that describe it."""


@contextmanager
def as_tool_errors(hint: str = "") -> Iterator[None]:
    """Convert errors into ToolError: refusals of the hive with their own hint, invalid arguments with `hint`."""
    try:
        yield
    except ValidationError as error:
        (fault,) = find_faults(error, BaseModel)
        raise ToolError(_with_hint(f"{fault.place}: {fault.reason}", hint)) from None
    except CoreError as error:
        message = f"{NO_ANSWER}: {error.message}" if error.passing else error.message
        raise ToolError(_with_hint(message, error.hint)) from None


def _with_hint(message: str, hint: str) -> str:
    return f"{message}\n{hint}" if hint else message


def last_lines(lines: list[str], skip: int = 0) -> tuple[str, str]:
    """Join `lines` without the last `skip`; of a long text, return the end.

    Returns:
        A sentence about what is cut, with the `skip` for the lines before, or ""; and the text.
    """
    wanted = lines[: max(0, len(lines) - skip)]
    text = "\n".join(wanted)
    if size_of(text) <= LONGEST_OUTPUT and len(wanted) < MOST_LINES:
        return "", text
    fitting, taken = 0, 0
    for line in reversed(wanted):
        taken += size_of(line) + 1
        if taken > LONGEST_OUTPUT or fitting == MOST_LINES - 10:
            break
        fitting += 1
    if fitting:
        size = f"the last {fitting} of {len(wanted)} lines, which have {len(text)} characters"
        head = f"[{size}; for those before: skip={skip + fitting}]"
        return head, "\n".join(wanted[-fitting:])
    end = wanted[-1].encode(errors="replace")[-LONGEST_OUTPUT:].decode(errors="ignore")
    head = f"[the end of a line of {len(wanted[-1])} characters; for those before: skip={skip + 1}]"
    return head, end


def first_lines(items: list[str], skip: int) -> str:
    """Join `items` without the first `skip`, as many as fit into a result; says how many they are, and of how many."""
    shown, taken = list[str](), 0
    for item in items[skip:]:
        taken += size_of(item) + 1
        if taken > LONGEST_OUTPUT:
            break
        shown.append(item)
    if len(shown) == len(items):
        return "\n".join(shown)
    end = skip + len(shown)
    more = f"; for more: skip={end}" if end < len(items) else ""
    return "\n".join([*shown, f"[{len(shown)} of {len(items)} are shown{more}]"])


def size_of(text: str) -> int:
    """The length of a text in the units of `LONGEST_OUTPUT`."""
    return len(text) if text.isascii() else len(text.encode(errors="replace"))


LONGEST_LINE = 1_000_000
_MOST = 10_000
"""Most lines in one answer of the hive."""
Lines = Annotated[int, Field(ge=1, le=_MOST, description="How many of the last lines.")]
Skip = Annotated[int, Field(ge=0, le=_MOST - 1, description="How many of the newest lines to leave out.")]


def add_log_tools(server: MCPServer[None], client: CoreClient) -> None:
    """Add the tool `read_logs` to `server`."""

    @server.tool(structured_output=False)
    async def read_logs(lines: Lines = 100, skip: Skip = 0) -> str:
        """Read the end of your harness's log: its turns, and the reasons of failures."""
        return await read_log(client.logs, "you", lines, skip)


async def read_log(logs: Callable[[LogsQuery], Awaitable[LogsAnswer]], whose: str, lines: int, skip: int) -> str:
    """Read the last `lines` before the newest `skip` ones, truncated to the length of a result.

    The lines are words of the agent `whose`: they are escaped and stand between lines with a random mark.
    """
    with as_tool_errors():
        answer = await logs(LogsQuery(lines=min(lines + skip, _MOST)))
    head, text = last_lines([printable_line(line, LONGEST_LINE) for line in answer.lines], skip)
    if not text:
        return "There are no lines."
    shown = framed(secrets.token_hex(8), f"log, in the words of {whose}", text)
    return f"{head}\n{shown}" if head else shown


def framed(mark: str, title: str, text: str) -> str:
    """Return a text of an agent between lines with a random mark that it cannot know."""
    return f"--- {mark} begin: {title}\n{text}\n--- {mark} end"
