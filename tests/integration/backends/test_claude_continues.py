"""A conversation with the real Claude Code goes on, whatever was ended or killed in between."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from hive_agent.backends.base import Failed, Ok
from hive_agent.backends.transcript import Entry, Notice, SessionStarted
from tests.helpers.fake_messages_api import Blocks, Text, has_tool_result, last_user_text, model_server, tool_results
from tests.helpers.real_daemon import Daemon
from tests.helpers.real_daemon import running as daemon_running
from tests.integration.backends.claude_code import (
    bash,
    claude,
    needs_claude,
    of,
    once,
    programs,
    running,
    says,
    silent,
    turn,
)
from tests.unit.agent.fake_core_api import fake_core

pytestmark = [needs_claude, pytest.mark.timeout(180)]


async def until(true: Callable[[], object], seconds: float = 60.0) -> None:
    async with asyncio.timeout(seconds):
        while not true():
            await asyncio.sleep(0.02)


async def test_cold_starts(tmp_path: Path) -> None:
    """A process that idled for long ends, with its MCP server; another goes on, also with a changed configuration."""
    others = running()
    async with fake_core(tmp_path / "run") as core, model_server(says) as model:
        async with claude(tmp_path, core, model.url, idle_timeout=0.2, allowed_recipients=["bob"]) as backend:
            assert await backend.run(turn("the word is mango"), silent) == Ok()
            assert backend.warm
            await until(lambda: not backend.warm and running().keys() <= others.keys())
            assert await backend.run(turn("what was the word?", 2), silent) == Ok()
            assert "the word is mango" in str(model.requests[-1]["messages"])
            assert "what was the word?" in last_user_text(model.requests[-1])
        entries: list[Entry] = []
        async with claude(tmp_path, core, model.url, idle_timeout=0, allowed_recipients=["carol"]) as backend:
            assert await backend.run(turn("hello"), entries.append) == Ok()
            assert not backend.warm
            assert running().keys() <= others.keys()
        assert "the word is mango" in str(model.requests[-1]["messages"])
        assert "only to: `carol`" in str(model.requests[-1]["system"])
        assert "only to: `bob`" not in str(model.requests[-1]["system"])
        assert not of(SessionStarted, entries)[0].fresh


async def test_unknown_conversation(tmp_path: Path) -> None:
    """A conversation that is gone, or whose name is lost, is no failure: a new one begins, which says so."""
    async with fake_core(tmp_path / "run") as core, model_server(says) as model:
        (tmp_path / "claude").mkdir()
        (tmp_path / "claude/hive-session.json").write_text('{"id": "11111111-1111-4111-8111-111111111111"}\n')
        entries: list[Entry] = []
        async with claude(tmp_path, core, model.url) as backend:
            assert await backend.run(turn("hello"), entries.append) == Ok()
            assert "a new one starts" in of(Notice, entries)[0].text
            assert of(SessionStarted, entries)[-1].fresh
            assert "hello" in last_user_text(model.requests[-1])


async def test_killed_program(tmp_path: Path) -> None:
    """When the program is killed in the middle of a turn or after it, all it started ends and the next one goes on."""
    others = running()
    async with (
        fake_core(tmp_path / "run") as core,
        model_server(once(bash("sleep 1021"))) as model,
        claude(tmp_path, core, model.url, tools=["Bash"]) as backend,
    ):
        work = asyncio.create_task(backend.run(turn("the word is mango"), silent))
        await until(lambda: running(lambda line: "sleep 1021" in line) or work.done())
        mine = set(programs()) - others.keys()
        os.kill(mine.pop(), signal.SIGKILL)
        outcome = await work
        assert isinstance(outcome, Failed)
        assert outcome.kind == "crashed"
        assert "signal 9" in outcome.detail
        assert running().keys() <= others.keys()
        model.brain = says
        assert await backend.run(turn("the word is mango", attempt=2), silent) == Ok()
        assert "was interrupted" in last_user_text(model.requests[-1])
        os.kill((set(programs()) - others.keys()).pop(), signal.SIGKILL)
        await until(lambda: not backend.warm and running().keys() <= others.keys())
        assert await backend.run(turn("what was the word?", 2), silent) == Ok()
        assert "mango" in str(model.requests[-1]["messages"])


async def test_what_the_program_gets(tmp_path: Path) -> None:
    """The program's environment holds what agent.toml names and not the rest, and its MCP servers are started."""
    server = tmp_path / "server.py"
    server.write_text(
        "from mcp.server import MCPServer\nserver = MCPServer('clock')\n"
        "@server.tool()\ndef now() -> str:\n    return 'noon'\nserver.run()\n"
    )
    seen = {"SECRET": "hidden", "WANTED_1": "first"}
    async with (
        fake_core(tmp_path / "run") as core,
        model_server(once(bash("env"))) as model,
        claude(
            tmp_path,
            core,
            model.url,
            variables=seen,
            tools=["Bash(env)"],
            environment=["WANTED_*"],
            mcp_servers={"clock": {"command": sys.executable, "args": [str(server)]}},
        ) as backend,
    ):
        assert await backend.run(turn("hello"), silent) == Ok()
        shown = str(tool_results(model.requests[-1])[-1]["content"])
        assert "WANTED_1=first" in shown
        assert f"TMPDIR={tmp_path}" in shown
        assert "SECRET" not in shown
        assert "mcp__clock__now" in {tool["name"] for tool in model.requests[0]["tools"]}


