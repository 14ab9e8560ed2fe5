"""Reads what `codex exec --json` tells. Pure.

Seen with version 0.169.0; the events are those of codex-rs/exec/src/exec_events.rs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hive_agent.backends import json_fields, mcp_config
from hive_agent.backends.api_errors import judged
from hive_agent.backends.base import Failed, Ok, TurnOutcome
from hive_agent.backends.cli_session import Known
from hive_agent.backends.cutting import shortened
from hive_agent.backends.json_fields import count, text
from hive_agent.backends.one_shot.reader import SHOWN_RESULT, Reading, tool_result
from hive_agent.backends.transcript import Entry, Notice, Text, ToolCall, Usage

_WORK = ("command_execution", "file_change", "mcp_tool_call", "web_search", "collab_tool_call")


@dataclass
class CodexReading(Reading):
    """One run of a conversation. `most_calls` is how many tool calls it may make."""

    known: Known = field(default_factory=Known)
    most_calls: int = 10_000
    called: set[str] = field(default_factory=set)
    """Tool calls that were told; codex tells of some only when they are over."""
    total: Known | None = None
    """The sums that codex gave at the end."""

    def take(self, event: Mapping[str, Any]) -> list[Entry]:
        item = json_fields.field(event, "item")
        match event.get("type"):
            case "thread.started":
                self.session = text(event, "thread_id")
            case "item.started" if text(item, "type") in _WORK:
                return self._call(item)
            case "item.completed":
                return self._completed(item)
            case "error":
                return [Notice("warning", text(event, "message"))]
            case "turn.completed":
                self.settled, self.verdict = True, Ok()
                return [self._usage(json_fields.field(event, "usage"))]
            case "turn.failed":
                self.verdict = judged(text(event, "error", "message") or "codex failed without a word")
        return []

    def _call(self, item: object) -> list[Entry]:
        call = text(item, "id")
        if call in self.called:
            return []
        self.called.add(call)
        if len(self.called) > self.most_calls:
            self.verdict = Failed("steps", f"the turn was stopped after {self.most_calls} tool calls (max_steps)")
        return [ToolCall(call, _name(item), _input(item))]

    def _completed(self, item: object) -> list[Entry]:
        match text(item, "type"):
            case "agent_message":
                return [Text(text(item, "text"))]
            case "error":
                return [Notice("warning", text(item, "message"))]
            case kind if kind in _WORK:
                failed = text(item, "status") in ("failed", "declined") or count(item, "exit_code") != 0
                return [*self._call(item), tool_result(text(item, "id"), _said(item), is_error=failed)]
        return []

    def _usage(self, usage: object) -> Usage:
        """Of this turn: codex gives the sums of the whole conversation."""
        before = self.known if self.known.id == self.session else Known()
        self.total = Known(
            input=count(usage, "input_tokens"),
            cached=count(usage, "cached_input_tokens"),
            output=count(usage, "output_tokens"),
        )
        taken = max(0, self.total.input - before.input)
        cached = max(0, self.total.cached - before.cached)
        return Usage(input=max(0, taken - cached), output=max(0, self.total.output - before.output), cache_read=cached)

    def sums(self, known: Known) -> Known:
        if self.total is None:
            return known
        return self.total.model_copy(update={"id": known.id})

    def take_complaint(self, line: str) -> list[Entry]:
        if "no rollout found" in line:
            self.lost = True
        elif "required MCP servers failed to initialize" in line:
            self.verdict = Failed("no_tools", f"codex could not start the MCP server `{mcp_config.NAME}` of the hive")
        return []

    def outcome(self, exit_code: int | None) -> TurnOutcome:
        return self.crash("codex", exit_code)


def _name(item: object) -> str:
    if text(item, "type") == "mcp_tool_call":
        return f"mcp__{text(item, 'server')}__{text(item, 'tool')}"
    return text(item, "type")


def _input(item: object) -> Any:
    for key in ("arguments", "command", "changes", "query", "prompt"):
        found = json_fields.field(item, key)
        if found is not None:
            return found if key == "arguments" else {key: found}
    return {}


def _said(item: object) -> str:
    """What the tool answered, as text."""
    output = text(item, "aggregated_output") or text(item, "error", "message")
    if output:
        return output
    content = json_fields.field(item, "result", "content")
    parts = content if isinstance(content, list) else []
    return "\n".join(text(part, "text") or json.dumps(shortened(part, SHOWN_RESULT)) for part in parts)
