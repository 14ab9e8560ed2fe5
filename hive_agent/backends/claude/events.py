"""Claude Code's events, read as transcript entries, token usage and outcome.

Unknown events and fields are skipped, as new versions add more. The texts come from models, tools and other untrusted
sources: long ones are truncated, and none is interpreted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from hive_agent.backends.base import Failed, TurnOutcome
from hive_agent.backends.claude import failures as claude_failures
from hive_agent.backends.transcript import (
    Entry,
    EntrySink,
    Notice,
    SessionStarted,
    TextPiece,
    TokenUsage,
    ToolCall,
    ToolResult,
    TranscriptText,
)
from hive_agent.infra.json_text import LONGEST_TEXT, count, field, text, truncate, truncate_nested

_RETRY_AFTER_STATUSES = frozenset({429, 503, 529})
"""Statuses after which the program waits as long as the API asks for."""
_LEAST_RETRY_AFTER = 60.0
"""Seconds to wait after a 429 that the program did not retry: it does not retry if the API asks for more than this, and
does not report the time (seen with 2.1.329 and an API key)."""


class ClaudeEventReader:
    """Reads the events of one turn.

    `message` is the prompt's number, `server` the required MCP server, `known` the conversation to continue, and
    `window` the size of the model's window in tokens, if an earlier turn reported it (else 0).
    """

    def __init__(self, emit: EntrySink, *, message: str, server: str, known: str | None, window: int = 0) -> None:
        self._emit = emit
        self._message = message
        self._server = server
        self._known = known
        self._calls = CallUsage(emit, window)
        self.session: str | None = None
        self.heard = False
        """Return whether there was any event."""
        self.server_missing = False
        self.result: Mapping[str, Any] | None = None
        self.waits = 0.0
        """Seconds without output that the program has announced, for a retry."""
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
        """Return whether a tool runs, which may take long without output."""
        return bool(self._tools)

    @property
    def over(self) -> bool:
        """Return whether the turn has ended."""
        return self.result is not None or self.server_missing

    @property
    def window(self) -> int:
        return self._calls.window

    def record_added(self) -> None:
        """Record that messages were added to the turn; the model has seen them after its next call."""
        self._unseen = True

    def record_missed(self) -> None:
        """Record that fetched messages could not be added to the turn, so that it does not count as successful."""
        self._missed = True

    def feed(self, event: Mapping[str, Any]) -> None:
        """Process one event."""
        self.heard, self.waits = True, 0.0
        match text(event, "type"):
            case "system":
                self._take_system(event)
            case "stream_event":
                if text(event, "event", "type") == "message_start":
                    self._unseen = False
                self._calls.add_stream_event(event)
                if piece := _piece(event):
                    self._emit(TextPiece(piece))
            case "assistant":
                self._take_assistant(event)
            case "user":
                for result in user_entries(event):
                    self._tools.discard(result.id)
                    self._emit(result)
            case "rate_limit_event":
                self._take_limit(event)
            case "result" if self._is_ours(event):
                self._take_result(event)

    def close(self) -> None:
        """Emit the entry that was held back. No more events may follow."""
        self._calls.close()

    def outcome(self, now: float) -> TurnOutcome:
        """The outcome of the turn; `now` is the time in seconds since 1970."""
        if self.server_missing:
            return Failed(
                "no_tools", "Claude Code did not start the hive's MCP server (mcp.json in the state directory)"
            )
        if self.result is None:
            return Failed("crashed", "Claude Code ended without a result")
        if self._compact_error is not None and field(self.result, "local_command") == "compact":
            return claude_failures.classify_compaction_error(self._compact_error)  # the result reports success
        if self._unseen and field(self.result, "is_error") is False:
            return Failed(
                "crashed", "Claude Code ended the turn before the model saw the messages that were added to it"
            )
        if self._missed and field(self.result, "is_error") is False:
            return Failed("internal", "new messages could not be added to the turn (see the log)")
        retry_after = self._resets_at - now if self._resets_at > now else self._retry_after
        if not retry_after and not self._retried and field(self.result, "api_error_status") == 429:
            retry_after = _LEAST_RETRY_AFTER
        return claude_failures.classify_result(self.result, self._error, retry_after or None)

    # --- events -----------------------------------------------------------------------------------------------

    def _take_system(self, event: Mapping[str, Any]) -> None:
        match text(event, "subtype"):
            case "init":
                self._take_init(event)
            case "api_retry":
                self._retried = True
                self.waits = seconds(event, "retry_delay_ms")
                if count(event, "error_status") in _RETRY_AFTER_STATUSES:
                    self._retry_after = self.waits
            case "status" if text(event, "compact_result") == "failed":
                self._compact_error = text(event, "compact_error")
            case "status" if text(event, "compact_result") == "success":
                self._compact_error = None
            case "compact_boundary":
                self._calls.record_compaction(count(event, "compact_metadata", "post_tokens"))
        notice = system_notice(event)
        if notice is not None:
            self._emit(notice)

    def _take_init(self, event: Mapping[str, Any]) -> None:
        self._model = text(event, "model")
        servers = field(event, "mcp_servers")
        found = [text(server, "status") for server in servers or () if text(server, "name") == self._server]
        # A pending server is still being started.
        self.server_missing = not any(status in ("connected", "pending") for status in found)
        if self.session is None:
            self.session = text(event, "session_id")
            self._emit(SessionStarted(self.session, self.session != self._known))

    def _take_assistant(self, event: Mapping[str, Any]) -> None:
        # Only the last error counts: earlier ones were retried.
        self._error = text(event, "error")
        if not is_synthetic(event):
            self._unseen = False
            self._calls.add_block(event)
        for entry in assistant_entries(event):
            if isinstance(entry, ToolCall):
                self._tools.add(entry.id)
            self._emit(entry)

    def _take_limit(self, event: Mapping[str, Any]) -> None:
        match text(event, "rate_limit_info", "status"):
            case "rejected":
                self._resets_at = float(count(event, "rate_limit_info", "resetsAt"))
            case "allowed_warning":
                self._emit(Notice("warning", "the subscription's limit is nearly reached"))

    def _is_ours(self, event: Mapping[str, Any]) -> bool:
        """Return whether a result is for this turn's prompt; versions that do not report it start no turns."""
        named = field(event, "user_message_uuids")
        return not isinstance(named, list) or not named or self._message in named

    def _take_result(self, event: Mapping[str, Any]) -> None:
        self.result = event
        for tool in sorted(self._tools):
            self._emit(ToolResult(tool, "(cancelled)", True, 0))
        self._tools.clear()
        self._calls.set_cost(event, self._model)


