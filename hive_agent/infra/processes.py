"""Child processes and their descendants, ended together."""

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
"""Longest line of output that can be read, in bytes: a tool's result comes as one line of JSON."""
_CLEANUP_SECONDS = 5.0

_living: set[int] = set()
"""The pids of the programs that run now, each the first process of its own."""


class Program:
    """A program with pipes, in a session of its own, and everything that it starts.

    Also what moves to another session or loses its parents is found: this process adopts orphans as long as a program
    lives. Which of several programs an orphan belongs to cannot be told, so of those that run beside each other only
    one may have `orphans`; the others are programs that leave nothing behind.
    """

    def __init__(self, process: Process, others: Set[int], orphans: bool) -> None:
        self.process = process
        self._others = others
        self._orphans = orphans

    @classmethod
    async def start(
        cls, argv: Sequence[str], environment: Mapping[str, str], directory: Path, *, orphans: bool = True
    ) -> Program:
        """Raises OSError if `argv` cannot be started. The program has to be ended, also if it ends by itself."""
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
        """What it has started that runs now, directly or not."""
        roots = {self.process.pid}
        processes = _processes()
        if self._orphans:
            roots |= set(_children(processes, os.getpid())) - self._others - _living
        return _below(roots, processes) - {self.process.pid}

    async def end_started(self, kept: Set[int] = frozenset()) -> None:
        """Kill what it has started, but `kept` and what these have started; the program itself goes on."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _CLEANUP_SECONDS
        while (pids := self.started() - _below(kept, _processes())) and loop.time() < deadline:
            for pid in pids:
                _kill_and_reap(pid)
            await asyncio.sleep(0.005)

    async def end(self) -> None:
        """Kill it and all that it has started. Does nothing the second time."""
        if self.process.pid not in _living:
            return
        try:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, signal.SIGKILL)
            await self.end_started()  # asyncio reaps the program itself
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_CLEANUP_SECONDS):
                    await self.process.wait()  # returns when the pipes are closed too, so only after the orphans' end
            await self.end_started()  # what was dead already, and came to us when the program died, is buried
        finally:
            _living.discard(self.process.pid)
            adopt_orphans(bool(_living))


@asynccontextmanager
async def running(
    argv: Sequence[str], environment: Mapping[str, str], directory: Path, *, orphans: bool = True
) -> AsyncIterator[Process]:
    """Start `argv`; on leaving, kill it and all that it started. Raises OSError if `argv` cannot be started."""
    program = await Program.start(argv, environment, directory, orphans=orphans)
    try:
        yield program.process
    finally:
        await program.end()


async def next_line(process: Process) -> bytes | None:
    """The next line of a program's output; empty if it was too long to be read, None at the end."""
    if process.stdout is None:
        return None
    try:
        return await process.stdout.readline() or None
    except ValueError:
        log.warning("the agent CLI wrote a line beyond the limit, which was skipped")
        return b""


def reap_adopted() -> None:
    """Bury adopted processes that have ended. As long as a program lives for days, this has to be called at times."""
    while True:
        try:
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return
        if ended is None or ended.si_pid in _living:  # asyncio waits for a program itself
            return
        _reap(ended.si_pid)


def _below(roots: Set[int], processes: Mapping[int, Sequence[int]]) -> set[int]:
    """These processes and all that they have started and not lost."""
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
    """The pids of all children by parent. Read from every process's stat: `children` files are not always built.

    A dead child that its own parent has not buried is none.
    """
    own = os.getpid()
    found: dict[int, list[int]] = {}
    for place in Path("/proc").iterdir():
        if not place.name.isdigit():
            continue
        try:
            stat = (place / "stat").read_bytes()
        except OSError:
            continue  # it ended meanwhile
        # The name in parentheses may hold anything; state and parent follow its last one.
        state, parent = stat[stat.rindex(b")") + 2 :].split()[:2]
        if state not in (b"Z", b"X") or int(parent) == own:
            found.setdefault(int(parent), []).append(int(place.name))
    return found


_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36

# Loaded before any fork: the child may not allocate or lock between fork and exec.
_libc = ctypes.CDLL(None, use_errno=True)


def _prctl(option: int, value: int) -> None:
    if _libc.prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def follow_parent(parent_pid: int) -> bool:
    """Get SIGTERM when the parent ends. False if it has ended already (this process has another parent now)."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    return os.getppid() == parent_pid


def die_with_parent() -> None:
    """Get SIGKILL when the parent ends: for a child, between fork and exec."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def adopt_orphans(adopt: bool) -> None:
    """Become the parent of every descendant whose own parent ends, so that none gets out of sight; or stop that."""
    _prctl(_PR_SET_CHILD_SUBREAPER, int(adopt))
