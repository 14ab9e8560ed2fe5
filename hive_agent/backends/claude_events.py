"""Reads Claude Code's stream of events and judges how a turn ended. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from hive_agent.backends.base import Failed, FailureKind, NeedsLogin, Ok, TurnOutcome

_LOGIN = "authentication_failed"
_KINDS: Mapping[str, FailureKind] = {
    "rate_limit": "rate_limit",
    "server_error": "overloaded",
    "billing_error": "billing",
    "invalid_request": "refused",
}


@dataclass
class Reading:
    """What the events told so far. Unknown events and fields are skipped: new versions add more."""

    server: str
    server_status: str = ""
    """Of the MCP server named `server`, as the program saw it at its start."""
    finished: bool = False
    """The turn's result has come; what follows no longer counts."""
    is_error: bool = False
    text: str = ""
    terminal_reason: str = ""
    api_status: int | None = None
    assistant_error: str = ""
    turns: int = 0
    cost_usd: float = 0.0
    denied: tuple[str, ...] = ()
    """Names of tools whose use was not allowed."""

    def feed(self, line: bytes) -> None:
        """Take one line of output."""
        try:
            event = json.loads(line)
        except ValueError:
            return  # programs that it runs may write in between
        if not isinstance(event, dict) or self.finished:
            return
        match event.get("type"), event.get("subtype"):
            case "system", "init":
                self._take_servers(event.get("mcp_servers"))
            case "assistant", _:
                # Only the last counts: an earlier one was retried.
                self.assistant_error = _text(event.get("error"))
            case "result", _:
                self._take_result(event)

    def _take_servers(self, servers: object) -> None:
        for server in servers if isinstance(servers, list) else []:
            if isinstance(server, dict) and server.get("name") == self.server:
                self.server_status = _text(server.get("status"))

    def _take_result(self, event: dict[str, object]) -> None:
        self.finished = True
        self.is_error = event.get("is_error") is not False
        self.text = _text(event.get("result"))
        self.terminal_reason = _text(event.get("terminal_reason"))
        status = event.get("api_error_status")
        self.api_status = status if isinstance(status, int) else None
        turns, cost = event.get("num_turns"), event.get("total_cost_usd")
        self.turns = turns if isinstance(turns, int) else 0
        self.cost_usd = float(cost) if isinstance(cost, int | float) else 0.0
        denials = event.get("permission_denials")
        self.denied = tuple(
            _text(denial.get("tool_name"))
            for denial in (denials if isinstance(denials, list) else [])
            if isinstance(denial, dict)
        )

    def outcome(self, exit_code: int | None, stderr: str) -> TurnOutcome:
        """How the turn ended. `exit_code` is None if the program did not end by itself after its result.

        `subtype` of the result is not looked at: it says "success" of API failures too.
        """
        if not self.finished:
            return Failed("crashed", _joined(f"claude ended ({_exit(exit_code)}) without a result", stderr))
        if not self.is_error and exit_code in (0, None):
            return Ok()
        text = self.text.strip() or stderr.strip() or f"claude ended with {_exit(exit_code)}"
        if self.assistant_error == _LOGIN or self.api_status == 401:
            return NeedsLogin(text)
        return Failed(self._kind(), text)

    def _kind(self) -> FailureKind:
        if self.terminal_reason == "prompt_too_long":
            return "too_long"
        if self.assistant_error in _KINDS:
            return _KINDS[self.assistant_error]
        if self.api_status == 429:
            return "rate_limit"
        return "overloaded" if self.api_status is not None and self.api_status >= 500 else "refused"


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _exit(code: int | None) -> str:
    if code is None:
        return "still running"
    return f"signal {-code}" if code < 0 else f"exit code {code}"


def _joined(first: str, second: str) -> str:
    return f"{first}: {second.strip()}" if second.strip() else first
