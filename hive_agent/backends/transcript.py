"""The entries of a turn's transcript, independent of the agent CLI.

Their texts come from models, tools and other untrusted sources, so they must be escaped where they are shown.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from hive_core.text import first_line

SHOWN_ACTIVITY = 200
"""Characters of the line that says what a turn does."""
_TELLING = ("command", "file_path", "path", "pattern", "url", "query", "to", "description", "prompt")
"""Inputs of tools that say most about a call, the first that is there."""


@dataclass(frozen=True)
class TranscriptMessage:
    """A message of the turn. `characters` is the length of the whole text, as `text` may be truncated."""

    id: int
    sender: str
    text: str
    characters: int


@dataclass(frozen=True)
class TranscriptText:
    """A text of the model."""

    text: str


@dataclass(frozen=True)
class TextPiece:
    """The next piece of a text that the model is writing. It is shown, not stored: the whole comes as a text."""

    text: str


@dataclass(frozen=True)
class ToolCall:
    """A tool call of the model; the result has the same `id`."""

    id: str
    name: str
    input: Any


@dataclass(frozen=True)
class ToolResult:
    """The result of a tool call. `characters` is the length of the whole text, as `text` may be truncated."""

    id: str
    text: str
    is_error: bool
    characters: int


@dataclass(frozen=True)
class Notice:
    """An event such as a retry, a compaction or a denied tool.

    `repeat`: the model's API failed so many times in a row, and the CLI calls it again by itself.
    """

    level: Literal["info", "warning", "error"]
    text: str
    repeat: int = 0


@dataclass(frozen=True)
class TokenUsage:
    """The usage of one model call, in tokens. `cost_usd` is None if the CLI does not report it.

    `context` is the part of the model's window (`window`, 0 if unknown) that is used after the call.
    """

    input: int = 0
    output: int = 0
    cache_read: int = 0
    cache_write: int = 0
    cost_usd: float | None = None
    context: int = 0
    window: int = 0


@dataclass(frozen=True)
class SessionStarted:
    """The CLI's conversation that the turn belongs to; `fresh` if it starts with this turn."""

    id: str
    fresh: bool


Entry = TranscriptMessage | TranscriptText | TextPiece | ToolCall | ToolResult | Notice | TokenUsage | SessionStarted
EntrySink = Callable[[Entry], None]

KINDS: Mapping[type[Entry], str] = {
    TranscriptMessage: "message",
    TranscriptText: "text",
    ToolCall: "call",
    ToolResult: "result",
    Notice: "notice",
    TokenUsage: "usage",
    SessionStarted: "session",
}


def describe_activity(entry: Entry) -> str | None:
    """Return what an entry says that its turn does now, in one line; None if it says nothing of that."""
    if isinstance(entry, TranscriptText):
        return first_line(entry.text, SHOWN_ACTIVITY) or None
    if not isinstance(entry, ToolCall):
        return None
    name = entry.name.removeprefix("mcp__hive__").removeprefix("hive_")
    given = entry.input if isinstance(entry.input, dict) else {}
    telling = next((given[key] for key in _TELLING if isinstance(given.get(key), str)), "")
    return first_line(f"{name} {telling.strip()}", SHOWN_ACTIVITY) or None


def as_json(entry: Entry) -> dict[str, Any]:
    """The fields of the entry for JSON, with its `kind`."""
    return {"kind": KINDS[type(entry)], **asdict(entry)}
