"""Claude Code's events, read as transcript entries, token usage and outcome.

Unknown events and fields are skipped: new versions add more.

What is in them is the model's, a tool's or a stranger's: it is cut where it is long, and shown to no interpreter.
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
    TokenUsage,
    ToolCall,
    ToolResult,
    TranscriptText,
)
from hive_agent.infra.json_text import LONGEST_TEXT, count, cut, field, shortened, text

_TOLD_LATER = frozenset({429, 503, 529})
"""Statuses after which the program waits as long as the API asks for."""
_UNTOLD_SECONDS = 60.0
"""What the API asks for at least when the program gives up on a 429 without another try: it does that above this, and
does not say how long (seen with 2.1.329, and an API key)."""


class ClaudeEventReader:
    """One turn, event by event.

    `message` is the prompt's number, `server` the MCP server that has to be there, `known` the conversation that is to
    be gone on with, and `window` how much the model takes, in tokens, as far as an earlier turn told (else 0).
    """

    def __init__(self, tell: EntrySink, *, message: str, server: str, known: str | None, window: int = 0) -> None:
        self._tell = tell
        self._message = message
        self._server = server
        self._known = known
        self._calls = CallUsage(tell, window)
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
                for result in user_entries(event):
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
                self.waits = seconds(event, "retry_delay_ms")
                if count(event, "error_status") in _TOLD_LATER:
                    self._retry_after = self.waits
            case "status" if text(event, "compact_result") == "failed":
                self._compact_error = text(event, "compact_error")
            case "status" if text(event, "compact_result") == "success":
                self._compact_error = None
            case "compact_boundary":
                self._calls.shortened(count(event, "compact_metadata", "post_tokens"))
        notice = system_notice(event)
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
            self._tell(SessionStarted(self.session, self.session != self._known))

    def _take_assistant(self, event: Mapping[str, Any]) -> None:
        # Only the last counts: an earlier one was retried.
        self._error = text(event, "error")
        if not stands_in(event):
            self._unseen = False
            self._calls.whole(event)
        for entry in assistant_entries(event):
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


LONGEST_RESULT = 30_000
"""Characters of a tool's result, and of each text in a tool's input, that go into the transcript."""


def stands_in(event: Mapping[str, Any]) -> bool:
    """Whether this is Claude Code's own message in the place of the model's."""
    return text(event, "message", "model") == "<synthetic>"


def assistant_entries(event: Mapping[str, Any]) -> Iterator[Entry]:
    """What the model said and called. What Claude Code says in the model's name is a notice."""
    for block in _blocks(event):
        match field(block, "type"):
            case "text" if stands_in(event):
                yield Notice("error" if field(event, "error") else "info", cut(text(block, "text"), LONGEST_TEXT))
            case "text" if text(block, "text").strip():
                yield TranscriptText(cut(text(block, "text"), LONGEST_TEXT))
            case "tool_use" | "server_tool_use":
                yield ToolCall(text(block, "id"), text(block, "name"), shortened(field(block, "input"), LONGEST_RESULT))


def user_entries(event: Mapping[str, Any]) -> Iterator[ToolResult]:
    """What tools answered. Prompts, which come back here as well, are nobody's news."""
    for block in _blocks(event):
        if field(block, "type") == "tool_result":
            said = _flat(field(block, "content"))
            is_error = field(block, "is_error") is True
            yield ToolResult(text(block, "tool_use_id"), said[:LONGEST_RESULT], is_error, len(said))


def system_notice(event: Mapping[str, Any]) -> Notice | None:
    """What a person should know of what Claude Code does by itself."""
    match text(event, "subtype"):
        case "api_retry":
            status = count(event, "error_status")
            why = f"{status} {text(event, 'error')}".strip() if status else text(event, "error") or "no answer"
            tried, most = count(event, "attempt"), count(event, "max_retries")
            wait = seconds(event, "retry_delay_ms")
            return Notice("warning", f"the model's API: {why}; try {tried} of {most} follows in {wait:.1f} s")
        case "compact_boundary":
            before, after = (count(event, "compact_metadata", f"{when}_tokens") for when in ("pre", "post"))
            how = f" from {before} to {after} tokens" if before and after else ""
            return Notice("info", f"the conversation was shortened{how}")
        case "permission_denied":
            return Notice("warning", f"not allowed: {text(event, 'tool_name') or 'a tool'}")
        case "model_fallback" | "model_refusal_fallback":
            return Notice("warning", "another model answers, as the chosen one does not")
    return None


def seconds(event: Mapping[str, Any], key: str) -> float:
    """Milliseconds at `key`, whole or not, in seconds."""
    found = field(event, key)
    usable = isinstance(found, int | float) and not isinstance(found, bool) and 0 < found < 1e12
    return found / 1_000 if usable else 0.0


def _blocks(event: Mapping[str, Any]) -> list[Any]:
    content = field(event, "message", "content")
    return content if isinstance(content, list) else []


def _flat(content: object) -> str:
    """The text of a result, which may be one text or blocks of several kinds."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    return "\n".join(text(block, "text") or f"[{text(block, 'type') or 'something'}]" for block in content)


_MOST_DOLLARS = 1e9


class CallUsage:
    """A call is told when it ends; one that may be the turn's last waits for the turn's price."""

    def __init__(self, tell: EntrySink, window: int) -> None:
        self._tell = tell
        self.window = window
        self._context = 0
        self._message = ""
        self._call: TokenUsage | None = None

    def streamed(self, event: Mapping[str, Any]) -> None:
        """A piece of an answer: its first and its last have the tokens."""
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

    def whole(self, event: Mapping[str, Any]) -> None:
        """A block of an answer, which has been streamed unless the API could not do that."""
        if text(event, "message", "id") != self._message:
            self._begin(event)

    def shortened(self, context: int) -> None:
        """The conversation was shortened to so many tokens, 0 if that was not told: that was a call as well."""
        self.close()
        self._context = context
        self._tell(TokenUsage(context=context, window=self.window))

    def priced(self, result: Mapping[str, Any], model: str) -> None:
        """The turn is over; `model` is the one that it was asked with."""
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
        """Tell the call that was kept back."""
        call, self._call = self._call, None
        if call is not None:
            self._tell(call)

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
