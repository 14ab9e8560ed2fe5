"""What happens in a turn, in the words of no particular agent CLI: the entries of a transcript.

Their texts are a model's, a tool's or a stranger's: whoever shows them escapes them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class TranscriptMessage:
    """A message that the turn is about, as the harness took it in. `characters` is its length, where `text` was cut."""

    id: int
    sender: str
    text: str
    characters: int


@dataclass(frozen=True)
class TranscriptText:
    """The model said something."""

    text: str


@dataclass(frozen=True)
class ToolCall:
    """The model calls a tool; `id` ties the result to it."""

    id: str
    name: str
    input: Any


@dataclass(frozen=True)
class ToolResult:
    """A tool answered. `characters` is how much it said in all, where `text` was cut."""

    id: str
    text: str
    is_error: bool
    characters: int


@dataclass(frozen=True)
class Notice:
    """Something that is neither the model's nor a tool's: a retry, a compaction, a denied tool."""

    level: Literal["info", "warning", "error"]
    text: str


@dataclass(frozen=True)
class TokenUsage:
    """What one model call took, in tokens. `cost_usd` is None where the CLI does not tell it.

    `context` is how much of the model's window (`window`, 0 if unknown) is full after it.
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
    """The conversation of the CLI that the turn belongs to; `fresh` if it begins with this turn."""

    id: str
    fresh: bool


Entry = TranscriptMessage | TranscriptText | ToolCall | ToolResult | Notice | TokenUsage | SessionStarted
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


def as_json(entry: Entry) -> dict[str, Any]:
    """The entry as JSON has it, with its `kind`."""
    return {"kind": KINDS[type(entry)], **asdict(entry)}
