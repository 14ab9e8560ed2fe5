"""Reads what `opencode run --format json --print-logs` tells. Pure.

Seen with version 1.18.33; the events are those of `emit` in its packages/opencode/src/cli/cmd/run.ts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hive_agent.backends import mcp_config
from hive_agent.backends.api_errors import judged
from hive_agent.backends.base import Failed, NeedsLogin, Ok, TurnOutcome
from hive_agent.backends.json_fields import count, field, text
from hive_agent.backends.one_shot.reader import Reading, tool_result
from hive_agent.backends.transcript import Entry, Notice, Text, ToolCall, Usage

_TRIES = 4
"""Failing calls of the model in a row after which the turn is given up: opencode itself would try for ever."""
_ERROR = re.compile(r'error\.error="((?:[^"\\]|\\.)*)"')
_LOGIN = "ProviderAuthError"
_TOO_LONG = "ContextOverflowError"


@dataclass
class OpencodeReading(Reading):
    """One run."""

    failure: Failed | NeedsLogin | None = None
    """What the last error event told; forgotten when the model is heard again."""
    steps: int = 0
    failing: int = 0
    """Calls of the model that failed since it was last heard."""

    def take(self, event: Mapping[str, Any]) -> list[Entry]:
        self.session = self.session or text(event, "sessionID")
        self.settled = False
        part = field(event, "part")
        match event.get("type"):
            case "step_start":
                self.failing, self.failure = 0, None
            case "text":
                return [Text(text(part, "text"))]
            case "tool_use":
                return self._tool(part)
            case "step_finish":
                self.steps += 1
                self.settled = text(part, "reason") not in ("", "tool-calls")
                return [_usage(part)]
            case "error":
                self.failure = _failure(field(event, "error"))
        return []

    def _tool(self, part: object) -> list[Entry]:
        """opencode tells of a call when it is over."""
        call, state = text(part, "callID"), field(part, "state")
        failed = text(state, "status") == "error"
        said = text(state, "error") if failed else text(state, "output")
        return [
            ToolCall(call, text(part, "tool"), field(state, "input")),
            tool_result(call, said, is_error=failed),
        ]

    def take_complaint(self, line: str) -> list[Entry]:
        if 'message="server unavailable"' in line:
            name = line.partition(" key=")[2].partition(" ")[0]
            if name == mcp_config.NAME:
                # Without the hive's tools no answer would reach anyone, and yet the turn would look well.
                self.verdict = Failed("no_tools", "opencode could not start the hive's MCP server")
                return []
            return [Notice("warning", f"the MCP server {name} did not start: its tools are missing")]
        if 'message="stream error"' in line and "small=true" not in line:
            found = _ERROR.search(line)
            words = found[1] if found else line
            self.failing += 1
            if self.failing >= _TRIES:
                verdict = judged(words)
                if isinstance(verdict, Failed) and verdict.kind == "refused":
                    # It tries again only what its status calls passing, which it does not tell here.
                    verdict = Failed("overloaded", words)
                self.verdict = verdict
            return [Notice("warning", f"the model's API failed (try {self.failing}): {words}")]
        if "Session not found" in line:
            self.lost = True
        return []

    def outcome(self, exit_code: int | None) -> TurnOutcome:
        if self.failure is not None:
            return self.failure
        if self.settled or (exit_code == 0 and self.steps):
            return Ok()
        found = re.search(r"ProviderModelNotFoundError: ([^\"\\]*)", self.complaints)
        return Failed("config", f"opencode: {found[1]}") if found else self.crash("opencode", exit_code)


def _usage(part: object) -> Usage:
    tokens = field(part, "tokens")
    cost = field(part, "cost")
    usage = Usage(
        input=count(tokens, "input"),
        output=count(tokens, "output") + count(tokens, "reasoning"),
        cache_read=count(tokens, "cache", "read"),
        cache_write=count(tokens, "cache", "write"),
        cost_usd=float(cost) if isinstance(cost, int | float) else None,
    )
    full = usage.input + usage.output + usage.cache_read + usage.cache_write
    return Usage(usage.input, usage.output, usage.cache_read, usage.cache_write, usage.cost_usd, context=full)


def _failure(error: object) -> Failed | NeedsLogin:
    name = text(error, "name")
    words = text(error, "data", "message") or name or "opencode told of an error without a word"
    if name == _LOGIN:
        return NeedsLogin(words)
    if name == _TOO_LONG:
        return Failed("too_long", words)
    retry_after = text(error, "data", "responseHeaders", "retry-after")
    seconds = float(retry_after) if retry_after.isascii() and retry_after.isdigit() and len(retry_after) < 10 else None
    return judged(words, count(error, "data", "statusCode") or None, seconds)