async def test_changed_secret_reaches_the_next_turn(tmp_path: Path) -> None:
    """The running program is replaced when a secret that agent.toml names has changed, and the conversation goes on."""

    async def brain(request: dict[str, Any]) -> Blocks:
        return [Text("done")] if has_tool_result(request) else [bash("echo is=$NPM_TOKEN=")]

    async with fake_core(tmp_path / "run") as core, model_server(brain) as model:
        secret = core.socket.parent / "secrets" / "NPM_TOKEN"
        secret.parent.mkdir()
        async with claude(tmp_path, core, model.url, secrets=["NPM_TOKEN"], tools=["Bash"]) as backend:
            for number, (value, again) in enumerate([("one", True), ("one", False), ("two", True), ("", True)], 1):
                secret.unlink(missing_ok=True)
                if value:
                    secret.write_text(f"{value}\n")
                before = running()
                assert await backend.run(turn(f"turn {number}", number), silent) == Ok()
                assert (running() != before) == again
                assert f"is={value}=" in str(tool_results(model.requests[-1])[-1]["content"])
        assert "turn 1" in str(model.requests[-1]["messages"])


def _sleeps(process: psutil.Process) -> bool:
    return bool(process.info["cmdline"] == ["sleep", "1022"])


async def test_killed_harness(hive_home: Path) -> None:
    """With the real harness: its turn is resumed in place after a kill of the harness, of the program, of both."""
    kills = ["harness", "program", "both"]

    async def brain(request: dict[str, Any]) -> Blocks:
        # The command hangs in the first attempt of each turn.
        again = "was interrupted" in last_user_text(request) or has_tool_result(request)
        return [Text("done")] if again else [bash("sleep 1022")]

    async with model_server(brain) as model:
        daemon = Daemon(
            hive_home,
            settings={"pass_environment": "ANTHROPIC_BASE_URL,ANTHROPIC_API_KEY,CLAUDE_CODE_MAX_RETRIES"},
            environment={
                "ANTHROPIC_BASE_URL": model.url,
                "ANTHROPIC_API_KEY": "test",
                "CLAUDE_CODE_MAX_RETRIES": "0",
            },
        )
        async with daemon_running(daemon):
            await daemon.ask("POST", "/v1/agents", {"name": "ada", "config": {"backend": "claude"}})
            for which in kills:
                await daemon.ask("POST", "/v1/messages", {"to": "ada", "body": f"survive the kill of {which}"})
                await until(lambda: running(lambda line: "sleep 1022" in line))
                harness = psutil.Process((await daemon.ask("GET", "/v1/agents/ada"))["pid"])
                program = next(child for child in harness.children(True) if "stream-json" in child.cmdline()[3])
                if which != "harness":
                    program.kill()
                if which != "program":
                    harness.kill()
                count = len(model.requests)

                async def handled() -> bool:
                    unacked: int = (await daemon.ask("GET", "/v1/agents/ada"))["unacked"]
                    return unacked == 0

                async with asyncio.timeout(60):
                    while not await handled():
                        await asyncio.sleep(0.05)
                # Also what has lost its parents, and is none of ours any more.
                assert not [process for process in psutil.process_iter(["cmdline"]) if _sleeps(process)]
                assert len(model.requests) == count + 1
                said = str(model.requests[-1]["messages"])
                assert all(f"survive the kill of {before}" in said for before in kills[: kills.index(which) + 1])
