"""Limits of what a build writes to the disk in all, beside the limit of each file, which the kernel enforces.

Control groups have no such limit, and a store has no quota, so space is measured again and again: of a build the space
that its own files take; of an evaluation the free space of the store's file system, because the Nix daemon writes for
it, and nothing tells for whom.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hive_core.infra.concurrency.tasks import shield_to_completion
from hive_core.infra.storage.files import open_directory
from hive_core.runtimes.base import BuildFailed

_BLOCK = 512
"""Bytes of a block in st_blocks, whatever the file system: stat(3type)."""
_DEEPEST = 256
"""Directories in directories. Each level takes an open descriptor."""
_SECONDS = 1.0
_PAUSE_FACTOR = 10
"""The pause after a measurement takes so many times as long as it: a tenth of the time at most is spent on this."""


_RESERVE_BYTES = 1024**3
_RESERVE_SHARE = 50
"""A fiftieth of a small file system is enough of a reserve."""
_MIB = 1024**2


@dataclass(frozen=True)
class FreeSpace:
    """The bytes of a file system that every user can use, and its size."""

    available: int
    total: int

    @property
    def reserve(self) -> int:
        """The part that no evaluation may use: 1 GiB, or 2 % of the file system if that is less."""
        return min(_RESERVE_BYTES, self.total // _RESERVE_SHARE)


async def limit_disk(work: Coroutine[Any, Any, None], paths: Iterable[Path], most: int) -> None:
    """Run `work` to its end, or end it when the files below `paths` take more than `most` bytes on the disk.

    Raises BuildFailed in that case. `work` has ended when this returns.
    """
    watched = tuple(paths)

    def check() -> None:
        if used_bytes(watched) > most:
            raise BuildFailed(f"the build writes more than {most // _MIB:,} MiB to the disk")

    await _watch(work, check)


async def limit_store(work: Coroutine[Any, Any, None], store: Path, most: int) -> None:
    """Run `work` to its end, or end it when the file system of `store` has `most` bytes less of free space than at the
    beginning, or less than its reserve.

    Raises BuildFailed in that case, also before the beginning. `work` has ended when this returns. Others write to that
    file system, too: the reason says what was measured.
    """
    try:
        before = await asyncio.to_thread(free_space, store)
        _check_reserve(before, store)
    except BaseException:
        work.close()
        raise

    def check() -> None:
        now = free_space(store)
        shrunk = before.available - now.available
        if shrunk > most:
            raise BuildFailed(
                f"during the evaluation the free space of the file system of {store} has shrunk by "
                f"{shrunk // _MIB:,} MiB, more than the {most // _MIB:,} MiB of nixos.build_disk: the configuration "
                "adds large files to the store, or something else on this host writes there"
            )
        _check_reserve(now, store)

    await _watch(work, check)


def _check_reserve(now: FreeSpace, store: Path) -> None:
    if now.available < now.reserve:
        raise BuildFailed(
            f"the file system of {store} has {now.available // _MIB:,} MiB of free space, and no configuration is "
            f"evaluated with less than {now.reserve // _MIB:,} MiB: make room, such as with nix-collect-garbage"
        )


async def _watch(work: Coroutine[Any, Any, None], check: Callable[[], None]) -> None:
    """Run `work` to its end, or end it when `check`, which is called in a thread again and again, raises an error."""
    task = asyncio.ensure_future(work)
    pause = _SECONDS
    try:
        while True:
            done, _ = await asyncio.wait([task], timeout=pause)
            if done:
                return await task
            started = asyncio.get_running_loop().time()
            await asyncio.to_thread(check)
            pause = max(_SECONDS, _PAUSE_FACTOR * (asyncio.get_running_loop().time() - started))
    finally:
        if not task.done():
            task.cancel()
            await shield_to_completion(_ended(task))


async def _ended(task: asyncio.Task[None] | asyncio.Future[None]) -> None:
    await asyncio.wait([task])


def free_space(path: Path) -> FreeSpace:
    """Measure the file system of a path: statvfs(3)."""
    found = os.statvfs(path)
    return FreeSpace(found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize)


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
