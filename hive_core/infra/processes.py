"""Child processes of the daemon: the only module of `hive_core` that spawns them. And processes that hold a port.

Every child gets its own session, no shell, only the named descriptors, exactly the given environment, and one pipe for
its standard error, and for its standard output unless that goes elsewhere. Children are watched through pidfds (Linux
5.3), without a thread per child. A child's process group is killed before the child is reaped, so that the process id
cannot belong to another process by then.

The daemon may open more files than its first soft limit allows; its children get that limit back, because programs that
call select(2) break beyond 1,024 descriptors.

Call `spawn` on a thread that lives as long as the daemon: PR_SET_PDEATHSIG refers to the thread that spawned.
"""

from __future__ import annotations

import asyncio
import gc
import os
import resource
import select
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

_usual_files: int | None = None
"""The soft limit of open files that the daemon was started with; None if it was not raised."""


def allow_many_files() -> None:
    """Raise this process's soft limit of open files to the hard limit: a daemon needs a dozen for each agent."""
    global _usual_files  # noqa: PLW0603 - the limit belongs to the process, too
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        _usual_files = soft


def spare_the_collector() -> None:
    """Collect garbage less often, because objects of the start stay alive and requests leave almost no cycles."""
    gc.enable()
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)


def restore_usual_files(pid: int) -> None:
    """Give a child the soft limit of open files back that the daemon was started with."""
    if _usual_files is not None:
        _, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (min(_usual_files, hard), hard))


@dataclass(frozen=True)
class Command:
    """A program and its environment. `argv[0]` is a path or is looked up in the daemon's PATH.

    The child inherits `keep_fds`. `stdin` is its standard input (None: empty), `stdout` its standard output (None: the
    pipe of standard error); the caller closes both. `limits` are resource limits (`resource.RLIMIT_*`), soft and hard.
    They are active when `spawn` returns, shortly after the start of the program. If a program must do nothing without
    them, let it wait for its input.
    """

    argv: Sequence[str]
    environment: Mapping[str, str]
    cwd: Path
    keep_fds: Sequence[int] = ()
    stdin: int | None = None
    stdout: int | None = None
    limits: Mapping[int, int] = field(default_factory=dict)
    nice: int = 0
    """The niceness of the process and of all that it starts (nice(1)), from shortly after its start."""


class Process:
    """A child process. `output` is the non-blocking read end of its pipe, open until `close`."""

    def __init__(self, popen: subprocess.Popen[bytes], pidfd: int, output: int) -> None:
        self._popen = popen
        self._pidfd = pidfd
        self.pid = popen.pid
        self.output = output

    def signal(self, number: signal.Signals) -> None:
        """Signal only the child; do nothing if it has been reaped."""
        if self._popen.returncode is None:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, number)

    def kill(self) -> None:
        """Kill the child and its process group; do nothing if the child has been reaped."""
        if self._popen.returncode is None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)

    @property
    def ended(self) -> bool:
        """Return True if the child was reaped."""
        return self._popen.returncode is not None

    async def wait(self) -> int:
        """Wait for the end of the child, kill the rest of its group, and return its exit code or minus a signal.

        Only one caller may wait at a time.
        """
        if self._popen.returncode is None:
            await readable(self._pidfd)
            self.kill()
        return self._popen.wait()

    def close(self) -> None:
        """Close the descriptors. `wait` must have returned."""
        os.close(self._pidfd)
        os.close(self.output)

    async def end(self) -> None:
        """Kill the child if it still runs, wait for its end, and close the descriptors."""
        self.kill()
        await self.wait()
        self.close()


