"""The step of a turn, in one line, that an entry of its transcript tells."""

from __future__ import annotations

import pytest

from hive_agent.backends.transcript import (
    SHOWN_ACTIVITY,
    Entry,
    Notice,
    ToolCall,
    ToolResult,
    TranscriptText,
    describe_activity,
)


@pytest.mark.parametrize(
    ("entry", "line"),
    [
        (ToolCall("1", "Bash", {"command": "cargo test\n| tail"}), "Bash cargo test"),
        (ToolCall("1", "mcp__hive__send", {"to": "bob", "body": "x"}), "send bob"),
        (ToolCall("1", "Odd", ["no", "object"]), "Odd"),
        (ToolCall("1", "Read", {"file_path": 7}), "Read"),
        (TranscriptText("\n\nI look at it.\nThen more."), "I look at it."),
        (TranscriptText(" \n"), None),
        (TranscriptText("a\u202eb\x1b[2J"), "a\\u202eb\\x1b[2J"),
        (ToolResult("1", "out", is_error=False, characters=3), None),
        (Notice("info", "retried"), None),
    ],
)
def test_activity_is_one_visible_line(entry: Entry, line: str | None) -> None:
    """A call is its tool and the telling input, a text its first line; results and notices change nothing."""
    assert describe_activity(entry) == line


def test_activity_is_bounded() -> None:
    """However long an input is, the line is not."""
    assert len(describe_activity(ToolCall("1", "Bash", {"command": "x" * 100_000})) or "") <= SHOWN_ACTIVITY
