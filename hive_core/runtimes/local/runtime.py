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
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal

from hive_core.errors import HiveError, conflict, not_found
from hive_core.infra.concurrency.threads import LIFECYCLE
from hive_core.protocol import AgentConfig, Kind, Limits, Usage
from hive_core.runtimes.agent_environment import SEARCH_PATH
from hive_core.runtimes.base import AgentSpec, BuildOrder, UnitState
from hive_core.runtimes.bubblewrap import check_hidden, confined, inspect_host
from hive_core.runtimes.checks.order import CheckRun
from hive_core.runtimes.disk_quotas import DiskQuotas
from hive_core.runtimes.launcher import Harness, Launcher, PlainLauncher, SandboxLauncher, find_bubblewrap, remedy
from hive_core.runtimes.local.builder import Builder, LocalClosures
from hive_core.runtimes.local.check_sandbox import CheckSandbox
from hive_core.runtimes.local.config_check import Confine, unconfined
from hive_core.runtimes.local.host_programs import missing_programs
from hive_core.runtimes.local.supervisor import Supervisor
from hive_core.runtimes.log_file import LogFile
from hive_core.runtimes.unit_state import BackOff, StateChanges

Sandbox = Literal["auto", "bubblewrap", "none"]

_EFFECT = "local"
"""The effect of every configuration, for `LocalRuntime.effect`."""


_SEALED = "a network namespace with nothing but a loopback of its own"


def _describe(why: str, *, unsealed: bool) -> str:
    """Describe what becomes of sealed agents where nothing can seal them."""
    if unsealed:
        return f"NOT SEALED: agents have the host's network, whatever agent.toml says (unsealed = true): {why}"
    return f"refused, as nothing can seal it: {why}"


def harness_command(kind: Kind) -> list[str]:
    """The harness of this installation. `-P`: what an agent writes in its directory must not be imported as ours."""
    return [sys.executable, "-P", "-m", "hive_manager" if kind == "manager" else "hive_agent", "serve"]


