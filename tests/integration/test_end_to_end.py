"""The whole way with nothing faked but the model: daemon, sandbox, harness, Claude Code, MCP server, CLI."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.fake_messages_api import (
    Blocks,
    Brain,
    Text,
    ToolUse,
    has_tool_result,
    last_user_text,
    model_server,
    tool_results,
)
from tests.helpers.real_daemon import Daemon, running
from tests.integration.backends.claude_code import needs_claude

_PASSED = "ANTHROPIC_BASE_URL,ANTHROPIC_API_KEY,CLAUDE_CODE_MAX_RETRIES"


pytestmark = [
    needs_claude,
    pytest.mark.timeout(180),
]


@asynccontextmanager
async def hive(home: Path, brain: Brain, *agents: str) -> AsyncIterator[Daemon]:
    """A daemon whose agents run Claude Code against a model that thinks with `brain`, in sandboxes where these work."""
    async with model_server(brain) as model:
        daemon = Daemon(
            home,
            settings={"sandbox": "auto", "pass_environment": _PASSED},
            environment={
                "ANTHROPIC_BASE_URL": model.url,
                "ANTHROPIC_API_KEY": "test",
                "CLAUDE_CODE_MAX_RETRIES": "0",
            },
        )
        async with running(daemon):
            for name in agents:
                config = {"backend": "claude", "network": "host"}  # The model is on the host's loopback.
                await daemon.ask("POST", "/v1/agents", {"name": name, "config": config})
            yield daemon


async def cli(daemon: Daemon, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "hive_core", "--socket", str(daemon.host_socket), *arguments]
    return await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=120, check=False)


def me(request: dict[str, Any]) -> str:
    """Whose turn the model is asked for, as the identity in its system prompt says."""
    found = re.search(r"You are `([a-z0-9]+)`", json.dumps(request["system"]))
    assert found, "the identity is not in the system prompt"
    return found.group(1)


def message(request: dict[str, Any]) -> tuple[int, str]:
    """Id and text of the message in the turn's prompt."""
    text = last_user_text(request)
    found = re.search(r"message (\d+)", text)
    assert found, text
    return int(found.group(1)), text


def send(to: str, body: str, reply_to: int | None = None) -> Blocks:
    arguments: dict[str, object] = {"to": to, "body": body}
    if reply_to is not None:
        arguments["reply_to"] = reply_to
    return [ToolUse("mcp__hive__send", arguments)]


async def test_claude_answers_the_operator(hive_home: Path) -> None:
    """`ask` reaches Claude Code, which calls the send tool over MCP, and the answer is what `ask` prints."""

    async def brain(request: dict[str, Any]) -> Blocks:
        if has_tool_result(request):
            assert not any(result.get("is_error") for result in tool_results(request))
            return [Text("Answered.")]
        number, text = message(request)
        return send("operator", f"You asked: {'six times seven' in text}; it is 42.", number)

    async with hive(hive_home, brain, "ada") as daemon:
        answer = await cli(daemon, "ask", "ada", "What is six times seven?", "--timeout", "90")
        assert (answer.stdout, answer.returncode) == ("You asked: True; it is 42.\n", 0), answer.stderr
        status = await daemon.agent_until("ada", lambda agent: agent["unacked"] == 0 and agent["state"] == "idle")
    assert status["restarts"] == 0


async def test_the_last_text_reaches_who_asked(hive_home: Path) -> None:
    """The text that ends a turn answers the `ask` and `send` of the operator; an agent's message gets none."""

    async def brain(request: dict[str, Any]) -> Blocks:
        _, text = message(request)
        if "tell bob" in text and not has_tool_result(request):
            return send("bob", "the lamp is green")
        return [Text(f"{me(request)} says: {'asked' if 'how many' in text else 'told'}.")]

    async with hive(hive_home, brain, "ada", "bob") as daemon:
        answer = await cli(daemon, "ask", "ada", "how many sheep?", "--timeout", "90")
        assert (answer.stdout, answer.returncode) == ("ada says: asked.\n", 0), answer.stderr
        await cli(daemon, "send", "ada", "tell bob")
        await cli(daemon, "send", "bob", "how many goats?")
        for name in ("ada", "bob"):
            await daemon.agent_until(name, lambda agent: agent["unacked"] == 0 and agent["state"] == "idle", 90)
        await daemon.agent_until("bob", lambda agent: agent["unacked"] == 0 and agent["state"] == "idle", 90)
        assert "bob says: asked." in (await cli(daemon, "inbox")).stdout
        assert daemon.sql("SELECT count(*) FROM messages WHERE sender = 'bob' AND recipient = 'ada'") == [(0,)]


async def test_two_claudes_talk_through_the_manager(hive_home: Path) -> None:
    """ada asks the manager, the manager asks bob, and bob's answer comes back the same way to the operator."""
    questions: dict[str, int] = {}

    async def brain(request: dict[str, Any]) -> Blocks:
        if has_tool_result(request):
            return [Text("Sent.")]
        number, text = message(request)
        name = me(request)
        if name == "ada":
            if "the lamp is" in text:
                return send("operator", "bob says the lamp is green", questions["ada"])
            questions["ada"] = number
            return send("hm1nd", "please ask bob for the colour")
        if name == "hm1nd":
            if "the lamp is" in text:
                return send("ada", "the lamp is green", questions["hm1nd"])
            questions["hm1nd"] = number
            return send("bob", "which colour?")
        return send("hm1nd", "the lamp is green", number)

    async with hive(hive_home, brain, "hm1nd", "ada", "bob") as daemon:
        answer = await cli(daemon, "ask", "ada", "Which colour is the lamp?", "--timeout", "150")
        way = daemon.sql("SELECT sender, recipient FROM messages ORDER BY id")
    assert (answer.stdout, answer.returncode) == ("bob says the lamp is green\n", 0), answer.stderr
    assert way == [
        ("operator", "ada"),
        ("ada", "hm1nd"),
        ("hm1nd", "bob"),
        ("bob", "hm1nd"),
        ("hm1nd", "ada"),
        ("ada", "operator"),
    ]