def spawn(command: Command) -> Process:
    """Start a child. Raises OSError or ValueError if it cannot be started with its limits."""
    output, writer = os.pipe2(os.O_CLOEXEC)
    try:
        os.set_blocking(output, False)
        popen = subprocess.Popen(  # noqa: S603 - no shell; callers choose the program
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
        restore_usual_files(popen.pid)
        for kind, limit in command.limits.items():
            _set_limit(popen.pid, kind, limit)
        if command.nice:
            os.setpriority(os.PRIO_PROCESS, popen.pid, command.nice)
        pidfd = os.pidfd_open(popen.pid)
    except BaseException:
        os.killpg(popen.pid, signal.SIGKILL)
        popen.wait()
        os.close(output)
        raise
    return Process(popen, pidfd, output)


def _set_limit(pid: int, kind: int, limit: int) -> None:
    """Lower a resource limit of a child that has not been reaped; a lower limit is kept."""
    _, hard = resource.prlimit(pid, kind)
    lowest = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
    resource.prlimit(pid, kind, (lowest, lowest))


def has_ended(pidfd: int) -> bool:
    """Return True if the process has ended. Unlike select(2), this takes descriptors of any number."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(0))


async def read_all(descriptor: int, limit: int) -> bytes:
    """Read a non-blocking pipe to its end, and return the first `limit` bytes."""
    content = bytearray()
    while True:
        await readable(descriptor)
        with suppress(BlockingIOError):
            chunk = os.read(descriptor, 65536)
            if not chunk:
                return bytes(content)
            content += chunk[: limit - len(content)]


async def readable(descriptor: int, unless: asyncio.Future[None] | None = None) -> None:
    """Wait until a read would not block (for a pidfd: until the process has ended), or until `unless` is done.

    Only one caller may wait for a descriptor at a time.
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
    """Describe the end of a child: "exit code 1" or "killed by SIGKILL"."""
    if returncode >= 0:
        return f"exit code {returncode}"
    try:
        return f"killed by {signal.Signals(-returncode).name}"
    except ValueError:
        return f"killed by signal {-returncode}"


class LineCutter:
    """Splits the output of a process into lines, in bounded memory.

    Of a line longer than `longest` bytes the first `longest` + 1 are kept, so that the caller sees that it was cut.
    """

    def __init__(self, longest: int) -> None:
        self._kept = longest + 1
        self._rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        """Return the lines that end in `data`, without their ends."""
        first, *others = data.split(b"\n")
        if len(self._rest) < self._kept:  # The rest of a line that is too long is not even copied.
            self._rest += first[: self._kept - len(self._rest)]
        if not others:
            return []
        lines = [self._rest, *(line[: self._kept] for line in others[:-1])]
        self._rest = others[-1][: self._kept]
        return lines

    def finish(self) -> list[bytes]:
        """Return the last line if it has no end."""
        rest, self._rest = self._rest, b""
        return [rest] if rest else []


@dataclass(frozen=True)
class ListeningProcess:
    """A process of this machine that listens on a TCP port. It chooses its name itself, which is not trusted."""

    pid: int
    name: str


_LISTENS = "0A"
"""The state of a listening socket in /proc/net/tcp (proc_net_tcp.rst)."""


def find_listener(port: int, proc: Path = Path("/proc")) -> ListeningProcess | None:
    """Return a process that listens on a TCP port of this network namespace; None if none is found or may be seen.

    Reads the descriptors of all processes. Call it in a thread.
    """
    inodes = {inode for name in ("tcp", "tcp6") for inode in _listening_inodes(proc / "net" / name, port)}
    wanted = {f"socket:[{inode}]" for inode in inodes}
    for entry in proc.iterdir() if wanted else ():
        if not entry.name.isdecimal():
            continue
        with suppress(OSError):  # It has ended, or belongs to another user.
            if any(str(descriptor.readlink()) in wanted for descriptor in (entry / "fd").iterdir()):
                return ListeningProcess(int(entry.name), (entry / "comm").read_text(errors="replace").strip())
    return None


def _listening_inodes(table: Path, port: int) -> list[str]:
    try:
        lines = table.read_text().splitlines()[1:]
    except OSError:
        return []
    rows = [line.split() for line in lines]
    return [row[9] for row in rows if len(row) > 9 and row[3] == _LISTENS and row[1].endswith(f":{port:04X}")]
