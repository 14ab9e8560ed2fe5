"""Claude Code's messages as entries of a transcript. Pure.

What is in them is the model's, a tool's or a stranger's: it is cut where it is long, and shown to no interpreter.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from hive_agent.backends.cutting import LONGEST_TEXT, cut, shortened
from hive_agent.backends.json_fields import count, field, text
from hive_agent.backends.transcript import Entry, Notice, Text, ToolCall, ToolResult

LONGEST_RESULT = 30_000
"""Characters of a tool's result, and of each text in a tool's input, that go into the transcript."""


def stands_in(event: Mapping[str, Any]) -> bool:
    """Whether this is Claude Code's own message in the place of the model's."""
    return text(event, "message", "model") == "<synthetic>"


def of_assistant(event: Mapping[str, Any]) -> Iterator[Entry]:
    """What the model said and called. What Claude Code says in the model's name is a notice."""
    for block in _blocks(event):
        match field(block, "type"):
            case "text" if stands_in(event):
                yield Notice("error" if field(event, "error") else "info", cut(text(block, "text"), LONGEST_TEXT))
            case "text" if text(block, "text").strip():
                yield Text(cut(text(block, "text"), LONGEST_TEXT))
            case "tool_use" | "server_tool_use":
                yield ToolCall(text(block, "id"), text(block, "name"), shortened(field(block, "input"), LONGEST_RESULT))


def of_user(event: Mapping[str, Any]) -> Iterator[ToolResult]:
    """What tools answered. Prompts, which come back here as well, are nobody's news."""
    for block in _blocks(event):
        if field(block, "type") == "tool_result":
            said = _flat(field(block, "content"))
            is_error = field(block, "is_error") is True
            yield ToolResult(text(block, "tool_use_id"), said[:LONGEST_RESULT], is_error, len(said))


def of_system(event: Mapping[str, Any]) -> Notice | None:
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
