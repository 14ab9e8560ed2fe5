"""Child processes of the daemon: the one module of `hive_core` that spawns them.

Every child gets a session of its own, no shell, no descriptors but those named, an environment that is exactly what
the caller gave, and one pipe for its standard error, and for its output unless that goes elsewhere. Children are
watched through pidfds (Linux 5.3): no thread per child, and a child's process group is killed before the child is
reaped, so that its number cannot belong to anybody else by then.

Call `spawn` on the thread that lives as long as the daemon: "die with the parent" means the thread that spawned.
"""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Command:
    """What to run. `argv[0]` is a path or is looked up in the daemon's PATH; `keep_fds` stay open in the child.

    `stdin` is its standard input (None: empty), `stdout` its standard output (None: the pipe that standard error goes
    to); both stay the caller's to close. `limits` are resource limits (`resource.RLIMIT_*`), soft and hard. They are
    set when `spawn` returns, which is a moment after the program was started: one that must do nothing without them
    is made to wait for its input.
    """

    argv: Sequence[str]
    environment: Mapping[str, str]
    cwd: Path
    keep_fds: Sequence[int] = ()
    stdin: int | None = None
    stdout: int | None = None
    limits: Mapping[int, int] = field(default_factory=dict)


class Process:
    """One child. `output` is the read end of its pipe, non-blocking, open until `close`."""

    def __init__(self, popen: subprocess.Popen[bytes], pidfd: int, output: int) -> None:
        self._popen = popen
        self._pidfd = pidfd
        self.pid = popen.pid
        self.output = output

    def signal(self, number: signal.Signals) -> None:
        """Signal the child alone; nothing happens if it has ended."""
        if self._popen.returncode is None:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, number)

    def kill(self) -> None:
        """Kill the child and everything in its process group; nothing happens after it was reaped."""
        if self._popen.returncode is None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)

    @property
    def ended(self) -> bool:
        """Whether the child was reaped."""
        return self._popen.returncode is not None

    async def wait(self) -> int:
        """Wait until the child ends, kill what is left of its group, reap it: its exit code, or minus a signal.

        One caller at a time.
        """
        if self._popen.returncode is None:
            await readable(self._pidfd)
            self.kill()
        return self._popen.wait()

    def close(self) -> None:
        """Release the descriptors. The child must have been waited for."""
        os.close(self._pidfd)
        os.close(self.output)


def spawn(command: Command) -> Process:
    """Start a child. Raises OSError or ValueError if it cannot be started at all, or not with its limits."""
    output, writer = os.pipe2(os.O_CLOEXEC)
    try:
        os.set_blocking(output, False)
        popen = subprocess.Popen(  # noqa: S603 - no shell; what to run is the caller's to answer for
            list(command.argv),
            env=dict(command.environment),
            cwd=command.cwd,
            stdin=subprocess.DEVNULL if command.stdin is None else command.stdin,
            stdout=writer if command.stdout is None else command.stdout,
            stderr=writer,
            pass_fds=tuple(command.keep_fds),
            start_new_session=True,
        )
    except BaseException:
        os.close(output)
        raise
    finally:
        os.close(writer)
    try:
        for kind, most in command.limits.items():
            _limit(popen.pid, kind, most)
        pidfd = os.pidfd_open(popen.pid)
    except BaseException:
        os.killpg(popen.pid, signal.SIGKILL)
        popen.wait()
        os.close(output)
        raise
    return Process(popen, pidfd, output)


def _limit(pid: int, kind: int, most: int) -> None:
    """Lower a resource limit of a child that has not been reaped; one that is lower already is left as it is."""
    _, hard = resource.prlimit(pid, kind)
    lowest = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.prlimit(pid, kind, (lowest, lowest))


async def read_all(descriptor: int, limit: int) -> bytes:
    """Everything that comes out of a non-blocking pipe until its end; what lies beyond `limit` bytes is dropped."""
    found = bytearray()
    while True:
        await readable(descriptor)
        with suppress(BlockingIOError):
            chunk = os.read(descriptor, 65536)
            if not chunk:
                return bytes(found)
            found += chunk[: limit - len(found)]


async def readable(descriptor: int, unless: asyncio.Future[None] | None = None) -> None:
    """Wait until a read would not block (of a pidfd: until the process has ended), or until `unless` is done.

    One caller at a time for one descriptor.
    """
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()

    def wake(*_: object) -> None:
        if not ready.done():
            ready.set_result(None)

    loop.add_reader(descriptor, wake)
    if unless is not None:
        unless.add_done_callback(wake)
    try:
        await ready
    finally:
        loop.remove_reader(descriptor)
        if unless is not None:
            unless.remove_done_callback(wake)


def describe_exit(returncode: int) -> str:
    """How a child ended, in words: "exit code 1" or "killed by SIGKILL"."""
    if returncode >= 0:
        return f"exit code {returncode}"
    try:
        return f"killed by {signal.Signals(-returncode).name}"
    except ValueError:
        return f"killed by signal {-returncode}"
