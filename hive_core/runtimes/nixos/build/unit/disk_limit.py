"""Limits of what a build writes to the disk in all, beside the limit of each file, which the kernel enforces.

Control groups have no such limit, and a store has no quota, so space is measured again and again: of a build the space
that its own files take; of an evaluation the free space of the store's file system, because the Nix daemon writes for
it, and nothing tells for whom.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from pathlib import Path
from typing import Any

from hive_core.infra.concurrency.tasks import shield_to_completion
from hive_core.runtimes.base import BuildFailed
from hive_core.runtimes.checks.disk_use import DEEPEST, FreeSpace, NestedTooDeep, free_space, used_bytes
from hive_core.runtimes.checks.unnamed_files import MOST_OPEN, TooManyOpenFiles

_SECONDS = 1.0
_PAUSE_FACTOR = 10
"""The pause after a measurement takes so many times as long as it: a tenth of the time at most is spent on this."""
_MIB = 1024**2


async def limit_disk(
    work: Coroutine[Any, Any, None], paths: Iterable[Path], most: int, deleted: Callable[[], int] = lambda: 0
) -> None:
    """Run `work` to its end, or end it when the files below `paths` take more than `most` bytes on the disk.

    `deleted` returns the bytes of files that no directory names any more, and may block. Raises BuildFailed in that
    case. `work` has ended when this returns.
    """
    watched = tuple(paths)

    def check() -> None:
        try:
            used = deleted() + used_bytes(watched)
        except TooManyOpenFiles:
            raise BuildFailed(f"the build has more than {MOST_OPEN:,} files open") from None
        except NestedTooDeep:
            raise BuildFailed(f"the build writes more than {DEEPEST} directories in one another") from None
        if used > most:
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