class LocalRuntime:
    """Implements `hive_core.runtimes.base.Runtime`. Made with `open`; lives on the loop that it was opened on."""

    name = "local"
    limiting = False
    build_problem = ""

    def __init__(
        self,
        builder: Builder,
        launch: Launcher,
        confinement: str,
        stop_timeout: float,
        back_off: BackOff,
        cannot_seal: tuple[str, str] | None = None,
        checks: CheckSandbox | None = None,
        *,
        unsealed: bool = False,
    ) -> None:
        """`cannot_seal` says why no network can be sealed here, and what to do; None if it can, and then `checks` runs
        checks of proposed work. With `unsealed`, agents that cannot be sealed run all the same.
        """
        self.confinement = confinement
        self.bubblewrap: str | None = None
        """Path of bwrap if agents are confined with it; otherwise None."""
        self.unsealed = unsealed and cannot_seal is not None
        self.sealing = _SEALED if cannot_seal is None else _describe(cannot_seal[0], unsealed=unsealed)
        self._cannot_seal = cannot_seal
        self._checks = checks
        self.disks = DiskQuotas()
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
        unsealed: bool = False,
    ) -> LocalRuntime:
        """Open the runtime after a trial of bubblewrap. `stop_timeout` is in seconds.

        With `unsealed`, agents run with the host's network where no network can be sealed, instead of not at all.
        Closures are kept below `closures`; `scratch` is for builds in progress and must be on the same file system.

        Raises:
            HiveError: `no_sandbox` if bubblewrap is required and does not work, `kernel_too_old`, `state_dir_shown`.
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
        checks: CheckSandbox | None = None
        confinement = "plain processes, not confined: the sandbox is switched off"
        cannot_seal: tuple[str, str] | None = (
            "the sandbox is switched off",
            'set sandbox = "auto" in the hive\'s settings',
        )
        if sandbox != "none":
            host = await LIFECYCLE.run(inspect_host)
            bwrap, problem = await find_bubblewrap(host)
            if bwrap is not None:
                check_hidden(host, closures)
                launch, confinement, cannot_seal = SandboxLauncher(bwrap, host, harness), "bubblewrap", None
                confine = partial(confined, bwrap, host)
                checks = CheckSandbox(bwrap, await LIFECYCLE.run(inspect_host, python=()))
            elif sandbox == "bubblewrap":
                raise HiveError(
                    "no_sandbox",
                    f"agents cannot be run in bubblewrap: {problem}",
                    hint=f'{remedy(problem)}; or set sandbox = "none" to run agents as plain processes, not confined',
                )
            else:
                confinement = f"plain processes, not confined: {problem}"
                cannot_seal = (problem, remedy(problem))
        builder = Builder(LocalClosures(closures, scratch), confine)
        runtime = cls(
            builder, launch, confinement, stop_timeout, back_off or BackOff(), cannot_seal, checks, unsealed=unsealed
        )
        if confine is not unconfined:
            runtime.bubblewrap = bwrap
        return runtime

    def check_settings(self, config: AgentConfig) -> None:
        """Raise `cannot_seal` for a sealed network where agents are plain processes and have to be sealed.

        No sandbox shows the socket of a Nix daemon, whatever `nix_daemon` says.
        """
        self._check_sealing(sealed=config.network == "sealed")

    def missing_programs(self, packages: Sequence[str]) -> list[str]:
        """Return the packages whose programs this host does not have where agents look for them."""
        path = SEARCH_PATH if self.bubblewrap else os.environ.get("PATH", os.defpath)
        return missing_programs(packages, path)

    async def check_can_build(self) -> None:
        """Return at once: a build needs nothing but the commit."""

    async def build(self, order: BuildOrder, say: Callable[[str], None]) -> str:
        """Check the files of a commit and return the closure with them. Raises BuildFailed and HiveError."""
        return await self._builder.build(order, say)

    async def run_check(self, run: CheckRun, say: Callable[[str], None]) -> str:
        """Run a check in bubblewrap, with the programs of this host. Raises `cannot_check`, `closure_gone`."""
        if self._checks is None:
            why, what_to_do = self._cannot_seal or ("", "")
            raise conflict("cannot_check", f"no check can be run, as nothing can confine it here: {why}", what_to_do)
        return await self._checks.run(run, await self._builder.need(run.agent, run.closure), say)

    async def effect(self, order: BuildOrder) -> str:
        """Return a constant: `agent.nix` has no effect here, and no other file of a configuration is executed."""
        return _EFFECT

    async def compare(self, old: str | None, new: str) -> list[str]:
        """Return the differences of two closures as lines; `old` of None is an empty closure."""
        return await self._builder.compare(old, new)

    async def has(self, closure: str) -> bool:
        """Return True if the closure still exists."""
        return await self._builder.has(closure)

    async def keep(self, name: str, closures: Collection[str]) -> None:
        """Remove the agent's closures except `closures` and the one that it was started on last."""
        running = self._supervisors.get(name)
        await self._builder.keep(name, {*closures, running.spec.closure} if running else closures)

    async def activate(self, spec: AgentSpec) -> None:
        """Stop the agent and start it on `spec.closure`.

        Raises `closure_gone` and `cannot_seal`, and then stops nothing.
        """
        self._check_sealing(sealed=spec.sealed)
        await self._builder.need(spec.name, spec.closure)  # Before the stop.
        await self.stop(spec.name)
        await self.start(spec)

    async def start(self, spec: AgentSpec) -> None:
        """Start the agent and keep it running; `units` has the result. Nothing happens if it runs already.

        Raises `closure_gone`, `cannot_seal`.
        """
        self._check_sealing(sealed=spec.sealed)
        spec = replace(spec, closure=await self._builder.need(spec.name, spec.closure))
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
        ended = supervisor.state.lifecycle in ("stopped", "failed")
        await self.disks.enforce(spec.name, [spec.paths.home], spec.limits, stopped=ended)
        await supervisor.start(spec)

    async def outdated(self, closure: str) -> bool:
        """Return False: harnesses use the daemon's installation."""
        return False

    async def limit(self, name: str, limits: Limits) -> None:
        """Change the limit of the disk, the only one that the caller may have: nothing enforces others here."""
        await self.disks.change(name, limits)

    async def limits(self, name: str) -> Limits:
        """Return the limit of the disk, the only one."""
        return await self.disks.add_to(name, Limits())

    async def usage(self, name: str) -> Usage:
        """Return the usage of the disk; of the others it is unknown."""
        return await self.disks.add_usage(name, Usage())

    async def stop(self, name: str) -> None:
        """Stop the agent and all of its processes with SIGTERM, then SIGKILL. Nothing happens if it is stopped."""
        supervisor = self._supervisors.get(name)
        if supervisor is not None:
            await supervisor.stop()

    async def destroy(self, name: str) -> None:
        """Stop the agent and remove its supervisor. The agent's directories and its log file are kept."""
        await self.stop(name)
        self.disks.forget(name)
        supervisor = self._supervisors.pop(name, None)
        if supervisor is not None:
            log = self._logs.pop(supervisor.spec.log, None)
            if log is not None:
                log.close()

    def units(self) -> list[UnitState]:
        """Return the state of every agent that was started since the daemon's start and not destroyed."""
        return [supervisor.state for supervisor in self._supervisors.values()]

    def unit(self, name: str) -> UnitState | None:
        """Return the state of one of `units`, None if the agent is none of them."""
        supervisor = self._supervisors.get(name)
        return None if supervisor is None else supervisor.state

    def watch(self) -> AsyncIterator[UnitState]:
        """Yield every change from this call on, in order per agent, until the runtime is closed."""
        return self._changes.watch()

    async def read_log(
        self, name: str, log: Path, lines: int, cursor: str | None, wait_seconds: float
    ) -> tuple[list[str], str]:
        """Return the last `lines` of the log, or wait for those after `cursor`; and the cursor to continue from."""
        try:
            return await self._log(log).read(lines, cursor, wait_seconds)
        except OSError as error:
            raise not_found("not_found", f"the log of {name} cannot be read: {error.strerror}") from None

    async def last_line(self, name: str) -> str:
        """Return the last line that the harness printed in the last run that has ended; empty if there is none."""
        supervisor = self._supervisors.get(name)
        return "" if supervisor is None else supervisor.last_line

    async def close(self) -> None:
        """Stop every agent and release everything."""
        self._closed = True
        await asyncio.gather(*(supervisor.stop() for supervisor in self._supervisors.values()))
        for log in self._logs.values():
            log.close()
        self._changes.close()

    def _check_sealing(self, *, sealed: bool) -> None:
        if sealed and self._cannot_seal is not None and not self.unsealed:
            why, what_to_do = self._cannot_seal
            raise conflict(
                "cannot_seal",
                f'network = "sealed" cannot be enforced: agents are plain processes with the host\'s network ({why})',
                f'{what_to_do}; or name network = "host" in agent.toml; or let all agents have the host\'s network '
                "(unsealed = true in the hive's settings)",
            )

    def _log(self, path: Path) -> LogFile:
        return self._logs.setdefault(path, LogFile(path))
