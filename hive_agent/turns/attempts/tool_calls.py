"""The calls of the hive's tools in one attempt: which were lost on the way, and what was sent to the operator."""

from __future__ import annotations

import re

from hive_agent.backends.transcript import Entry, ToolCall, ToolResult
from hive_agent.client.connection import NO_ANSWER

_HIVE_TOOL = re.compile(r"(?:mcp_+)?hive_+(\w+)")
"""Names of the hive's tools: mcp__hive__send (Claude Code, codex), mcp_hive_send (gemini), hive_send (opencode)."""
_REFUSAL = re.compile(r"Error executing tool \w+: ")
"""Beginning of the errors with which the hive's MCP server itself answers."""
_LOST = re.compile(
    r"(?i)not connected|(?:connection|transport) (?:was )?(?:closed|lost|reset)|timed? ?out|MCP error -3200[01]"
    r"|ECONN\w+|EPIPE|socket hang up|session (?:not found|terminated|expired)"
)
"""Words of agent CLIs for a call that did not reach the MCP server, or that it did not answer."""
_UNKNOWN = re.compile(r"(?i)no such tool|unavailable tool|tool \S+ not found")
"""Words of agent CLIs for a tool that they do not have: the MCP server of a tool in `_ALWAYS` is not connected."""
_ALWAYS = frozenset({"send", "recv", "ask_operator"})
_SEARCHED_CHARACTERS = 2_000


def hive_tool(name: str) -> str | None:
    """The name of a tool of the hive's as the hive calls it; None for another tool."""
    found = _HIVE_TOOL.fullmatch(name)
    return found[1] if found else None


def is_lost(tool: str, error: str) -> bool:
    """Return True if the error of the hive's tool `tool` says that the call did not reach the hive or had no answer.

    An ordinary refusal of the hive is an answer, which the model can react to.
    """
    searched = error[:_SEARCHED_CHARACTERS]
    refusal = _REFUSAL.search(searched)
    if refusal is not None:
        return searched.startswith(NO_ANSWER, refusal.end())
    return _LOST.search(searched) is not None or (tool in _ALWAYS and _UNKNOWN.search(searched) is not None)


class LostCalls:
    """The hive's tools whose last call in the attempt was lost: what the model wanted with it has not happened."""

    def __init__(self) -> None:
        self._called: dict[str, str] = {}
        self._lost: dict[str, str] = {}

    def record(self, entry: Entry) -> None:
        """Read an entry of the transcript."""
        if isinstance(entry, ToolCall):
            tool = hive_tool(entry.name)
            if tool is not None:
                self._called[entry.id] = tool
        elif isinstance(entry, ToolResult):
            tool = self._called.pop(entry.id, None)
            if tool is None:
                return
            self._lost.pop(tool, None)
            if entry.is_error and is_lost(tool, entry.text):
                self._lost[tool] = entry.text

    @property
    def reason(self) -> str:
        """The tools whose calls were lost, with the error of one of them; empty if there are none."""
        if not self._lost:
            return ""
        error = " ".join(next(iter(self._lost.values()))[:_SEARCHED_CHARACTERS].split())
        return f"the hive's tools did not answer ({', '.join(sorted(self._lost))}): {error}"
