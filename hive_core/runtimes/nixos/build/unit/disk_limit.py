"""A limit of what a build writes to the disk in all, beside the limit of each file, which the kernel enforces.

Control groups have no such limit, and a store has no quota, so the used space is measured again and again.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Coroutine, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from hive_core.infra.files import open_directory
from hive_core.infra.tasks import shield_to_completion
from hive_core.runtimes.base import BuildFailed

_BLOCK = 512
"""Bytes of a block in st_blocks, whatever the file system: stat(3type)."""
_DEEPEST = 256
"""Directories in directories. Each level takes an open descriptor."""
_SECONDS = 1.0
_PAUSE_FACTOR = 10
"""The pause after a measurement takes so many times as long as it: a tenth of the time at most is spent on this."""


async def limit_disk(work: Coroutine[Any, Any, None], paths: Iterable[Path], most: int) -> None:
    """Run `work` to its end, or end it when the files below `paths` take more than `most` bytes on the disk.

    Raises BuildFailed in that case. `work` has ended when this returns.
    """
    watched = tuple(paths)
    task = asyncio.ensure_future(work)
    pause = _SECONDS
    try:
        while True:
            done, _ = await asyncio.wait([task], timeout=pause)
            if done:
                return await task
            started = asyncio.get_running_loop().time()
            used = await asyncio.to_thread(used_bytes, watched)
            if used > most:
                raise BuildFailed(f"the build writes more than {most // 1024**2:,} MiB to the disk")
            pause = max(_SECONDS, _PAUSE_FACTOR * (asyncio.get_running_loop().time() - started))
    finally:
        if not task.done():
            task.cancel()
            await shield_to_completion(_ended(task))


async def _ended(task: asyncio.Task[None] | asyncio.Future[None]) -> None:
    await asyncio.wait([task])


def used_bytes(paths: Iterable[Path]) -> int:
    """Return the space that files and directories take on the disk. Follows no links: builders write there. Blocks.

    Raises BuildFailed for directories that are nested very deeply.
    """
    used = 0
    for path in paths:
        # A file may be removed meanwhile.
        with suppress(OSError):
            used += path.lstat().st_blocks * _BLOCK
            with open_directory(path) as directory:
                used += _used_below(directory, _DEEPEST)
    return used


def _used_below(directory: int, depth: int) -> int:
    if depth == 0:
        raise BuildFailed(f"the build writes more than {_DEEPEST} directories in one another")
    used = 0
    with os.scandir(directory) as entries:
        for entry in entries:
            with suppress(OSError):
                used += entry.stat(follow_symlinks=False).st_blocks * _BLOCK
                if entry.is_dir(follow_symlinks=False):
                    with open_directory(entry.name, directory) as below:
                        used += _used_below(below, depth - 1)
    return used
