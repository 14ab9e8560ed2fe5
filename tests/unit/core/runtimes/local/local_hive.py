"""A local runtime with small scripts as harnesses, for the tests of this directory."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path
from typing import Literal

import pytest

from hive_core.layout import Layout
from hive_core.protocol import Lifecycle
from hive_core.runtimes.base import AgentSpec, UnitState
from hive_core.runtimes.local.runtime import LocalRuntime
from hive_core.runtimes.unit_state import BackOff

Mode = Literal["bubblewrap", "none"]
QUICK = BackOff(first=0.01, longest=0.02)
NEVER = BackOff(first=1_000, longest=1_000)

OBEY_PARENT = """
import ctypes, os, signal, sys
if "HIVE_PARENT_PID" in os.environ:
    ctypes.CDLL(None, use_errno=True).prctl(1, signal.SIGKILL)
    if os.getppid() != int(os.environ["HIVE_PARENT_PID"]):
        sys.exit(1)
"""
POLITE = """
import os, signal
def stop(*_):
    # Not by print: the signal may come in the middle of one.
    os.write(1, b"asked to stop\\n")
    os._exit(0)
signal.signal(signal.SIGTERM, stop)
os.write(1, b"up\\n")
while True:
    signal.pause()
"""
STUBBORN = """
import signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("up", flush=True)
while True:
    signal.pause()
"""


@cache
def why_no_bubblewrap() -> str:
    """Whether bubblewrap works here is asked of bwrap itself, not of the code under test."""
    bwrap = shutil.which("bwrap")
    if bwrap is None:
        return "bubblewrap is not installed"
    tried = subprocess.run(
        [bwrap, "--unshare-all", "--ro-bind", "/", "/", "true"], capture_output=True, text=True, check=False
    )
    return tried.stderr.strip() if tried.returncode else ""


def need(mode: Mode) -> None:
    """Skip the test where `mode` cannot work."""
    if mode == "bubblewrap" and (problem := why_no_bubblewrap()):
        pytest.skip(problem)


class LocalHive:
    """A runtime, and what the daemon would do for it: directories and specs."""

    def __init__(self, runtime: LocalRuntime, layout: Layout) -> None:
        self.runtime = runtime
        self.layout = layout

    def spec(self, name: str = "ada", environment: Mapping[str, str] | None = None) -> AgentSpec:
        return make_spec(self.layout, name, environment or {})

    def unit(self, name: str = "ada") -> UnitState:
        return next(unit for unit in self.runtime.units() if unit.name == name)

    async def line(self, text: str, name: str = "ada") -> str:
        """Wait until a line with `text` is in the log, and return it without its time."""
        cursor = "0-0"
        while True:
            lines, cursor = await self.runtime.read_log(name, self.layout.agent_log(name), 100, cursor, 30)
            assert lines, f"no line with {text!r} came"
            for line in lines:
                if text in line:
                    return line.partition(" ")[2]


def make_spec(layout: Layout, name: str, environment: Mapping[str, str]) -> AgentSpec:
    paths = layout.agent(name)
    for path in (paths.config, paths.state, paths.claude, paths.code, paths.run):
        path.mkdir(parents=True, exist_ok=True)
    return AgentSpec(name, "agent", paths, layout.agent_log(name), environment)


@asynccontextmanager
async def opened(
    mode: Mode, place: Path, script: str, *, back_off: BackOff = QUICK, stop_timeout: float = 20.0
) -> AsyncIterator[LocalHive]:
    """A runtime whose every harness runs `script`; closed at the end."""
    need(mode)
    layout = Layout(place / "state", place / "run")
    runtime = await LocalRuntime.open(
        mode,
        closures=layout.closures,
        scratch=layout.scratch,
        stop_timeout=stop_timeout,
        back_off=back_off,
        harness=lambda _: [sys.executable, "-c", script],
    )
    try:
        yield LocalHive(runtime, layout)
    finally:
        await runtime.close()


async def until(changes: AsyncIterator[UnitState], lifecycle: Lifecycle) -> UnitState:
    """Wait for a change to `lifecycle`."""
    async with asyncio.timeout(30):
        async for state in changes:
            if state.lifecycle == lifecycle:
                return state
    raise AssertionError(f"no change to {lifecycle}")


async def gone(pidfd: int) -> None:
    """Wait until the process behind a pidfd has ended; closes it."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_reader(pidfd, ended.set)
    try:
        async with asyncio.timeout(30):
            await ended.wait()
    finally:
        loop.remove_reader(pidfd)
        os.close(pidfd)
