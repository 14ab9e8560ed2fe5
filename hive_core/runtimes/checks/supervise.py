"""The supervision of one check: its output, its limits, and its end, whatever it does."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from hive_core.infra.concurrency.tasks import shield_to_completion
from hive_core.infra.concurrency.threads import CHECKS, Threads
from hive_core.infra.processes import LineCutter, readable
from hive_core.runtimes.checks.disk_use import DEEPEST, NestedTooDeep, free_space, used_bytes
from hive_core.runtimes.checks.order import CheckRun, CheckStopped
from hive_core.runtimes.checks.unnamed_files import MOST_OPEN, TooManyOpenFiles
from hive_core.text import visible

_LINE_BYTES = 4_000
_LINE_COST = 64
"""A line counts for at least this many bytes of output, however short it is."""
_CHUNK = 16 * 1024
_BYTES_PER_SECOND = 4 * 1024 * 1024
"""A check that prints faster waits in its own write, so that its output leaves the daemon time for others."""
_COLOUR = re.compile(r"\x1b\[[0-9;]*[mK]")
_CUT = " [...]"
_DISK_SECONDS = 0.5
_PAUSE_FACTOR = 10
"""The pause after a measurement takes so many times as long as it: a tenth of the time at most is spent on this."""
_DRAIN_SECONDS = 5.0
MIB = 1024 * 1024


class SandboxProcess(Protocol):
    """A check that runs. `output` is a non-blocking pipe that has ended when the last process of the check has."""

    output: int

    async def wait(self) -> str:
        """Wait until no process of the check is left; returns how the command ended, "" if it succeeded.

        Raises CheckStopped if a limit of the sandbox has ended it. Only one caller at a time.
        """

    async def end(self) -> None:
        """Kill every process of the check, return when none is left, and release the descriptors."""


async def supervise(
    process: SandboxProcess,
    run: CheckRun,
    say: Callable[[str], None],
    watches: Callable[[asyncio.Event], list[Coroutine[Any, Any, None]]] = lambda _: [],
    *,
    counted: Sequence[Path] | None = None,
    deleted: Callable[[], int] = lambda: 0,
) -> str:
    """Pass the output of a check on to `say` until the check ends; returns the reason of a failure, "" if it passed.

    `watches` are further measurements: each returns when the event is set, or raises CheckStopped. `counted` are the
    directories that count against the limit of the disk, by default that of the run, and `deleted` returns the bytes of
    files that no directory names; it may block. No process of the check is left when this returns, also if it is
    cancelled.
    """
    ended = asyncio.Event()
    output = asyncio.ensure_future(_pass_on(process.output, run.limits.output, say))
    waits = asyncio.ensure_future(_wait(process, ended))
    measured = [
        asyncio.ensure_future(work)
        for work in [_watch_disk(run, counted or [run.directory], deleted, ended), *watches(ended)]
    ]
    try:
        async with asyncio.timeout(run.limits.seconds):
            left: set[asyncio.Future[Any]] = {output, waits, *measured}
            while not waits.done():
                done, left = await asyncio.wait(left, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()  # Raises CheckStopped.
        with suppress(TimeoutError):
            # All that the check has printed is in the pipe already.
            async with asyncio.timeout(_DRAIN_SECONDS):
                await output
        return waits.result()
    except CheckStopped as stopped:
        return str(stopped)
    except TimeoutError:
        return f"it took longer than {run.limits.seconds:g} s"
    finally:
        ended.set()
        for task in (output, waits, *measured):
            task.cancel()
        await shield_to_completion(_end(process, [output, waits, *measured]))


async def _wait(process: SandboxProcess, ended: asyncio.Event) -> str:
    try:
        return await process.wait()
    finally:
        ended.set()


async def _end(process: SandboxProcess, tasks: list[asyncio.Future[Any]]) -> None:
    await asyncio.wait(tasks)
    for task in tasks:
        if not task.cancelled():
            task.exception()  # Was raised already, or comes too late to matter.
    await process.end()


async def _pass_on(descriptor: int, most: int, say: Callable[[str], None]) -> None:
    """Pass the lines of a pipe on until it ends. Raises CheckStopped beyond `most` bytes."""
    cutter, left = LineCutter(_LINE_BYTES), most
    while True:
        await readable(descriptor)
        with suppress(BlockingIOError):
            chunk = os.read(descriptor, _CHUNK)
            if not chunk:
                break
            lines = cutter.feed(chunk)
            cost = max(len(chunk), _LINE_COST * len(lines))
            left -= cost
            if left < 0:
                raise CheckStopped(f"it printed more than {most // MIB:,} MiB")
            for line in lines:
                say(_shown(line))
            await asyncio.sleep(cost / _BYTES_PER_SECOND)
    for line in cutter.finish():
        say(_shown(line))


def _shown(line: bytes) -> str:
    """Return a line as text on which a terminal does not act."""
    text = visible(_COLOUR.sub("", line[:_LINE_BYTES].decode(errors="replace").removesuffix("\r")))
    return text if len(line) <= _LINE_BYTES else text + _CUT


async def _watch_disk(run: CheckRun, counted: Sequence[Path], deleted: Callable[[], int], ended: asyncio.Event) -> None:
    most = run.limits.disk

    def check() -> None:
        try:
            # In this order, so that a file that is deleted meanwhile does not count twice.
            used = deleted() + used_bytes(counted)
        except TooManyOpenFiles:
            raise CheckStopped(f"it had more than {MOST_OPEN:,} files open") from None
        except NestedTooDeep:
            raise CheckStopped(f"it made more than {DEEPEST} directories in one another") from None
        if used > most:
            raise CheckStopped(f"it used more than {most // MIB:,} MiB on the disk")
        free = free_space(run.directory)
        if free.available < free.reserve:
            raise CheckStopped(f"the disk of the hive has less than {free.reserve // MIB:,} MiB left")

    await watch(check, ended, _DISK_SECONDS, CHECKS)


async def watch(check: Callable[[], None], ended: asyncio.Event, seconds: float, threads: Threads) -> None:
    """Call `check` in one of `threads` every `seconds` until the event is set; less often if it takes long."""
    loop = asyncio.get_running_loop()
    pause = seconds
    while not ended.is_set():
        with suppress(TimeoutError):
            async with asyncio.timeout(pause):
                await ended.wait()
                return
        started = loop.time()
        # To its end, as it uses descriptors that are closed when the check has ended.
        await shield_to_completion(threads.run(check))
        pause = max(seconds, _PAUSE_FACTOR * (loop.time() - started))
