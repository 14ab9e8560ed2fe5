"""Checks of proposed work in bubblewrap.

The sandbox is that of an agent with less in it: no directories of an agent, no sockets of the hive, no programs of the
hive, and no network but a loopback, on which the hive's proxy may listen. The command sees the system's programs and
the configuration of the submitter read-only, and can write only the directory of its run, which is removed afterwards.
No file system in memory is writable, so that everything that it writes counts against the limit of the disk.

Where bubblewrap does not work, no check is run: a plain process could not be kept from the network or from the hive's
files.
"""

from __future__ import annotations

import asyncio
import os
import resource
import signal
from collections.abc import Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any

from hive_core.errors import HiveError
from hive_core.infra.concurrency.threads import MEASURES, TASK_COUNTS
from hive_core.infra.processes import Command, describe_exit, has_ended, spawn
from hive_core.runtimes.agent_environment import DEPLOYED, SEARCH_PATH, proxy_variables
from hive_core.runtimes.bubblewrap import CONFINING, Host
from hive_core.runtimes.checks.memory_use import SandboxProcesses, free_memory
from hive_core.runtimes.checks.order import HOME, CheckRun, CheckStopped, WayOut
from hive_core.runtimes.checks.supervise import MIB, supervise, watch
from hive_core.runtimes.checks.unnamed_files import MOST_OPEN, TooManyOpenFiles
from hive_core.runtimes.checks.way_out import listening
from hive_core.runtimes.launcher import SandboxedProcess

_FILES = 4_096
_MEASURE_SECONDS = 0.1
_COUNT_SECONDS = 0.02
"""A fork bomb of one process has become hundreds in this time."""
_FIRST = -20
"""The niceness of a process that is to end before any other runs."""
_NICE = 10
_OOM_SCORE = "500"
"""As the units of the nixos runtime have it."""
_SUCCESS = describe_exit(0)


class CheckSandbox:
    """Runs checks with the bwrap of this host."""

    def __init__(self, bwrap: str, host: Host) -> None:
        self._bwrap = bwrap
        self._host = host

    async def run(self, run: CheckRun, closure: str, say: Callable[[str], None]) -> str:
        """Run a check; returns the reason of its failure, "" if it passed. Raises HiveError `cannot_check`."""
        try:
            process = await self._start(run, closure)
        except PermissionError:
            why = "what a check uses cannot be measured here, as its processes cannot be seen"
            raise HiveError("cannot_check", why, hint="use a bwrap that is not setuid", status=503) from None
        except OSError as error:
            why = f"the sandbox of a check cannot be started: {error.strerror or 'bwrap does not set it up'}"
            raise HiveError("cannot_check", why, hint="try again when the machine is less busy", status=503) from None
        return await supervise(process, run, say, process.watches, deleted=lambda: process.deleted)

    async def _start(self, run: CheckRun, closure: str) -> _RunningCheck:
        info, writer = os.pipe2(os.O_CLOEXEC)
        source, feed = os.pipe2(os.O_CLOEXEC)
        blocked, release = os.pipe2(os.O_CLOEXEC)
        try:
            os.set_blocking(info, False)
            try:
                # bwrap waits for its arguments from the pipe, so nothing runs before the limits are set.
                line = [self._bwrap, "--args", str(source), "--", *run.argv]
                limits = {
                    resource.RLIMIT_DATA: run.limits.memory,
                    resource.RLIMIT_FSIZE: run.limits.disk,
                    resource.RLIMIT_CORE: 0,
                    resource.RLIMIT_NOFILE: _FILES,
                }
                kept = [writer, source, blocked]
                command = Command(line, _environment(run), Path("/"), kept, limits=limits, nice=_NICE)
                process = spawn(command)
                child = SandboxedProcess(process)
                # Before anything else of the machine, should memory run out faster than it is measured.
                _prefer_at_lack_of_memory(process.pid)
            finally:
                os.close(writer)
                os.close(source)
                os.close(blocked)
            try:
                with suppress(BrokenPipeError):
                    words = arguments(self._host, run, closure, writer, blocked)
                    os.write(feed, b"".join(os.fsencode(word) + b"\0" for word in words))
                os.close(feed)
                feed = -1
                await _start_command(child, info, run.way_out, release)
                return _RunningCheck(child, run)
            except BaseException:
                child.kill()
                await child.wait()
                child.close()
                raise
        finally:
            os.close(info)
            os.close(release)
            if feed >= 0:
                os.close(feed)


async def _start_command(child: SandboxedProcess, info: int, way_out: WayOut | None, release: int) -> None:
    """Let the command of a check begin, when the proxy listens for it. Raises OSError."""
    await child.find_init(info)
    if way_out is not None and child.init is not None:
        await _lend_listener(child.init, way_out)
    with suppress(BrokenPipeError):  # The sandbox has ended.
        os.write(release, b"x")
    await child.find_program()