LONGEST_RESULT = 30_000
"""Characters of a tool's result, and of each text in a tool's input, in the transcript."""


def is_synthetic(event: Mapping[str, Any]) -> bool:
    """Return whether this is a message of Claude Code itself instead of the model."""
    return text(event, "message", "model") == "<synthetic>"


def assistant_entries(event: Mapping[str, Any]) -> Iterator[Entry]:
    """The texts and tool calls of the model; synthetic messages of Claude Code become notices."""
    for block in _blocks(event):
        match field(block, "type"):
            case "text" if is_synthetic(event):
                yield Notice("error" if field(event, "error") else "info", truncate(text(block, "text"), LONGEST_TEXT))
            case "text" if text(block, "text").strip():
                yield TranscriptText(truncate(text(block, "text"), LONGEST_TEXT))
            case "tool_use" | "server_tool_use":
                yield ToolCall(
                    text(block, "id"), text(block, "name"), truncate_nested(field(block, "input"), LONGEST_RESULT)
                )


def user_entries(event: Mapping[str, Any]) -> Iterator[ToolResult]:
    """The results of tools. Prompts, which are repeated in these events, are skipped."""
    for block in _blocks(event):
        if field(block, "type") == "tool_result":
            result = _plain_text(field(block, "content"))
            is_error = field(block, "is_error") is True
            yield ToolResult(text(block, "tool_use_id"), result[:LONGEST_RESULT], is_error, len(result))


