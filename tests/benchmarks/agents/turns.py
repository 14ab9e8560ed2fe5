"""How soon a message to an agent is a request to its model: with the real harness and the real Claude Code."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from hive_agent.backends.claude import command as claude_command
from hive_agent.backends.cli_launch import ProgramNotFound
from tests.benchmarks.bench_directory import ROOT, say
from tests.benchmarks.bench_hive import BenchHive, hive
from tests.benchmarks.figure import Bound, Figure
from tests.helpers.fake_messages_api import Blocks, Text, model_server

WARM_ROUNDS = 25
COLD_ROUNDS = 7

_PATIENCE = 120.0
_MODEL = "claude-sonnet-4-5-20250929"
_CONFIG = {"backend": "claude", "model": _MODEL}


def run(directory: Path) -> list[Figure]:
    """The model is on loopback and answers at once. Without Claude Code nothing can be measured."""
    what = "claude: message sent → model asked"
    try:
        program = claude_command.find_program(os.environ)
    except ProgramNotFound as error:
        return [Figure(f"{what}, warm", "s", [], why_not=str(error))]
    found = asyncio.run(_measured(directory, program))
    warm, relayed, cold, bare, single = (found[name] for name in ("warm", "relayed", "cold", "bare", "tools"))
    reference = "one process per turn, --continue"
    return [
        Figure(f"{what}, warm", "s", warm, single, reference, Bound("at most", 0.15, "value")),
        Figure(f"{what}, warm, sealed and through the relay", "s", relayed, warm, "the host's network",
               Bound("at most", 0.01, "difference")),
        Figure(f"{what}, cold", "s", cold, bare, "the bare CLI", Bound("at most", 0.6, "difference")),
        Figure(f"  the same beside {reference}", "s", cold, single, reference),
    ]  # fmt: skip


class _Model:
    """Answers at once; `asked` is when it was asked first since `begin`."""

    def __init__(self) -> None:
        self._first: asyncio.Future[float] = asyncio.get_running_loop().create_future()

    async def answer(self, _request: dict[str, Any]) -> Blocks:
        if not self._first.done():
            self._first.set_result(time.perf_counter())
        return [Text("done")]

    def begin(self) -> float:
        self._first = asyncio.get_running_loop().create_future()
        return time.perf_counter()

    async def asked(self) -> float:
        return await asyncio.wait_for(self._first, _PATIENCE)


async def _measured(directory: Path, program: Path) -> dict[str, list[float]]:
    """Seconds: of warm turns and such through the relay, by turns; of cold ones, of the bare CLI and one with tools."""
    model = _Model()
    async with model_server(model.answer) as server:
        server.kept = 1
        variables = {
            "ANTHROPIC_BASE_URL": server.url,
            "ANTHROPIC_API_KEY": "test",
            "HIVE_CLAUDE": str(program),
            "HIVE_RELAY": json.dumps(_relay(directory / "keys", server.url)),
            "HIVE_PASS_ENVIRONMENT": "ANTHROPIC_BASE_URL,ANTHROPIC_API_KEY,HIVE_CLAUDE",
        }
        with hive(directory / "hive", variables) as running:
            agents: dict[str, dict[str, Any]] = {
                "warm": {"network": "host", "idle_timeout": 3_600},
                "relayed": {"provider": "vendor", "idle_timeout": 3_600},
                "cold": {"network": "host", "idle_timeout": 0},
            }
            for name, config in agents.items():
                await asyncio.to_thread(running.ask, "POST", "/v1/agents", {"name": name, "config": _CONFIG | config})
                await _turn(running, model, name)  # It begins the conversation.
            say(f"{WARM_ROUNDS} warm turns, each beside one through the relay")
            found: dict[str, list[float]] = {"warm": [], "relayed": []}
            for _ in range(WARM_ROUNDS):
                for name, samples in found.items():
                    samples.append(await _turn(running, model, name))
            for name in found:
                await asyncio.to_thread(running.ask, "POST", f"/v1/agents/{name}/stop")
            cli = _Cli(directory / "cli", program, server.url, running.core_socket("cold").parent)
            calls: dict[str, Callable[[], Awaitable[float]]] = {
                "cold": lambda: _turn(running, model, "cold"),
                "bare": lambda: cli.turn(model, tools=False),
                "tools": lambda: cli.turn(model, tools=True),
            }
            for name in ("bare", "tools"):
                await calls[name]()
            say(f"{COLD_ROUNDS} cold turns, each beside one of the CLI alone and one with the hive's tools")
            for _ in range(COLD_ROUNDS):
                for name, call in calls.items():
                    found.setdefault(name, []).append(await call())
    return found


def _relay(keys: Path, url: str) -> dict[str, Any]:
    """The settings of the relay: one provider, the model on loopback."""
    keys.mkdir(mode=0o700)
    key = keys / "key"
    key.touch(mode=0o600)
    key.write_text("test\n")
    return {"credentials": str(keys), "providers": {"vendor": {"api": "anthropic", "base_url": url, "keys": ["key"]}}}


async def _turn(running: BenchHive, model: _Model, name: str) -> float:
    """A message to an idle agent; waits for the end of its turn as well."""
    await _idle(running, name)
    started = model.begin()
    await asyncio.to_thread(running.ask, "POST", "/v1/messages", {"to": name, "body": "x" * 512})
    seconds = await model.asked() - started
    await _idle(running, name)
    return seconds


async def _idle(running: BenchHive, name: str) -> None:
    async with asyncio.timeout(_PATIENCE):
        while True:
            status = await asyncio.to_thread(running.ask, "GET", f"/v1/agents/{name}")
            if status["state"] == "idle" and status["unacked"] == 0:
                break
            await asyncio.sleep(0.02)
    await asyncio.sleep(0.2)  # what follows a turn, as writing its record, is not to slow the next one


class _Cli:
    """Claude Code started for one turn, without a harness: `tools` are the hive's, from their server."""

    def __init__(self, directory: Path, program: Path, url: str, core: Path) -> None:
        self._program = program
        self._directory = directory
        directory.mkdir()
        python = {"PYTHONPATH": str(ROOT), "HIVE_AGENT_RUN": str(core), "HIVE_AGENT_STATE": str(directory)}
        entry = {"command": sys.executable, "args": ["-m", "hive_agent", "mcp"], "env": python, "alwaysLoad": True}
        for name, servers in [("bare", {}), ("tools", {"hive": entry})]:
            (directory / name).mkdir()
            (directory / f"{name}.json").write_text(json.dumps({"mcpServers": servers}))
        self._variables = {"PATH": os.environ["PATH"], "HOME": str(directory), "ANTHROPIC_BASE_URL": url}
        self._variables["ANTHROPIC_API_KEY"] = "test"

    async def turn(self, model: _Model, *, tools: bool) -> float:
        """Start it, and wait for its end as well."""
        name = "tools" if tools else "bare"
        place = self._directory / name
        environment = claude_command.environment(
            self._variables, [], temporary=place, claude_directory=place, confined=True
        )
        arguments = ["--print", "--verbose", "--output-format=stream-json", "--continue", f"--model={_MODEL}"]
        servers = [f"--mcp-config={place}.json", "--strict-mcp-config", "--setting-sources=", "--tools=Bash,Read"]
        started = model.begin()
        process = await asyncio.create_subprocess_exec(
            self._program,
            *arguments,
            *servers,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=environment,
            cwd=place,
        )
        ended = asyncio.create_task(process.communicate(b"x" * 512))
        seconds = await model.asked() - started
        await ended
        await asyncio.sleep(0.2)
        return seconds
