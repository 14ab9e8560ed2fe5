"""Many turns of one Claude Code that stays: no message is lost, and nothing grows."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.helpers.fake_messages_api import Blocks, Text, ToolUse, has_tool_result, last_user_text, model_server
from tests.helpers.real_daemon import Daemon, running
from tests.integration.backends.claude_code import needs_claude

TURNS = 200
_WINDOW = 40
"""Turns over which memory is averaged."""


@needs_claude
@pytest.mark.soak
@pytest.mark.timeout(900)
async def test_many_turns(hive_home: Path, record_property: Callable[[str, object], None]) -> None:
    """Of 200 turns each message is answered once, in order; memory of harness and CLI stays flat."""
    order: list[int] = []

    async def brain(request: dict[str, Any]) -> Blocks:
        if has_tool_result(request):
            return [Text("done")]
        bodies = [int(found) for found in re.findall(r"question (\d+)", last_user_text(request))]
        order.extend(bodies)
        return [ToolUse("mcp__hive__send", {"to": "operator", "body": f"answer {body}"}) for body in bodies]

    async with model_server(brain) as model:
        model.kept = 1
        daemon = Daemon(
            hive_home,
            settings={"pass_environment": "ANTHROPIC_BASE_URL,ANTHROPIC_API_KEY"},
            environment={"ANTHROPIC_BASE_URL": model.url, "ANTHROPIC_API_KEY": "test"},
        )
        async with running(daemon):
            await daemon.ask("POST", "/v1/agents", {"name": "ada", "config": {"backend": "claude"}})
            harness_mb: list[float] = []
            program_mb: list[float] = []
            pids: set[int] = set()
            for number in range(TURNS):
                await daemon.ask("POST", "/v1/messages", {"to": "ada", "body": f"question {number}"})
                status = await daemon.agent_until("ada", lambda agent: agent["unacked"] == 0, 60.0)
                harness = psutil.Process(status["pid"])
                program = next(child for child in harness.children() if "stream-json" in " ".join(child.cmdline()))
                pids |= {harness.pid, program.pid}
                harness_mb.append(harness.memory_info().rss / 1e6)
                program_mb.append(program.memory_info().rss / 1e6)
            answers = await asyncio.to_thread(
                daemon.sql, "SELECT body FROM messages WHERE recipient = 'operator' ORDER BY id"
            )
    assert len(pids) == 2, "a process was started anew"
    assert order == list(range(TURNS))
    assert [body for (body,) in answers if body.startswith("answer")] == [f"answer {number}" for number in range(TURNS)]
    for what, samples, most in [("harness", harness_mb, 1.1), ("Claude Code", program_mb, 1.25)]:
        early = sum(samples[_WINDOW : 2 * _WINDOW]) / _WINDOW
        late = sum(samples[-_WINDOW:]) / _WINDOW
        assert late < early * most, f"{what} grew from {early:.1f} to {late:.1f} MB: {samples[::10]}"
        record_property(f"{what}, MB", [round(sample, 1) for sample in samples[::10]])
