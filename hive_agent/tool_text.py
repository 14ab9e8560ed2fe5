"""What tools say to a model: refusals in words, and long output cut."""

from __future__ import annotations

from mcp.server.mcpserver.exceptions import ToolError
from pydantic import ValidationError

from hive_agent.client import CoreError

LONGEST_OUTPUT = 30_000
"""Characters of one tool's answer; agent CLIs refuse or drop much longer ones."""


def refused(error: CoreError) -> ToolError:
    """The hive's refusal as the tool's error: what and why, and what to do."""
    return ToolError(f"{error.message}\n{error.hint}" if error.hint else error.message)


def invalid(error: ValidationError) -> ToolError:
    """Arguments that cannot be sent, as the tool's error: which, and why."""
    first = error.errors(include_input=False, include_url=False)[0]
    return ToolError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}")


def last_lines(lines: list[str]) -> str:
    """`lines` as one text; if it is too long, its end, with how much there was."""
    text = "\n".join(lines)
    if len(text) <= LONGEST_OUTPUT:
        return text
    return f"[the last {LONGEST_OUTPUT} of {len(text)} characters]\n{text[-LONGEST_OUTPUT:]}"
