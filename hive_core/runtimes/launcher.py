"""Start of a program as a plain process or in a bubblewrap sandbox, and the trial of bubblewrap.

bwrap is the daemon's child; its own child is process 1 of the sandbox, and that one's first child is the harness.
Neither of them passes signals on, so a signal is sent to the harness itself, by its process id on the host. When bwrap
or process 1 dies, the kernel ends everything in the sandbox.
"""

from __future__ import annotations

import asyncio
import ctypes
import errno
import json
import os
import re
import shutil
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from hive_core.infra.concurrency.threads import LIFECYCLE
from hive_core.infra.processes import (
    Command,
    Process,
    describe_exit,
    has_ended,
    read_all,
    readable,
    restore_usual_files,
    spawn,
)
from hive_core.layout import AgentPaths
from hive_core.protocol import Kind
from hive_core.runtimes.agent_environment import (
    agent_variables,
    git_identity,
    harness_environment,
    package_root,
    plain_path,
    python_path,
)
from hive_core.runtimes.base import AgentSpec
from hive_core.runtimes.bubblewrap import Host, arguments

Harness = Callable[[Kind], Sequence[str]]
"""The command that runs the harness of an agent or of the manager."""


_SWEEPS = 200
"""Searches for processes that a plain harness has left, before giving up on one that cannot be killed."""


class HarnessProcess(Protocol):
    """One run of a harness. `pid` is the id of the harness on the host; `output` is a pipe to read."""

    pid: int
    output: int

    def terminate(self) -> None:
        """Send SIGTERM to the harness."""

    def kill(self) -> None:
        """Kill the harness and everything that it started."""

    async def wait(self) -> str:
        """Wait until all its processes have ended; returns the end of the harness in words. One caller at a time."""

    def close(self) -> None:
        """Close the descriptors of a child that has been waited for."""


class Launcher(Protocol):
    """Starts harnesses. Raises OSError or ValueError if one cannot be started."""

    async def __call__(self, spec: AgentSpec) -> HarnessProcess: ...


class PlainLauncher:
    """Starts harnesses as plain processes of the daemon's user."""

    def __init__(self, harness: Harness) -> None:
        self._harness = harness

    async def __call__(self, spec: AgentSpec) -> HarnessProcess:
        environment = {
            "PATH": plain_path(spec),
            "LANG": "C.UTF-8",
            **python_path(),
            # Not the operator's home, because the agent's tools write there.
            "HOME": str(spec.paths.state),
            **git_identity(spec.name),
            **spec.environment,
            **_path_variables(spec),
            "HIVE_PARENT_PID": str(os.getpid()),
        }
        marks = [f"{name}={environment[name]}" for name in ("HIVE_AGENT_RUN", "HIVE_PARENT_PID")]
        return PlainProcess(spawn(Command(self._harness(spec.kind), environment, spec.paths.state)), marks)


class PlainProcess:
    """A plain process. Its children are found by their process group, and by the environment that they inherit."""

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
            if not await LIFECYCLE.run(_kill_marked, self._marks):
                break
            await asyncio.sleep(0.01)
        return describe_exit(returncode)

    def close(self) -> None:
        self._process.close()


def _path_variables(spec: AgentSpec) -> dict[str, str]:
    """Return the variables with the paths, for a harness without mounts of its own."""
    repository = spec.applied or Path()
    return agent_variables(
        spec,
        spec.paths,
        deployed=spec.closure,
        applied=str(repository if spec.kind == "manager" else repository.parent),
        mirrors={each.name: str(each.mirror) for each in spec.repositories},
        secrets=str(spec.secrets),
    )


def _kill_marked(marks: set[bytes]) -> int:
    """Kill every process whose environment holds all of `marks`; returns how many there may have been."""
    found = 0
    try:
        processes = list(Path("/proc").iterdir())
    except OSError as error:
        if error.errno not in (errno.EMFILE, errno.ENFILE, errno.ENOMEM):
            raise
        return 1  # There may be some: the caller searches again.
    for entry in processes:
        if not entry.name.isdecimal() or int(entry.name) == os.getpid():
            continue
        with suppress(OSError):
            # Opened before its environment is read, so that no later process with the same id is killed.
            pidfd = os.pidfd_open(int(entry.name))
            try:
                if marks <= set((entry / "environ").read_bytes().split(b"\0")):
                    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
                    found += 1
            finally:
                os.close(pidfd)
    return found


