"""Who works on a container now: a lock that the programs which the daemon starts hold too.

A daemon that was killed may leave `nixos-container` or `nix-env` behind, still at work. With this lock the kernel says
whether any is alive, and the next daemon waits for it instead of taking its half-done work for leftovers.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from hive_core.errors import HiveError

_PAUSE = 0.02


@asynccontextmanager
async def claimed(directory: Path, container: str, seconds: float = 180.0) -> AsyncIterator[int]:
    """Be the only one who works on the container; gives a descriptor that every program started for that must keep
    open. Raises HiveError `container_busy` after `seconds`, `container_not_prepared`.
    """
    descriptor = await asyncio.to_thread(_open, directory, container)
    try:
        await _take(descriptor, container, seconds)
        yield descriptor
    finally:
        os.close(descriptor)


def _open(directory: Path, container: str) -> int:
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        return os.open(directory / f"{container}.lock", flags, 0o600)
    except OSError as error:
        raise HiveError(
            "container_not_prepared",
            f"cannot lock the container {container} in {directory}: {os.strerror(error.errno or 0)}",
            hint="see whether the daemon may write there",
            status=500,
        ) from None


async def _take(descriptor: int, container: str, seconds: float) -> None:
    deadline = asyncio.get_running_loop().time() + seconds
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if asyncio.get_running_loop().time() >= deadline:
                raise HiveError(
                    "container_busy",
                    f"a program is still at work on the container {container}",
                    hint="see what nixos-container or nix-env is doing (ps), and try again",
                    status=503,
                ) from None
        await asyncio.sleep(_PAUSE)
