"""Forms of decisions."""

from __future__ import annotations

import pytest

from hive_core.errors import HiveError
from hive_core.services.dashboard.pages.decisions.actions import line_comments, reason


def test_comments_become_a_reason() -> None:
    """Comments on lines stand below the reviewer's words, in the order of files and lines, each with its place."""
    fields = {
        "note": "Not yet.\r\n",
        "line new 12 1 lib/a b.nix": "why two?",
        "line old 3 0 agent.nix": "keep\r\nthis",
        "line new 2 1 lib/a b.nix": "typo",
        "line new 9 1 lib/a b.nix": " ",
    }
    assert reason(fields["note"], line_comments(fields)) == (
        "Not yet.\n\nagent.nix:3 (before the change): keep\nthis\nlib/a b.nix:2: typo\nlib/a b.nix:12: why two?"
    )
    assert reason("", []) == ""
    assert reason("", line_comments({"line new 1 0 a\nb\x1b": "no"})) == "a b\\x1b:1: no"


@pytest.mark.parametrize("name", ["line new x 1 a", "line left 1 1 a", "line new 1 ² a", "line new 1 -1 a"])
def test_comments_on_no_line(name: str) -> None:
    """A field that names no line is refused and not sent to an agent."""
    with pytest.raises(HiveError, match="names no line"):
        line_comments({name: "text"})
