"""Reads what `gemini --output-format=stream-json` tells. Pure.

Seen with version 0.61.0; the events are those of packages/core/src/output/types.ts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hive_agent.backends.api_errors import judged
from hive_agent.backends.base import Failed, NeedsLogin, Ok, TurnOutcome
from hive_agent.backends.json_fields import count, field, text
from hive_agent.backends.one_shot.reader import Reading, tool_result
from hive_agent.backends.transcript import Entry, Notice, Text, ToolCall, Usage

_NO_AUTH = 41
"""Exit code, as are the others (packages/core/src/utils/exitCodes.ts)."""
_BAD_CONFIG = 52
_MOST_SAID = 1_000_000
"""Characters of an answer that are put together from its pieces."""


@dataclass
class GeminiReading(Reading):
    """One run. `alone`: the hive's MCP server is the only one."""

    alone: bool = True
    said: str = ""
    """What the model says; it comes in pieces."""

    def take(self, event: Mapping[str, Any]) -> list[Entry]:
        kind = event.get("type")
        if kind == "message":
            if event.get("role") == "assistant" and len(self.said) < _MOST_SAID:
                self.said += text(event, "content")
            return []
        return [*self._whole_text(), *self._other(kind, event)]

    def _whole_text(self) -> list[Entry]:
        said, self.said = self.said, ""
        return [Text(said)] if said else []

    def _other(self, kind: object, event: Mapping[str, Any]) -> list[Entry]:
        match kind:
            case "init":
                self.session = text(event, "session_id")
            case "tool_use":
                return [ToolCall(text(event, "tool_id"), text(event, "tool_name"), field(event, "parameters"))]
            case "tool_result":
                failed = event.get("status") != "success"
                said = text(event, "output") or text(event, "error", "message")
                return [tool_result(text(event, "tool_id"), said, is_error=failed)]
            case "error":
                return [Notice("error" if event.get("severity") == "error" else "warning", text(event, "message"))]
            case "result":
                self._result(event)
                return [_usage(field(event, "stats"))]
        return []

    def _result(self, event: Mapping[str, Any]) -> None:
        if event.get("status") == "success":
            self.verdict = Ok()
        elif text(event, "error", "type") == "FatalTurnLimitedError":
            self.verdict = Failed("steps", "gemini stopped the turn: it has made all the model calls of max_steps")
        else:
            self.verdict = judged(text(event, "error", "message") or "gemini failed without a word")

    def take_complaint(self, line: str) -> list[Entry]:
        if line.startswith("MCP issues detected"):
            if self.alone:
                # Without the hive's tools no answer would reach anyone, and yet the turn would look well.
                self.verdict = Failed("no_tools", "gemini could not start the hive's MCP server")
            return [Notice("warning", "an MCP server did not start: its tools are missing")]
        if "Error resuming session" in line:
            self.lost = True
        return []

    def outcome(self, exit_code: int | None) -> TurnOutcome:
        words = self.complaints.strip()
        if exit_code == _NO_AUTH:
            return NeedsLogin(f"gemini has no credentials: {words or 'it does not say more'}")
        if exit_code == _BAD_CONFIG:
            return Failed("config", words or "gemini does not take its configuration")
        return self.crash("gemini", exit_code)


def _usage(stats: object) -> Usage:
    cached = count(stats, "cached")
    return Usage(
        input=max(0, count(stats, "input_tokens") - cached), output=count(stats, "output_tokens"), cache_read=cached
    )
