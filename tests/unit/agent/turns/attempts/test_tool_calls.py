"""Which errors of the hive's tools mean that a call was lost."""

from __future__ import annotations

import pytest

from hive_agent.backends.transcript import ToolCall, ToolResult
from hive_agent.client.connection import NO_ANSWER
from hive_agent.turns.attempts.tool_calls import LostCalls, hive_tool, is_lost


@pytest.mark.parametrize(
    ("name", "tool"),
    [
        ("mcp__hive__send", "send"),
        ("mcp_hive_ask_operator", "ask_operator"),
        ("hive_recv", "recv"),
        ("send", None),
        ("mcp__archive__send", None),
        ("mcp__other__hive_send", None),
    ],
)
def test_names_of_tools(name: str, tool: str | None) -> None:
    """The hive's tools are recognized under the name that each agent CLI gives them."""
    assert hive_tool(name) == tool


@pytest.mark.parametrize(
    ("error", "lost"),
    [
        # As the agent CLIs told when the MCP server was killed or too slow.
        ("Connection closed", True),
        ("Not connected", True),
        ("tool call error: tool call failed for `hive/send`\n\nCaused by:\n    Transport closed", True),
        ("MCP error -32001: Request timed out", True),
        ('MCP server "hive" tool "send" timed out after 60s', True),
        (f"Error executing tool send: {NO_ANSWER}: no answer on /run/hive/core.sock", True),
        ("<tool_use_error>Error: No such tool available: mcp__hive__send</tool_use_error>", True),
        ('Tool "mcp_hive_send" not found. Did you mean one of: "read_file"?', True),
        # Answers of the hive, and mistakes of the model.
        ("Error executing tool send: no agent is called `timed out`", False),
        ("Error executing tool send: 1 validation error for sendArguments\nbody\n  Field required", False),
        ("params must have required property 'body'", False),
        ("(cancelled)", False),
    ],
)
def test_lost_calls(error: str, lost: bool) -> None:
    """A call is lost if it did not reach the hive or was not answered; a refusal is an answer."""
    assert is_lost("send", error) == lost


def test_a_tool_that_does_not_exist_is_not_lost() -> None:
    """A name that the model has made up is its own mistake."""
    assert not is_lost("sendx", "<tool_use_error>Error: No such tool available: mcp__hive__sendx</tool_use_error>")


def test_a_repeated_call_makes_up_for_a_lost_one() -> None:
    """A call that the model has repeated with success is not lost; other tools' calls are judged on their own."""
    calls = LostCalls()

    def call(tool: str, error: str = "") -> None:
        calls.record(ToolCall("1", tool, {}))
        calls.record(ToolResult("1", error or "done", bool(error), 10))

    call("hive_send", "Not connected")
    call("Bash", "Not connected")
    assert calls.reason == "the hive's tools did not answer (send): Not connected"
    call("hive_whoami")
    assert calls.reason
    call("hive_send")
    assert calls.reason == ""
