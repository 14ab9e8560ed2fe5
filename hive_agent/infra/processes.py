"""Child processes, which are ended together with their descendants."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import logging
import os
import signal
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Mapping, Sequence, Set
from contextlib import asynccontextmanager
from pathlib import Path

log = logging.getLogger(__name__)


LINE_LIMIT = 32 * 1024 * 1024
"""Longest line of output that can be read, in bytes: the result of a tool is one line of JSON."""
_CLEANUP_SECONDS = 5.0

_living: set[int] = set()
"""The pids of the running programs."""
_kept: set[int] = set()
"""The pids of children that stay when a turn ends; each is the subreaper of what it starts."""


class Program:
    """A program with pipes, in a session of its own, and all its descendants.

    Descendants that changed the session or were orphaned are found, too: this process is their subreaper as long as a
    program runs. An orphan cannot be assigned to one of several programs, so of concurrent programs only one may have
    `orphans`; the others must leave no processes behind.
    """

    def __init__(self, process: Process, others: Set[int], orphans: bool) -> None:
        self.process = process
        self._others = others
        self._orphans = orphans

    @classmethod
    async def start(
        cls, argv: Sequence[str], environment: Mapping[str, str], directory: Path, *, orphans: bool = True
    ) -> Program:
        """Start a program. `end` must be called, even if the program has exited. Raises OSError."""
        others = set(_children(_processes(), os.getpid()))
        adopt_orphans(True)
        try:
            process = await asyncio.create_subprocess_exec(
                *argv,
                stdin=PIPE,
                stdout=PIPE,
                stderr=PIPE,
                env=dict(environment),
                cwd=directory,
                limit=LINE_LIMIT,
                start_new_session=True,
                preexec_fn=die_with_parent,
            )
        except BaseException:
            adopt_orphans(bool(_living))
            raise
        _living.add(process.pid)
        return cls(process, others, orphans)

    def started(self) -> set[int]:
        """The pids of its running descendants."""
        roots = {self.process.pid}
        processes = _processes()
        if self._orphans:
            roots |= set(_children(processes, os.getpid())) - self._others - _living - _kept
        return _below(roots, processes) - {self.process.pid}

    async def end_started(self, kept: Set[int] = frozenset()) -> None:
        """Kill its descendants, except for `kept` and their descendants; the program itself continues."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _CLEANUP_SECONDS
        while (pids := self.started() - _below(kept, _processes())) and loop.time() < deadline:
            for pid in pids:
                _kill_and_reap(pid)
            await asyncio.sleep(0.005)

    async def end(self) -> None:
        """Kill the program and its descendants. A second call does nothing."""
        if self.process.pid not in _living:
            return
        try:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, signal.SIGKILL)
            await self.end_started()  # asyncio reaps the program itself
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_CLEANUP_SECONDS):
                    await self.process.wait()  # returns only when the pipes are closed, so after the end of orphans
            await self.end_started()  # reaps zombies that were orphaned by the end of the program
        finally:
            _living.discard(self.process.pid)
            adopt_orphans(bool(_living))


def exit_text(code: int) -> str:
    """Describe the return code of an asyncio process."""
    return f"signal {-code}" if code < 0 else f"exit code {code}"


@asynccontextmanager
async def running(
    argv: Sequence[str], environment: Mapping[str, str], directory: Path, *, orphans: bool = True
) -> AsyncIterator[Process]:
    """Start a program; on exit, kill it and its descendants. Raises OSError."""
    program = await Program.start(argv, environment, directory, orphans=orphans)
    try:
        yield program.process
    finally:
        await program.end()


async def next_line(process: Process) -> bytes | None:
    """Read the next line of a program's output; empty if the line was too long, None at the end of the output."""
    if process.stdout is None:
        return None
    try:
        return await process.stdout.readline() or None
    except ValueError:
        log.warning("the agent CLI wrote a line longer than the limit, which was skipped")
        return b""


def reap_adopted() -> None:
    """Reap orphaned processes that have exited. While a program runs for days, this has to be called regularly."""
    while True:
        try:
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return
        if ended is None or ended.si_pid in _living | _kept:  # somebody waits for these
            return
        _reap(ended.si_pid)


def spare(pid: int) -> None:
    """Let a child of this process stay when a turn ends, until `release`. It must adopt its own orphans."""
    _kept.add(pid)


def release(pid: int) -> None:
    """Undo `spare` for a child that has been reaped."""
    _kept.discard(pid)


def _below(roots: Set[int], processes: Mapping[int, Sequence[int]]) -> set[int]:
    """These processes and their descendants."""
    found: set[int] = set()
    waiting = list(roots)
    while waiting:
        pid = waiting.pop()
        if pid not in found:
            found.add(pid)
            waiting += _children(processes, pid)
    return found


def _kill_and_reap(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signal.SIGKILL)
    _reap(pid)


def _reap(pid: int) -> None:
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


def _children(processes: Mapping[int, Sequence[int]], parent: int) -> Sequence[int]:
    return processes.get(parent, ())


def _processes() -> dict[int, list[int]]:
    """The pids of all children by parent, from each process's `stat`, as kernels may lack the `children` files.

    Zombies that their own parent has not reaped are left out.
    """
    own = os.getpid()
    found: dict[int, list[int]] = {}
    for directory in Path("/proc").iterdir():
        if not directory.name.isdigit():
            continue
        try:
            stat = (directory / "stat").read_bytes()
        except OSError:
            continue  # it has exited meanwhile
        # The name in parentheses may contain any character; state and parent follow the last parenthesis.
        state, parent = stat[stat.rindex(b")") + 2 :].split()[:2]
        if state not in (b"Z", b"X") or int(parent) == own:
            found.setdefault(int(parent), []).append(int(directory.name))
    return found


_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36

# Loaded before any fork: the child may not allocate or lock between fork and exec.
_libc = ctypes.CDLL(None, use_errno=True)


def _prctl(option: int, value: int) -> None:
    if _libc.prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def follow_parent(parent_pid: int) -> bool:
    """Get SIGTERM when the parent exits. False if it has exited already (this process has another parent now)."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    return os.getppid() == parent_pid


def die_with_parent() -> None:
    """Get SIGKILL when the parent exits; called in the child between fork and exec."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def adopt_orphans(adopt: bool) -> None:
    """Set whether this process becomes the parent of orphaned descendants (PR_SET_CHILD_SUBREAPER in prctl(2))."""
    _prctl(_PR_SET_CHILD_SUBREAPER, int(adopt))