async def _lend_listener(init: int, way_out: WayOut) -> None:
    namespace = os.open(f"/proc/{init}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        async with listening(way_out.port, namespace) as (listener, _):
            way_out.give(listener)
    finally:
        os.close(namespace)


def _prefer_at_lack_of_memory(process: int) -> None:
    with suppress(OSError):
        Path(f"/proc/{process}/oom_score_adj").write_text(_OOM_SCORE)


def arguments(host: Host, run: CheckRun, closure: str, info: int, blocked: int) -> list[str]:
    """Return the arguments of bwrap, in the order of mounting.

    `info` is the descriptor for `--info-fd`, and `blocked` the one on which the command waits for its start.
    """
    line = [*CONFINING, "--hostname", "check", "--info-fd", str(info), "--block-fd", str(blocked), "--proc", "/proc"]
    for target, link in host.links:
        line += ["--symlink", target, link]
    for path in host.read_only:
        line += ["--ro-bind-try", str(path), str(path)]
    line += ["--dev", "/dev"]
    places = {"tmp": "/tmp", "home": HOME, "shm": "/dev/shm", "files": run.working_directory}  # noqa: S108 - inside
    for name, inside in places.items():
        line += ["--bind", str(run.directory / name), inside]
    if closure:
        line += ["--ro-bind", closure, DEPLOYED]
    return [*line, "--remount-ro", "/dev", "--remount-ro", "/", "--chdir", run.working_directory]


def _environment(run: CheckRun) -> dict[str, str]:
    proxied = {} if run.way_out is None else proxy_variables({"proxy": run.way_out.port})
    own = {"PATH": SEARCH_PATH, "LANG": "C.UTF-8", "HOME": HOME, "TMPDIR": "/tmp", "CI": "true"}  # noqa: S108 - inside
    return {**own, **proxied}


class _RunningCheck:
    """A check in its sandbox; see `SandboxProcess`."""

    def __init__(self, child: SandboxedProcess, run: CheckRun) -> None:
        self._child = child
        self._limits = run.limits
        self._ended = False
        self._processes: SandboxProcesses | None = None
        self._init: int | None = None
        """The first process of the sandbox, with which all others end, as a pidfd."""
        self.deleted = 0
        """Bytes on the disk, at the last measurement, in files that are deleted and open."""
        if child.init is not None:
            with suppress(FileNotFoundError, ProcessLookupError):  # It has ended.
                self._processes = SandboxProcesses(child.init)
                self._init = os.pidfd_open(child.init)
        self.output = child.output

    async def wait(self) -> str:
        end = await self._child.wait()
        self._ended = True
        return "" if end == _SUCCESS else end

    async def end(self) -> None:
        if not self._ended:
            self._child.kill()
            await self._child.wait()
        if self._processes is not None:
            self._processes.close()
        if self._init is not None:
            os.close(self._init)
        self._child.close()

    def watches(self, ended: asyncio.Event) -> list[Coroutine[Any, Any, None]]:
        if self._processes is None:
            return []
        # The others are always quick, whatever the check does to delay the first.
        return [
            watch(self._measure, ended, _MEASURE_SECONDS, MEASURES),
            watch(_check_reserve, ended, _MEASURE_SECONDS, MEASURES),
            watch(self._count_tasks, ended, _COUNT_SECONDS, TASK_COUNTS),
        ]

    def _count_tasks(self) -> None:
        assert self._processes is not None
        if self._processes.count() > self._limits.tasks:
            self._kill_at_once()
            raise self._too_many_tasks()

    def _too_many_tasks(self) -> CheckStopped:
        return CheckStopped(f"it had more than {self._limits.tasks:,} tasks")

    def _kill_at_once(self) -> None:
        """Kill all processes before the event loop gets a turn, for which these may leave no processor."""
        if self._init is None or self._child.init is None:
            return
        with suppress(OSError):
            signal.pidfd_send_signal(self._init, signal.SIGKILL)
            if not has_ended(self._init):
                # It has to run once more to end the others, and would wait for its turn among all of them.
                os.setpriority(os.PRIO_PROCESS, self._child.init, _FIRST)

    def _measure(self) -> None:
        assert self._processes is not None
        limits = self._limits
        try:
            used = self._processes.measure(limits.memory, limits.tasks)
        except TooManyOpenFiles:
            raise CheckStopped(f"it had more than {MOST_OPEN:,} files open") from None
        self.deleted = used.deleted
        if used.tasks > limits.tasks:
            raise self._too_many_tasks()
        if used.memory > limits.memory:
            raise CheckStopped(f"it used more than {limits.memory // MIB:,} MiB of memory")
        if used.hidden:
            raise CheckStopped("it had a process that hides which files it has open")


def _check_reserve() -> None:
    free = free_memory()
    if free.available < free.reserve:
        raise CheckStopped(f"the machine has less than {free.reserve // MIB:,} MiB of memory left")
