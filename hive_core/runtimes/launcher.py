"""One running harness, however it is confined, as its supervisor sees it; and the plain, unconfined kind."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from hive_core.infra.processes import Command, Process, exit_words, spawn
from hive_core.protocol import Kind
from hive_core.runtimes.base import AgentSpec
from hive_core.runtimes.bubblewrap import agent_variables, git_identity, python_path

Harness = Callable[[Kind], Sequence[str]]
"""The command that runs the harness of an agent or of the manager."""


_SWEEPS = 200
"""How often to look for what a plain harness left, before giving up on something that cannot be killed."""


class Child(Protocol):
    """One life of a harness. `pid` is the harness's own, as the host numbers it; `output` is a pipe to read."""

    pid: int
    output: int

    def terminate(self) -> None:
        """Ask the harness to end."""

    def kill(self) -> None:
        """End the harness and everything that it started, now."""

    async def wait(self) -> str:
        """Wait until nothing of it is left; say in words how the harness ended. One caller at a time."""

    def close(self) -> None:
        """Release the descriptors of a child that has been waited for."""


class Launcher(Protocol):
    """Starts harnesses; OSError or ValueError say that one cannot be started."""

    async def __call__(self, spec: AgentSpec) -> Child: ...


class PlainLauncher:
    """Starts harnesses as plain processes of the daemon's user."""

    def __init__(self, harness: Harness) -> None:
        self._harness = harness

    async def __call__(self, spec: AgentSpec) -> Child:
        environment = {
            "PATH": os.environ.get("PATH", os.defpath),
            "LANG": "C.UTF-8",
            **python_path(),
            # Not the operator's home: what an agent's tools write there belongs to the agent.
            "HOME": str(spec.paths.state),
            **git_identity(spec.name),
            **spec.environment,
            **_places(spec),
            "HIVE_PARENT_PID": str(os.getpid()),
        }
        marks = [f"{name}={environment[name]}" for name in ("HIVE_AGENT_RUN", "HIVE_PARENT_PID")]
        return PlainChild(spawn(Command(self._harness(spec.kind), environment, spec.paths.state)), marks)


class PlainChild:
    """A plain process. What it started is found by its process group, and outside that by the environment it left."""

    def __init__(self, process: Process, marks: Sequence[str]) -> None:
        self._process = process
        self._marks = {os.fsencode(mark) for mark in marks}
        self.pid = process.pid
        self.output = process.output

    def terminate(self) -> None:
        self._process.signal(signal.SIGTERM)

    def kill(self) -> None:
        self._process.kill()

    async def wait(self) -> str:
        returncode = await self._process.wait()
        # Agent CLIs give their shells sessions of their own, which the end of the group does not reach.
        for _ in range(_SWEEPS):
            if not await asyncio.to_thread(_kill_marked, self._marks):
                break
            await asyncio.sleep(0.01)
        return exit_words(returncode)

    def close(self) -> None:
        self._process.close()


def _places(spec: AgentSpec) -> dict[str, str]:
    """Where things lie for a harness without mounts of its own."""
    repository = spec.applied or Path()
    return agent_variables(
        spec,
        spec.paths,
        deployed=spec.closure,
        applied=str(repository if spec.kind == "manager" else repository.parent),
    )


def _kill_marked(marks: set[bytes]) -> int:
    """Kill every process whose environment holds all of `marks`; returns how many there were."""
    found = 0
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal() or int(entry.name) == os.getpid():
            continue
        with suppress(OSError):
            # Opened first: what is read next is then of the process that is killed, not of a successor in its number.
            pidfd = os.pidfd_open(int(entry.name))
            try:
                if marks <= set((entry / "environ").read_bytes().split(b"\0")):
                    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
                    found += 1
            finally:
                os.close(pidfd)
    return found
