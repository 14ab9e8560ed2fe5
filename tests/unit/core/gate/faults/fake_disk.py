"""A disk that is full from some step of the gate on, until there is room again."""

from __future__ import annotations

import asyncio
import errno
import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

from hive_core.errors import HiveError
from hive_core.gate.records import transitions
from hive_core.gate.subject import background
from hive_core.infra.git import objects, refs
from hive_core.infra.git.command import GitResult
from hive_core.infra.storage import disk_space
from tests.unit.core.gate.gate_hive import PATIENCE, GateHive


class FakeDisk:
    """Becomes full at the crash point number `at`, counted from 1; 0 is the beginning, and None never.

    What is written in the directory of the hive fails then, as do git and the database. `reached` are the names of the
    crash points so far.
    """

    def __init__(self, at: int | None) -> None:
        self.full = at == 0
        self.reached: list[str] = []
        self.waited_for = asyncio.Event()
        """Set when work in the background waits for room."""
        self._at = at
        self._lock = threading.Lock()
        self._next_step: Callable[[str], None] = lambda _: None
        self._loop = asyncio.get_running_loop()

    def free(self) -> None:
        """Let there be room from now on."""
        self._at = None
        self.full = False

    @contextmanager
    def under(self, gate_hive: GateHive) -> Iterator[None]:
        """Let the hive use this disk."""
        database, wait = gate_hive.database, disk_space.RoomWatch.wait

        async def waits(watch: disk_space.RoomWatch) -> None:
            self.waited_for.set()
            await wait(watch)

        def refs_not_written(repository: Path, feed: bytes) -> GitResult:
            return (
                GitResult(128, b"", "fatal: Unable to create 'refs.lock'") if self.full else run_git(repository, feed)
            )

        def submit(operation: Any) -> asyncio.Future[Any]:
            if not self.full:
                return submitted(operation)
            future: asyncio.Future[Any] = self._loop.create_future()
            future.set_exception(HiveError("disk_full", "the disk is full: nothing was stored", status=507))
            return future

        async def write(operation: Any) -> Any:
            return await submit(operation)

        run_git, submitted, self._next_step = refs._run, database.submit, transitions.crash_point
        with ExitStack() as stack:
            for target, name, replacement in (
                (transitions, "crash_point", self._step),
                (disk_space.RoomWatch, "wait", waits),
                (refs, "_run", refs_not_written),
                (database, "submit", submit),
                (database, "write", write),
                (objects, "_temporary", self._failing(objects._temporary)),
                (tempfile, "mkdtemp", self._failing(tempfile.mkdtemp)),
                (tempfile, "mkstemp", self._failing(tempfile.mkstemp)),
                (Path, "mkdir", self._failing(Path.mkdir)),
                (background, "_FIRST_PAUSE", 0.01),
                (disk_space, "_POLL_SECONDS", 0.01),
            ):
                stack.enter_context(patch.object(target, name, replacement))
            yield

    def _step(self, name: str) -> None:
        with self._lock:  # Threads reach crash points, too.
            self.reached.append(name)
            if len(self.reached) == self._at:
                self.full = True
        self._next_step(name)

    def _failing(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def called(*arguments: Any, **options: Any) -> Any:
            if self.full:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return function(*arguments, **options)

        return called


async def idle(gate_hive: GateHive) -> None:
    """Wait until nothing goes on in the background."""
    background = gate_hive.gate._context.background
    async with asyncio.timeout(PATIENCE):
        while tasks := list(background._work):
            await asyncio.wait(tasks)
            await asyncio.sleep(0)
