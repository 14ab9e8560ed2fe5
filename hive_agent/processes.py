"""Runs a turn's program so that nothing of it is left when the turn ends. The one module here that spawns."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Mapping, Sequence, Set
from contextlib import asynccontextmanager
from pathlib import Path

from hive_agent import prctl

LINE_LIMIT = 32 * 1024 * 1024
"""Longest line of output that can be read, in bytes: a tool's result comes as one line of JSON."""
_CLEANUP_SECONDS = 5.0


@asynccontextmanager
async def running(argv: Sequence[str], environment: Mapping[str, str], directory: Path) -> AsyncIterator[Process]:
    """Start `argv` in a session of its own, with pipes; on leaving, kill it and all that it started.

    Programs that moved to a session of their own (as an agent CLI's shells do) are found because this process
    adopts orphans meanwhile: every child that it did not have before belongs to the program, so run one at a time.
    Raises OSError if `argv` cannot be started.
    """
    before = set(_children())
    prctl.adopt_orphans(True)
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
            preexec_fn=prctl.die_with_parent,
        )
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            await _end_children(process.pid, before)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_CLEANUP_SECONDS):
                    await process.wait()  # returns when the pipes are closed too, so only after the orphans' end
    finally:
        prctl.adopt_orphans(False)


async def _end_children(program: int, others: Set[int]) -> None:
    """Kill and reap children but `others` until there are none; each death may bring its own children here.

    `program` is killed already, and asyncio reaps it.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + _CLEANUP_SECONDS
    while (pids := set(_children()) - others) and loop.time() < deadline:
        for pid in pids:
            if pid != program:
                _kill_and_reap(pid)
        await asyncio.sleep(0.005)


def _kill_and_reap(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signal.SIGKILL)
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


def _children() -> list[int]:
    """The pids whose parent is this process. Read from every process's stat: `children` files are not always built."""
    own = os.getpid()
    found = []
    for place in Path("/proc").iterdir():
        if not place.name.isdigit():
            continue
        try:
            stat = (place / "stat").read_bytes()
        except OSError:
            continue  # it ended meanwhile
        # The name in parentheses may hold anything; state and parent follow its last one.
        if int(stat[stat.rindex(b")") + 2 :].split()[1]) == own:
            found.append(int(place.name))
    return found