def system_notice(event: Mapping[str, Any]) -> Notice | None:
    """The notice for an automatic action of Claude Code, None for an event that needs none."""
    match text(event, "subtype"):
        case "api_retry":
            status = count(event, "error_status")
            why = f"{status} {text(event, 'error')}".strip() if status else text(event, "error") or "no answer"
            tried, most = count(event, "attempt"), count(event, "max_retries")
            wait = seconds(event, "retry_delay_ms")
            again = f"the model's API failed: {why}; retry {tried} of {most} in {wait:.1f} s"
            return Notice("warning", again, repeat=max(1, tried))
        case "compact_boundary":
            before, after = (count(event, "compact_metadata", f"{when}_tokens") for when in ("pre", "post"))
            how = f" from {before} to {after} tokens" if before and after else ""
            return Notice("info", f"the conversation was compacted{how}")
        case "permission_denied":
            return Notice("warning", f"not allowed: {text(event, 'tool_name') or 'a tool'}")
        case "model_fallback" | "model_refusal_fallback":
            return Notice("warning", "another model answers, as the chosen one is not available")
    return None


def seconds(event: Mapping[str, Any], key: str) -> float:
    """The milliseconds at `key`, in seconds; 0 if there is no usable number."""
    found = field(event, key)
    usable = isinstance(found, int | float) and not isinstance(found, bool) and 0 < found < 1e12
    return found / 1_000 if usable else 0.0


def _piece(event: Mapping[str, Any]) -> str:
    """Return the text that an event adds to the model's answer; of a sub-agent's answer nothing."""
    if field(event, "parent_tool_use_id") or text(event, "event", "delta", "type") != "text_delta":
        return ""
    return text(event, "event", "delta", "text")


def _blocks(event: Mapping[str, Any]) -> list[Any]:
    content = field(event, "message", "content")
    return content if isinstance(content, list) else []


def _plain_text(content: object) -> str:
    """The text of a result, which may be one text or blocks of several kinds."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    return "\n".join(text(block, "text") or f"[{text(block, 'type') or 'unknown'}]" for block in content)


_MOST_DOLLARS = 1e9


class CallUsage:
    """The usage of model calls. A call is emitted when it ends; the last call of a turn waits for the turn's cost."""

    def __init__(self, emit: EntrySink, window: int) -> None:
        self._emit = emit
        self.window = window
        self._context = 0
        self._message = ""
        self._call: TokenUsage | None = None

    def add_stream_event(self, event: Mapping[str, Any]) -> None:
        """Read a part of a streamed answer: the first and the last part contain the tokens."""
        piece = field(event, "event")
        match text(piece, "type"):
            case "message_start":
                self._begin(piece)
            case "message_delta" if self._call is not None:
                output = count(piece, "usage", "output_tokens")
                if not text(event, "parent_tool_use_id"):  # a sub-agent has a conversation of its own
                    self._context = self._call.input + self._call.cache_read + self._call.cache_write + output
                self._call = replace(self._call, output=output, context=self._context)
                if text(piece, "delta", "stop_reason") == "tool_use":
                    self.close()

    def add_block(self, event: Mapping[str, Any]) -> None:
        """Read a block of an answer, for an API that does not stream."""
        if text(event, "message", "id") != self._message:
            self._begin(event)

    def record_compaction(self, context: int) -> None:
        """Emit the usage of a compaction to `context` tokens (0: not reported), which was a model call as well."""
        self.close()
        self._context = context
        self._emit(TokenUsage(context=context, window=self.window))

    def set_cost(self, result: Mapping[str, Any], model: str) -> None:
        """Emit the last call of the turn with the cost of the turn, which ran with `model`."""
        self.window = count(result, "modelUsage", model, "contextWindow") or self.window
        spent = field(result, "model_usage_since_last_result")
        prices = [field(used, "costUSD") for used in spent.values()] if isinstance(spent, dict) else []
        known = [price for price in prices if isinstance(price, int | float) and 0 <= price < _MOST_DOLLARS]
        if self._call is not None:
            self._call = replace(self._call, cost_usd=sum(known) if known else None, window=self.window)
        elif sum(known) > 0:
            self._call = TokenUsage(cost_usd=sum(known), context=self._context, window=self.window)
        self.close()

    def close(self) -> None:
        """Emit the call that was held back."""
        call, self._call = self._call, None
        if call is not None:
            self._emit(call)

    def _begin(self, holder: Mapping[str, Any]) -> None:
        self.close()
        self._message = text(holder, "message", "id")
        used = field(holder, "message", "usage")
        self._call = TokenUsage(
            input=count(used, "input_tokens"),
            output=count(used, "output_tokens"),
            cache_read=count(used, "cache_read_input_tokens"),
            cache_write=count(used, "cache_creation_input_tokens"),
            context=self._context,
            window=self.window,
        )
