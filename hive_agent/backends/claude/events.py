"""What the events of one turn of Claude Code mean: entries of the transcript, and how the turn ended. Pure.

Unknown events and fields are skipped: new versions add more.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hive_agent.backends.base import Failed, TurnOutcome
from hive_agent.backends.claude import entries as claude_entries
from hive_agent.backends.claude import failures as claude_failures
from hive_agent.backends.claude.usage import Calls
from hive_agent.backends.json_fields import count, field, text
from hive_agent.backends.transcript import Notice, Session, Tell, ToolCall, ToolResult

_TOLD_LATER = frozenset({429, 503, 529})
"""Statuses after which the program waits as long as the API asks for."""
_UNTOLD_SECONDS = 60.0
"""What the API asks for at least when the program gives up on a 429 without another try: it does that above this, and
does not say how long (seen with 2.1.329, and an API key)."""


class Reading:
    """One turn, event by event.

    `message` is the prompt's number, `server` the MCP server that has to be there, `known` the conversation that is to
    be gone on with, and `window` how much the model takes, in tokens, as far as an earlier turn told (else 0).
    """

    def __init__(self, tell: Tell, *, message: str, server: str, known: str | None, window: int = 0) -> None:
        self._tell = tell
        self._message = message
        self._server = server
        self._known = known
        self._calls = Calls(tell, window)
        self.session: str | None = None
        self.heard = False
        """Anything was said at all."""
        self.server_missing = False
        self.result: Mapping[str, Any] | None = None
        self.waits = 0.0
        """How long the program has said that it will say nothing, in seconds."""
        self._tools: set[str] = set()
        self._model = ""
        self._error = ""
        self._retried = False
        self._retry_after = 0.0
        self._resets_at = 0.0
        self._compact_error: str | None = None
        self._unseen = False
        self._missed = False

    @property
    def working(self) -> bool:
        """Whether a tool runs, which may take long and say nothing."""
        return bool(self._tools)

    @property
    def over(self) -> bool:
        """Whether there is nothing more to wait for."""
        return self.result is not None or self.server_missing

    @property
    def window(self) -> int:
        return self._calls.window

    def added(self) -> None:
        """Messages were put into the turn; they count as seen once the model is asked again."""
        self._unseen = True

    def missed(self) -> None:
        """Messages were to be put into the turn, and could not be: it must not pass for one that handled them."""
        self._missed = True

    def feed(self, event: Mapping[str, Any]) -> None:
        """Take one event."""
        self.heard, self.waits = True, 0.0
        match text(event, "type"):
            case "system":
                self._take_system(event)
            case "stream_event":
                if text(event, "event", "type") == "message_start":
                    self._unseen = False
                self._calls.streamed(event)
            case "assistant":
                self._take_assistant(event)
            case "user":
                for result in claude_entries.of_user(event):
                    self._tools.discard(result.id)
                    self._tell(result)
            case "rate_limit_event":
                self._take_limit(event)
            case "result" if self._is_ours(event):
                self._take_result(event)

    def close(self) -> None:
        """No more events come: tell what was kept back."""
        self._calls.close()

    def outcome(self, now: float) -> TurnOutcome:
        """How the turn ended; `now` is the time, in seconds since 1970."""
        if self.server_missing:
            return Failed(
                "no_tools", "Claude Code did not start the hive's MCP server (mcp.json in the state directory)"
            )
        if self.result is None:
            return Failed("crashed", "Claude Code ended without a result")
        if self._compact_error is not None and field(self.result, "local_command") == "compact":
            return claude_failures.compacted(self._compact_error)  # the result speaks of success
        if self._unseen and field(self.result, "is_error") is False:
            return Failed("crashed", "Claude Code ended the turn before the model saw what had come in meanwhile")
        if self._missed and field(self.result, "is_error") is False:
            return Failed("internal", "messages that came in meanwhile could not be given to the model (see the log)")
        later = self._resets_at - now if self._resets_at > now else self._retry_after
        if not later and not self._retried and field(self.result, "api_error_status") == 429:
            later = _UNTOLD_SECONDS
        return claude_failures.judged(self.result, self._error, later or None)

    # --- events -----------------------------------------------------------------------------------------------

    def _take_system(self, event: Mapping[str, Any]) -> None:
        match text(event, "subtype"):
            case "init":
                self._take_init(event)
            case "api_retry":
                self._retried = True
                self.waits = claude_entries.seconds(event, "retry_delay_ms")
                if count(event, "error_status") in _TOLD_LATER:
                    self._retry_after = self.waits
            case "status" if text(event, "compact_result") == "failed":
                self._compact_error = text(event, "compact_error")
            case "status" if text(event, "compact_result") == "success":
                self._compact_error = None
            case "compact_boundary":
                self._calls.shortened(count(event, "compact_metadata", "post_tokens"))
        notice = claude_entries.of_system(event)
        if notice is not None:
            self._tell(notice)

    def _take_init(self, event: Mapping[str, Any]) -> None:
        self._model = text(event, "model")
        servers = field(event, "mcp_servers")
        found = [text(server, "status") for server in servers or () if text(server, "name") == self._server]
        # One that is still being started comes later.
        self.server_missing = not any(status in ("connected", "pending") for status in found)
        if self.session is None:
            self.session = text(event, "session_id")
            self._tell(Session(self.session, self.session != self._known))

    def _take_assistant(self, event: Mapping[str, Any]) -> None:
        # Only the last counts: an earlier one was retried.
        self._error = text(event, "error")
        if not claude_entries.stands_in(event):
            self._unseen = False
            self._calls.whole(event)
        for entry in claude_entries.of_assistant(event):
            if isinstance(entry, ToolCall):
                self._tools.add(entry.id)
            self._tell(entry)

    def _take_limit(self, event: Mapping[str, Any]) -> None:
        match text(event, "rate_limit_info", "status"):
            case "rejected":
                self._resets_at = float(count(event, "rate_limit_info", "resetsAt"))
            case "allowed_warning":
                self._tell(Notice("warning", "the subscription's limit is nearly reached"))

    def _is_ours(self, event: Mapping[str, Any]) -> bool:
        """Whether a result is for this turn's prompt; a version that does not say begins no turns of its own."""
        named = field(event, "user_message_uuids")
        return not isinstance(named, list) or not named or self._message in named

    def _take_result(self, event: Mapping[str, Any]) -> None:
        self.result = event
        for tool in sorted(self._tools):
            self._tell(ToolResult(tool, "(broken off)", True, 0))
        self._tools.clear()
        self._calls.priced(event, self._model)
