"""The harness program as the runtime starts it: a process of its own, signals, memory."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest

from hive_core.protocol import AgentConfig, ScriptRule
from tests.unit.agent.fake_core_api import FakeCore, refusal

ROOT = Path(__file__).parents[3]


def environment(core: FakeCore, state: Path, **more: str) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT),
        "HIVE_AGENT_RUN": str(core.socket.parent),
        "HIVE_AGENT_STATE": str(state),
        **more,
    }


@asynccontextmanager
async def harness(
    core: FakeCore, state: Path, module: str = "hive_agent", **more: str
) -> AsyncIterator[asyncio.subprocess.Process]:
    """`python -m MODULE serve`."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", module, "serve", env=environment(core, state, **more), cwd=state, stderr=subprocess.PIPE
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


@pytest.mark.parametrize("module", ["hive_agent", "hive_manager"])
async def test_serves_and_stops(core: FakeCore, tmp_path: Path, module: str) -> None:
    """The program answers with the scripted backend, and ends with code 0 on SIGTERM."""
    await core.deliver("hi")
    async with harness(core, tmp_path, module) as process:
        await core.until(core.acknowledged)
        assert [sent.body for sent in core.sent] == ["alice heard: hi"]
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(10):
            _, log = await process.communicate()
        assert process.returncode == 0
        assert b"alice heard" not in log


async def test_sigterm_in_a_turn(core: FakeCore, tmp_path: Path) -> None:
    """SIGTERM in a long turn hands its messages back within seconds."""
    core.config = AgentConfig(script=[ScriptRule(think=60.0)])
    number = await core.deliver("hi")
    async with harness(core, tmp_path) as process:
        await core.until(lambda: "thinking" in core.state_names())
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(10):
            assert await process.wait() == 0
    assert core.messages[number].holder is None


async def test_superseded_exits_well(core: FakeCore, tmp_path: Path) -> None:
    """A replaced harness ends with code 0, so that no runtime starts it again as crashed, and the log says why."""
    core.refusals["POST /v1/messages/receive"] = refusal(409, "superseded", "newer harness")
    async with harness(core, tmp_path) as process:
        async with asyncio.timeout(30):
            _, log = await process.communicate()
    assert process.returncode == 0
    assert b"newer harness has taken over" in log


async def test_other_parent(core: FakeCore, tmp_path: Path) -> None:
    """A harness whose daemon has ended before it could say so does not start."""
    async with harness(core, tmp_path, HIVE_PARENT_PID="1") as process:
        async with asyncio.timeout(30):
            _, log = await process.communicate()
    assert process.returncode == 1
    assert b"has ended" in log
    assert core.calls == []


async def test_dies_with_its_parent(core: FakeCore, tmp_path: Path) -> None:
    """A harness in plain mode ends when the daemon that started it is killed."""
    script = (
        "import os, subprocess, sys\n"
        "os.environ['HIVE_PARENT_PID'] = str(os.getpid())\n"
        "child = subprocess.Popen([sys.executable, '-m', 'hive_agent', 'serve'])\n"
        "print(child.pid, flush=True)\n"
        "child.wait()\n"
    )
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, env=environment(core, tmp_path), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert parent.stdout is not None
    child = psutil.Process(int(await parent.stdout.readline()))
    await core.until(lambda: "POST /v1/messages/receive" in core.calls)
    parent.kill()
    await parent.wait()
    gone, _ = await asyncio.to_thread(psutil.wait_procs, [child], 10)
    assert gone == [child]


async def test_idle_harness_sleeps(core: FakeCore, tmp_path: Path) -> None:
    """An idle harness is not woken by anything, also not by timers on its connections."""
    async with harness(core, tmp_path) as process:
        await core.until(lambda: "POST /v1/messages/receive" in core.calls)
        own = psutil.Process(process.pid)
        await asyncio.sleep(2)  # it comes to rest
        before = own.num_ctx_switches().voluntary
        await asyncio.sleep(16)  # aiohttp looks after idle connections every 15 s
        assert own.num_ctx_switches().voluntary == before


async def test_idle_memory(core: FakeCore, tmp_path: Path) -> None:
    """An idle harness has at most 1.1 times the memory of a process that imports aiohttp.web and pydantic."""
    script = "import aiohttp.web, pydantic, time; print(flush=True); time.sleep(600)"
    plain = await asyncio.create_subprocess_exec(sys.executable, "-c", script, stdout=subprocess.PIPE)
    try:
        assert plain.stdout is not None
        await plain.stdout.readline()
        async with harness(core, tmp_path) as process:
            await core.until(lambda: "POST /v1/messages/receive" in core.calls)
            own = psutil.Process(process.pid).memory_info().rss
        reference = psutil.Process(plain.pid).memory_info().rss
    finally:
        plain.kill()
        await plain.communicate()
    assert own <= 1.1 * reference, f"{own / 1e6:.1f} MB against {reference / 1e6:.1f} MB"


def test_idle_harness_loads_little() -> None:
    """What an idle harness has no use for is not loaded: the SDK of the tools, what serves the page and what the daemon
    draws with, what parses a command line, models of requests that others make.
    """
    heavy = {
        "aiohttp.web",
        "argparse",
        "claude_agent_sdk",
        "click",
        "ctypes",
        "hive_core.protocol.messaging.questions",
        "hive_core.protocol.proposals",
        "jinja2",
        "mcp",
        "rich",
        "structlog",
    }
    loaded = "hive_manager.__main__, hive_agent.web.feed, hive_agent.web.serving, hive_agent.backends.scripted.backend"
    script = f"import sys, {loaded}; print(*sorted({heavy} & set(sys.modules)))"
    output = subprocess.check_output([sys.executable, "-c", script], cwd=ROOT, text=True, timeout=60)
    assert output.strip() == ""
