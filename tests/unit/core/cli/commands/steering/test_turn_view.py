"""Entries of transcripts as lines, whatever an agent writes into them."""

from __future__ import annotations

from typing import Any

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hive_core.cli.commands.steering.turn_view import Level, entry_lines

KINDS = ("message", "text", "call", "result", "notice", "usage", "session", "else")
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)
CALL = {"kind": "call", "name": "Bash", "input": {"command": "npm test\nrm x", "timeout": 3}}


def shown(entry: dict[str, Any], level: Level = "normal", width: int | None = 80) -> list[str]:
    return [click.unstyle(line) for line in entry_lines(entry, level, width)]


@pytest.mark.parametrize(("level", "count"), [("quiet", 0), ("normal", 1), ("verbose", 1)])
def test_a_tool_call_is_one_line(level: Level, count: int) -> None:
    """A call is folded into one line with what it is about; the quiet level leaves it out."""
    lines = shown(CALL, level)
    assert len(lines) == count and all(line.startswith("> Bash npm test") for line in lines)


def test_results_are_folded() -> None:
    """A result is shown at the verbose level only, cut after some lines; a failure is shown in one line before."""
    result = {"kind": "result", "text": "\n".join(f"line {n}" for n in range(50)), "is_error": False}
    assert shown(result) == []
    assert shown(result, "verbose")[-1].strip() == "… 38 more lines"
    assert shown(result | {"is_error": True}) == ["  failed: line 0 …"]


@given(
    kind=st.sampled_from(KINDS),
    fields=st.dictionaries(st.sampled_from(("text", "name", "input", "level", "sender", "id", "input")), json_values),
    level=st.sampled_from(("quiet", "normal", "verbose")),
)
def test_nothing_acts_on_the_terminal(kind: str, fields: dict[str, Any], level: Level) -> None:
    """Whatever an agent writes, each line is printable and the view does not fail."""
    for line in shown({"kind": kind, **fields}, level):
        assert "\x1b" not in line and "\n" not in line and "\r" not in line
