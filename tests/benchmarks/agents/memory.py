"""What idling costs: memory and wake-ups of a harness, before and after turns; memory of a daemon with many of them."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from hive_agent.backends.claude import command as claude_command
from hive_agent.backends.cli_launch import ProgramNotFound
from tests.benchmarks import proc
from tests.benchmarks.bench_directory import say
from tests.benchmarks.bench_hive import BenchHive, hive
from tests.benchmarks.client import client
from tests.benchmarks.figure import Bound, Figure
from tests.helpers.fake_messages_api import Blocks, Text, model_server

HARNESSES = 5
TURNS = 3
"""That a harness has handled when it is measured again."""
CLAUDES = 2
AGENTS = 100
WATCHED_SECONDS = 10.0
SETTLING_SECONDS = 20.0
"""Until the HTTP client of a harness has thrown away the connections that it needed for its hello."""

_PATIENCE = 60.0
_REFERENCE = "import aiohttp.web, pydantic, sys; print('ready', flush=True); sys.stdin.read()"


def run(directory: Path) -> list[Figure]:
    """Harnesses as the daemon starts them, and 100 agents whose harnesses one client process plays."""
    return [
        *_harnesses(directory / "few"),
        *asyncio.run(_claudes(directory / "claude")),
        *_daemon(directory / "many"),
    ]


def _harnesses(state_dir: Path) -> list[Figure]:
    names = [f"agent{number}" for number in range(HARNESSES)]
    with hive(state_dir) as running, ExitStack() as stack:
        running.spawn(*names, start=True)
        references = [stack.enter_context(_importer()) for _ in names]
        _until("idle harnesses", lambda: all(_status(running, name)["state"] == "idle" for name in names))
        pids = [int(_status(running, name)["pid"]) for name in names]
        time.sleep(SETTLING_SECONDS)
        say(f"{HARNESSES} harnesses idle; counting wake-ups for {WATCHED_SECONDS:.0f} s")
        *woken, daemon = _woken([*pids, running.pid], WATCHED_SECONDS)
        what, beside = "idle harness", "imports only"
        resident, proportional = ([read(pid) for pid in pids] for read in (proc.resident_mb, proc.proportional_mb))
        _turns(running, names)
        say(f"{TURNS} turns of each; waiting {SETTLING_SECONDS:.0f} s")
        time.sleep(SETTLING_SECONDS)
        after = [proc.resident_mb(pid) for pid in pids]
        imports = [proc.resident_mb(pid) for pid in references]
        limit = Bound("at most", 1.2, "ratio")
        return [
            Figure(f"{what}: resident memory (VmRSS)", "MB", resident, imports, beside, limit),
            Figure(f"{what}, after {TURNS} turns: resident memory", "MB", after, imports, beside, limit),
            Figure(
                f"{what}: proportional memory (PSS)",
                "MB",
                proportional,
                [proc.proportional_mb(pid) for pid in references],
                beside,
            ),
            Figure(f"{what}: wake-ups in {WATCHED_SECONDS:.0f} s", "", woken, bound=Bound("at most", 0, "value")),
            Figure(f"daemon with {HARNESSES} idle harnesses: wake-ups in {WATCHED_SECONDS:.0f} s", "", [daemon]),
        ]


async def _claudes(state_dir: Path) -> list[Figure]:
    """Harnesses that have driven Claude Code, when its process has ended; the model is on loopback."""
    what = f"idle harness, after {TURNS} turns of Claude Code: resident memory"
    try:
        program = claude_command.find_program(os.environ)
    except ProgramNotFound as error:
        return [Figure(what, "MB", [], why_not=str(error))]

    async def answer(_request: dict[str, Any]) -> Blocks:
        return [Text("done")]

    async with model_server(answer) as server:
        server.kept = 1
        variables = {
            "ANTHROPIC_BASE_URL": server.url,
            "ANTHROPIC_API_KEY": "test",
            "HIVE_CLAUDE": str(program),
            "HIVE_PASS_ENVIRONMENT": "ANTHROPIC_BASE_URL,ANTHROPIC_API_KEY,HIVE_CLAUDE",
        }
        after, imports = await asyncio.to_thread(_claude_memory, state_dir, variables)
    return [Figure(what, "MB", after, imports, "imports only", Bound("at most", 1.2, "ratio"))]


def _claude_memory(state_dir: Path, variables: dict[str, str]) -> tuple[list[float], list[float]]:
    names = [f"claude{number}" for number in range(CLAUDES)]
    with hive(state_dir, variables) as running, ExitStack() as stack:
        references = [stack.enter_context(_importer()) for _ in names]
        for name in names:
            config = {"backend": "claude", "network": "host", "idle_timeout": 2}  # Its model is on the loopback.
            running.ask("POST", "/v1/agents", {"name": name, "config": config})
        _turns(running, names)
        pids = [int(_status(running, name)["pid"]) for name in names]
        _until("end of Claude Code", lambda: not any(proc.children(pid) for pid in pids))
        say(f"waiting {SETTLING_SECONDS:.0f} s")
        time.sleep(SETTLING_SECONDS)
        return [proc.resident_mb(pid) for pid in pids], [proc.resident_mb(pid) for pid in references]


def _turns(running: BenchHive, names: list[str]) -> None:
    """Every agent handles some messages, one after another."""
    for number in range(TURNS):
        for name in names:
            running.ask("POST", "/v1/messages", {"to": name, "body": f"{number} {'x' * 500}"})
        _until("end of turns", lambda: all(_rests(_status(running, name)) for name in names))


def _rests(status: dict[str, Any]) -> bool:
    return bool(status["state"] == "idle" and status["unacked"] == 0)


def _daemon(state_dir: Path) -> list[Figure]:
    names = [f"agent{number}" for number in range(AGENTS)]
    with hive(state_dir) as running:
        alone = proc.resident_mb(running.pid)
        running.spawn(*names)
        with client("agents.idle_harnesses", *(str(running.core_socket(name)) for name in names)):
            connected = proc.resident_mb(running.pid)
    return [
        Figure(f"daemon with {AGENTS} idle agents connected: VmRSS", "MB", [connected],
               bound=Bound("at most", 120, "value")),
        Figure("  the same without agents", "MB", [alone]),
    ]  # fmt: skip


@contextmanager
def _importer() -> Iterator[int]:
    """A process that has imported what every harness needs, and waits."""
    command = [sys.executable, "-c", _REFERENCE]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process.pid


def _status(running: BenchHive, name: str) -> dict[str, Any]:
    status: dict[str, Any] = running.ask("GET", f"/v1/agents/{name}")
    return status


def _woken(pids: list[int], seconds: float) -> list[int]:
    before = [proc.wakeups(pid) for pid in pids]
    time.sleep(seconds)
    return [proc.wakeups(pid) - earlier for pid, earlier in zip(pids, before, strict=True)]


def _until(what: str, reached: Callable[[], bool]) -> None:
    give_up = time.monotonic() + _PATIENCE
    while not reached():
        if time.monotonic() > give_up:
            say(f"no {what} after {_PATIENCE:.0f} s; going on")
            return
        time.sleep(0.1)
