"""The `local` runtime: agents as child processes of the daemon, in bubblewrap sandboxes where these work.

A build checks the files of a configuration and copies them; an activation starts the agent on them.

For trying and testing on any Linux machine, without root, Nix or systemd. `agent.nix` has no effect here: where Nix is
installed, it checks the syntax.

No child outlives the daemon, however that ends: bwrap dies with its parent, and a plain harness asks the kernel for the
same (`HIVE_PARENT_PID`).
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable, Collection
from functools import partial
from pathlib import Path
from typing import Literal

from hive_core.errors import HiveError, conflict, not_found
from hive_core.protocol import Kind, Limits, Usage
from hive_core.runtimes.base import AgentSpec, BuildOrder, UnitState
from hive_core.runtimes.bubblewrap import check_hidden, confined, inspect_host
from hive_core.runtimes.launcher import Harness, Launcher, PlainLauncher, SandboxLauncher, find_bubblewrap, remedy
from hive_core.runtimes.local.builder import Builder, LocalClosures
from hive_core.runtimes.local.config_check import Confine, unconfined
from hive_core.runtimes.local.supervisor import Supervisor
from hive_core.runtimes.log_file import LogFile
from hive_core.runtimes.unit_state import BackOff, StateChanges

Sandbox = Literal["auto", "bubblewrap", "none"]


def harness_command(kind: Kind) -> list[str]:
    """The harness of this installation. `-P`: what an agent writes in its directory must not be imported as ours."""
    return [sys.executable, "-P", "-m", "hive_manager" if kind == "manager" else "hive_agent", "serve"]


class LocalRuntime:
    """Implements `hive_core.runtimes.base.Runtime`. Made with `open`; lives on the loop that it was opened on."""

    name = "local"
    limiting = False
    build_problem = ""

    def __init__(
        self, builder: Builder, launch: Launcher, confinement: str, stop_timeout: float, back_off: BackOff
    ) -> None:
        self.confinement = confinement
        self.bubblewrap: str | None = None
        """The program that confines, where it works."""
        self._builder = builder
        self._launch = launch
        self._stop_timeout = stop_timeout
        self._back_off = back_off
        self._supervisors: dict[str, Supervisor] = {}
        self._logs: dict[Path, LogFile] = {}
        self._changes = StateChanges()
        self._closed = False

    @classmethod
    async def open(
        cls,
        sandbox: Sandbox = "auto",
        *,
        closures: Path,
        scratch: Path,
        stop_timeout: float = 10.0,
        back_off: BackOff | None = None,
        harness: Harness = harness_command,
    ) -> LocalRuntime:
        """Find out how agents can be confined here, by trying. `stop_timeout` is in seconds.

        What is built is kept below `closures`; `scratch` holds work under way and is on the same file system.

        Raises HiveError if bubblewrap is asked for and does not work, or if the kernel is too old.
        """
        try:
            os.close(os.pidfd_open(os.getpid()))
        except OSError as error:
            raise HiveError(
                "kernel_too_old",
                f"the local runtime watches its processes with pidfd_open(2), which fails here: {error.strerror}",
                hint="use Linux 5.3 or newer, and no seccomp filter that forbids it",
            ) from None
        launch: Launcher = PlainLauncher(harness)
        confine: Confine = unconfined
        confinement = "plain processes, not confined: the sandbox is switched off"
        if sandbox != "none":
            host = await asyncio.to_thread(inspect_host)
            bwrap, problem = await find_bubblewrap(host)
            if bwrap is not None:
                check_hidden(host, closures)
                launch, confinement = SandboxLauncher(bwrap, host, harness), "bubblewrap"
                confine = partial(confined, bwrap, host)
            elif sandbox == "bubblewrap":
                raise HiveError(
                    "no_sandbox",
                    f"agents cannot be run in bubblewrap: {problem}",
                    hint=f'{remedy(problem)}; or set sandbox = "none" to run agents as plain processes, not confined',
                )
            else:
                confinement = f"plain processes, not confined: {problem}"
        builder = Builder(LocalClosures(closures, scratch), confine)
        runtime = cls(builder, launch, confinement, stop_timeout, back_off or BackOff())
        if confine is not unconfined:
            runtime.bubblewrap = bwrap
        return runtime

    async def check_can_build(self) -> None:
        """Return at once: a build needs nothing but the commit."""

    async def build(self, order: BuildOrder, say: Callable[[str], None]) -> str:
        """Check a commit's files and lay them down: the directory with them. Raises BuildFailed and HiveError."""
        return await self._builder.build(order, say)

    async def compare(self, old: str | None, new: str) -> list[str]:
        """What differs between two closures, in words, a line each; `old` of None is an empty one."""
        return await self._builder.compare(old, new)

    async def has(self, closure: str) -> bool:
        """Whether the closure can still be activated."""
        return await self._builder.has(closure)

    async def keep(self, name: str, closures: Collection[str]) -> None:
        """Remove the closures of that agent but these, and the one that it was started on last."""
        running = self._supervisors.get(name)
        await self._builder.keep(name, {*closures, running.spec.closure} if running else closures)

    async def activate(self, spec: AgentSpec) -> None:
        """Stop what runs of the agent and start it on `spec.closure`; raises `closure_gone`, and stops nothing then."""
        await self._builder.need(spec.name, spec.closure)
        await self.stop(spec.name)
        await self.start(spec)

    async def start(self, spec: AgentSpec) -> None:
        """Run the agent and keep it running; `units` tells whether that worked. Nothing happens if it runs already.

        Raises `closure_gone`.
        """
        await self._builder.need(spec.name, spec.closure)
        if self._closed:
            raise HiveError("stopping", "the hive is stopping", hint="start it again first", status=503)
        supervisor = self._supervisors.get(spec.name)
        if supervisor is None:
            supervisor = Supervisor(
                spec,
                self._launch,
                self._log(spec.log),
                self._changes.publish,
                stop_timeout=self._stop_timeout,
                back_off=self._back_off,
            )
            self._supervisors[spec.name] = supervisor
        await supervisor.start(spec)

    async def outdated(self, closure: str) -> bool:
        """Never: harnesses run on this installation."""
        return False

    async def limit(self, name: str, limits: Limits) -> None:
        """Raises `limits_not_enforced`: child processes have no control group of their own."""
        raise conflict(
            "limits_not_enforced",
            f"the local runtime cannot limit what {name} uses",
            'run the hive on NixOS with runtime = "nixos" for limits',
        )

    async def limits(self, name: str) -> Limits:
        """None at all."""
        return Limits()

    async def usage(self, name: str) -> Usage:
        """Not known."""
        return Usage()

    async def stop(self, name: str) -> None:
        """Stop the agent and all of its processes: politely, then by force. Nothing happens if it is stopped."""
        supervisor = self._supervisors.get(name)
        if supervisor is not None:
            await supervisor.stop()

    async def destroy(self, name: str) -> None:
        """Stop the agent and forget it. The agent's directories and its log file are not removed."""
        await self.stop(name)
        supervisor = self._supervisors.pop(name, None)
        if supervisor is not None:
            log = self._logs.pop(supervisor.spec.log, None)
            if log is not None:
                log.close()

    def units(self) -> list[UnitState]:
        """Every agent that was started since the daemon began and not destroyed."""
        return [supervisor.state for supervisor in self._supervisors.values()]

    def watch(self) -> AsyncIterator[UnitState]:
        """Every change from this call on, in order per agent; ends when the runtime is closed."""
        return self._changes.watch()

    async def read_log(
        self, name: str, log: Path, lines: int, cursor: str | None, wait_seconds: float
    ) -> tuple[list[str], str]:
        """The log's last `lines`, or what came after `cursor` (waiting for it); and the cursor to go on with."""
        try:
            return await self._log(log).read(lines, cursor, wait_seconds)
        except OSError as error:
            raise not_found("not_found", f"the log of {name} cannot be read: {error.strerror}") from None

    async def close(self) -> None:
        """Stop every agent and release everything."""
        self._closed = True
        await asyncio.gather(*(supervisor.stop() for supervisor in self._supervisors.values()))
        for log in self._logs.values():
            log.close()
        self._changes.close()

    def _log(self, path: Path) -> LogFile:
        return self._logs.setdefault(path, LogFile(path))
