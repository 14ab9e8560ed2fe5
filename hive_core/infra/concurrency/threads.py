"""Threads for blocking work, in pools of their own for each kind of work.

Work of one kind never waits for work of another: a diff that takes seconds delays no start of an agent. asyncio's own
pool is left to builds and the intake of commits, which limit themselves; `tests/unit/project` has the list of the
modules that may use it.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class Threads:
    """A pool of threads, which are created when they are first needed and live as long as the process."""

    def __init__(self, name: str, most: int, nice: int = 0) -> None:
        """`nice` is the niceness of the threads, where this process may choose it."""
        self._pool = ThreadPoolExecutor(most, thread_name_prefix=name, initializer=_be, initargs=(nice,))

    async def run(self, function: Callable[P, T], /, *arguments: P.args, **named: P.kwargs) -> T:
        """Call a function that blocks. A caller that is cancelled does not end the call."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, partial(function, *arguments, **named))


def _be(nice: int) -> None:
    """Set the niceness of this thread, which on Linux each thread has of its own (setpriority(2))."""
    if nice:
        with suppress(PermissionError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), nice)


LIFECYCLE = Threads("lifecycle", 8)
"""Start, stop, activation, deployment and removal of agents."""
GATE = Threads("gate", 8)
"""Tags and refs of the applied repositories: the steps of proposals. Every call is short."""
READS = Threads("reads", 6)
"""Reads of which one can take seconds: diffs, verification, a new index. Callers limit their number."""
UPKEEP = Threads("upkeep", 2)
"""Packing of repositories, which can take minutes and for which nobody waits."""
LOGS = Threads("logs", 4)
"""Lines of logs, written and read. Every call is short."""
CREDENTIALS = Threads("credentials", 2)
"""Encryption of credentials and their files. Every call is short."""
CHECKS = Threads("checks", 2)
"""Files for checks of proposed work, written, measured and removed, of which there may be very many."""
TASK_COUNTS = Threads("task counts", 1, nice=-15)
"""Tasks of checks of proposed work, counted before a fork bomb has all processors."""
MEASURES = Threads("measures", 2)
"""Memory and tasks of checks of proposed work. Every call is short, so that none grows unseen."""
REPOSITORIES = Threads("repositories", 6)
"""Mirrors of the operator's repositories. Callers limit the number of transfers."""
PASSWORDS = Threads("passwords", 2)
"""Hashes of passwords, each of which takes a processor for a moment, and memory. Callers limit how many wait."""
