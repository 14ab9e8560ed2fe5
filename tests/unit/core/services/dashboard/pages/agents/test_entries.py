"""Entries of transcripts, as they are shown."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hive_core.services.dashboard.pages.agents import entries as of


def call(name: str, **given: Any) -> dict[str, Any]:
    """Return the entry of a tool call."""
    return {"kind": "call", "turn": 1, "attempt": 1, "n": 1, "id": "a", "name": name, "input": given}


@pytest.mark.parametrize(
    ("entry", "digest"),
    [
        (call("Bash", description="Run it", command="make\n  all"), "make   all"),
        (call("Read", limit=5, file_path="/state/x"), "/state/x"),
        (call("Task", depth=2), '{   "depth": 2 }'),
        ({"kind": "call", "name": "x", "input": "ls"}, "ls"),
        ({"kind": "call", "name": "x", "input": None}, ""),
    ],
)
def test_line_that_tells_a_call(entry: dict[str, Any], digest: str) -> None:
    """A folded call shows its command, its path, or all of its input in one line."""
    assert of.digest(entry) == digest


def test_messages_are_no_tool_calls() -> None:
    """Messages that the agent sends are told apart from its other calls, whatever its program calls the tool."""
    assert of.sent_message(call("mcp__hive__send", to="bob", body="hi")) == ("bob", "hi")
    assert of.sent_message(call("hive_send", to="bob", body="hi")) == ("bob", "hi")
    assert of.sent_message(call("send", to=1, body="hi")) is None
    assert of.sent_message(call("mcp__other__send", to="bob", body="hi")) is None


def test_edits_are_changes() -> None:
    """An edit is shown as the lines that go and come; what is unchanged stands between them."""
    change = of.change_of(call("Edit", file_path="a.py", old_string="one\ntwo\nthree", new_string="one\n2\nthree"))
    assert change is not None and change.path == "a.py"
    assert change.lines == [(" ", "one"), ("-", "two"), ("+", "2"), (" ", "three")]
    written = of.change_of(call("Write", file_path="b", content="x\ny"))
    assert written is not None and written.lines == [("+", "x"), ("+", "y")]
    assert of.change_of(call("Bash", command="x")) is None
    assert of.change_of(call("Edit", file_path="a", old_string="x" * 30_000, new_string="")) is None


def test_long_texts_are_cut_and_say_so() -> None:
    """A cut text knows if the rest can be asked for, and how much the harness itself has left out."""
    assert of.cut("abc", 3).is_cut is False
    part = of.cut("abcdef", 3, 90)
    assert (part.text, part.is_cut, part.kept, part.whole) == ("abc", True, 6, 90)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
FIELDS = st.sampled_from(
    ["kind", "id", "name", "input", "text", "attempt", "n", "characters", "is_error", "to", "body"]
)


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(FIELDS, JSON))
def test_no_entry_is_a_surprise(entry: dict[str, Any]) -> None:
    """An agent may write anything into its transcript: it is shown in part or not at all."""
    of.mark_of(entry), of.call_id(1, entry.get("id")), of.tool_name(entry), of.digest(entry), of.whole_text(entry)
    of.sent_message(entry), of.change_of(entry)
    for name, value in of.input_fields(entry):
        assert len(name) <= 80
        assert len(value.text) <= of.SHOWN_OUTPUT