_SETUP_SECONDS = 10.0
"""The time limit of bwrap for the setup of a sandbox."""
_PROBE_SECONDS = 20.0


class SandboxLauncher:
    """Starts harnesses in sandboxes."""

    def __init__(self, bwrap: str, host: Host, harness: Harness) -> None:
        self._bwrap = bwrap
        self._host = host
        self._harness = harness

    async def __call__(self, spec: AgentSpec) -> HarnessProcess:
        info, writer = os.pipe2(os.O_CLOEXEC)
        try:
            os.set_blocking(info, False)
            try:
                line = arguments(self._bwrap, self._host, spec, writer, self._harness(spec.kind))
                process = spawn(Command(line, harness_environment(spec), Path("/"), keep_fds=[writer]))
            finally:
                os.close(writer)
            child = SandboxedProcess(process)
            try:
                await child.find_harness(info)
            except BaseException:
                child.kill()
                await child.wait()
                child.close()
                raise
            return child
        finally:
            os.close(info)


class SandboxedProcess:
    """A sandbox with a harness in it. `pid` is that of bwrap until the harness was found."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._init: int | None = None
        self.init: int | None = None
        """The process id of the sandbox's process 1, None until it was found."""
        self._harness: int | None = None
        self.pid = process.pid
        self.output = process.output

    async def find_harness(self, info: int) -> None:
        """Find the process id of the harness, unless the sandbox ends first. Raises TimeoutError."""
        await self.find_init(info)
        await self.find_program()

    async def find_init(self, info: int) -> None:
        """Find the sandbox's process 1, unless the sandbox ends first. Raises TimeoutError."""
        async with asyncio.timeout(_SETUP_SECONDS):
            # Ends when bwrap has written it or has ended.
            text = await read_all(info, 64 * 1024)
        with suppress(ValueError, KeyError, TypeError):
            init = int(json.loads(text)["child-pid"])
            self._init = _hold(init, parent=self._process.pid)
            self.init = None if self._init is None else init

    async def find_program(self) -> None:
        """Find the first program in the sandbox, after its process 1. Raises TimeoutError."""
        async with asyncio.timeout(_SETUP_SECONDS):
            while self._init is not None and self._harness is None and not has_ended(self._init):
                init = self.init or 0
                for pid in _children(init):
                    # Orphans in the sandbox become children of its process 1, too; the harness is number 2 there.
                    if _number_inside(pid) == 2:
                        self._harness = _hold(pid, parent=init)
                        self.pid = pid
                        with suppress(ProcessLookupError):
                            # bwrap may have created it before its own limit was set.
                            restore_usual_files(pid)
                if self._harness is None:
                    await asyncio.sleep(0.002)

    def terminate(self) -> None:
        if self._harness is None:
            self.kill()
            return
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._harness, signal.SIGTERM)

    def kill(self) -> None:
        if self._init is not None:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._init, signal.SIGKILL)
        self._process.kill()

    async def wait(self) -> str:
        returncode = await self._process.wait()
        if self._init is not None:
            # bwrap ends with the harness; process 1, and with it the last process of the sandbox, a moment after.
            self.kill()
            await readable(self._init)
            _reap_if_ours(self._init)
        # bwrap reports a signal in the way of shells.
        killed = 128 < returncode < 128 + signal.NSIG
        return describe_exit(128 - returncode if killed else returncode)

    def close(self) -> None:
        for pidfd in (self._init, self._harness):
            if pidfd is not None:
                os.close(pidfd)
        self._init = self._harness = None
        self._process.close()


_NOT_INSTALLED = "bubblewrap is not installed"
_OPENAT2 = 437
"""The number of the system call: the same on every architecture."""


def remedy(problem: str) -> str:
    """Return the remedy where bubblewrap does not work; `problem` comes from `find_bubblewrap`."""
    if problem == _NOT_INSTALLED:
        return "install bubblewrap on the daemon's PATH"
    if os.strerror(errno.ENOSYS) in problem and _lacks_openat2():
        return (
            "bubblewrap since 0.12 needs the system call openat2, which does not exist where the daemon runs: a unit "
            "with RestrictSUIDSGID= takes it away; remove that setting"
        )
    return (
        "allow unprivileged user and network namespaces (sysctl user.max_user_namespaces, "
        "kernel.unprivileged_userns_clone, kernel.apparmor_restrict_unprivileged_userns), and update bubblewrap"
    )


def _lacks_openat2() -> bool:
    """Return True if openat2(2) fails with ENOSYS; any other error for wrong arguments means that it exists."""
    libc = ctypes.CDLL(None, use_errno=True)
    return libc.syscall(_OPENAT2, -1, None, None, 0) < 0 and ctypes.get_errno() == errno.ENOSYS


async def find_bubblewrap(host: Host) -> tuple[str | None, str]:
    """Try bubblewrap; returns the path of bwrap if it can confine here, else None and the reason."""
    bwrap = _find("bwrap")
    if bwrap is None:
        return None, _NOT_INSTALLED
    problem = await probe_bubblewrap(bwrap, host)
    return (None if problem else bwrap), problem


def _find(program: str) -> str | None:
    found = shutil.which(program)
    return found and str(Path(found).absolute())


async def probe_bubblewrap(bwrap: str, host: Host) -> str:
    """Run this interpreter in a sandbox like that of a sealed agent: one with the host's network needs less.

    Returns the reason of a failure, empty if it works.
    """
    # A directory that is there, so that a full disk does not decide on the confinement, and a kill leaves none behind.
    place = package_root() / "hive_core"
    launch = SandboxLauncher(bwrap, host, lambda _: [sys.executable, "-P", "-c", "import hive_core.protocol.names"])
    paths = AgentPaths(place, place, place, place, place)
    try:
        child = await launch(AgentSpec("probe", "agent", paths, place / "log", sealed=True))
    except OSError as error:
        return f"bwrap cannot be started: {error.strerror or 'it does not set up its sandbox'}"
    try:
        async with asyncio.timeout(_PROBE_SECONDS):
            output = await read_all(child.output, 64 * 1024)
            end = await child.wait()
    except TimeoutError:
        return f"bwrap did not end within {_PROBE_SECONDS:g} s"
    finally:
        child.kill()
        await child.wait()
        child.close()
    if end == describe_exit(0):
        return ""
    words = output.decode(errors="replace").strip().splitlines() or [end]
    return f"bwrap failed: {words[-1]}"


def _hold(pid: int, parent: int) -> int | None:
    """Return a pidfd of `pid` if it is a child of `parent`, which no later process with the same id is; else None."""
    try:
        pidfd = os.pidfd_open(pid)
    except OSError as error:
        # Before Linux 6.15 EINVAL, later ENOENT: by now the id is that of a thread.
        if error.errno in (errno.ESRCH, errno.EINVAL, errno.ENOENT):
            return None
        raise
    if _status(pid, "PPid") == [parent]:
        return pidfd
    os.close(pidfd)
    return None


def _reap_if_ours(pidfd: int) -> None:
    """Reap an ended process that the daemon has inherited, which happens where the daemon is process 1."""
    with suppress(ChildProcessError):
        os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG)


def _children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        # Not every kernel has that file (CONFIG_PROC_CHILDREN).
        everybody = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal()]
        return [other for other in everybody if _status(other, "PPid") == [pid]]


def _number_inside(pid: int) -> int | None:
    numbers = _status(pid, "NSpid")
    return numbers[-1] if numbers else None


def _status(pid: int, field: str) -> list[int]:
    """Return the numbers in one line of a process's status; empty if it has ended."""
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return []
    found = re.search(rf"^{field}:(.*)$", text, re.MULTILINE)
    return [int(number) for number in found[1].split()] if found else []
