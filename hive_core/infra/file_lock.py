"""Locks (flock) on the state directory, repositories and containers, which child processes inherit.

A git process that a killed daemon left behind may still be about to write. What it has locked must not be taken for
the remains of a dead one; with this lock the kernel says whether any is alive.

A daemon that was killed may leave `nixos-container` or `nix-env` behind, still at work. With this lock the kernel says
whether any is alive, and the next daemon waits for it instead of taking its half-done work for leftovers.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from hive_core.errors import HiveError


class StateLock:
    """Holds a state directory for this process. The kernel lets go of it when the process ends, however it ends."""

    def __init__(self, path: Path) -> None:
        """Take the lock; raises HiveError `state_in_use` if another daemon has it."""
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(self._descriptor, 32, 0).decode(errors="replace").strip() or "unknown"
            os.close(self._descriptor)
            raise HiveError(
                "state_in_use",
                f"another hive-c0re (process {holder}) is using {path.parent}",
                hint="stop it first, or give this one another --state-dir",
            ) from None
        os.truncate(self._descriptor, 0)
        os.pwrite(self._descriptor, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Let go of the directory."""
        os.close(self._descriptor)


_REPOSITORY_LOCK = "hive.lock"
_PAUSE = 0.02


@contextmanager
def shared_repository_lock(repository: Path, seconds: float = 30.0) -> Iterator[int]:
    """Be one of those who write; gives a descriptor that each git process started meanwhile must keep open.

    Waits while refs are being repaired. Raises HiveError `repository_busy`.
    """
    yield from _repository_lock(repository, fcntl.LOCK_SH, seconds)


@contextmanager
def exclusive_repository_lock(repository: Path, seconds: float = 30.0) -> Iterator[int]:
    """Wait until nobody else writes, and keep others out. Raises HiveError `repository_busy` after `seconds`."""
    yield from _repository_lock(repository, fcntl.LOCK_EX, seconds)


def _repository_lock(repository: Path, how: int, seconds: float) -> Iterator[int]:
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(repository / _REPOSITORY_LOCK, flags, 0o600)
    try:
        _take_repository_lock(descriptor, how, time.monotonic() + seconds, repository)
        yield descriptor
    finally:
        os.close(descriptor)


def _take_repository_lock(descriptor: int, how: int, deadline: float, repository: Path) -> None:
    while True:
        try:
            fcntl.flock(descriptor, how | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() >= deadline:
                why = f"a git process is still writing {repository.name}"
                raise HiveError("repository_busy", why, hint="see what it does, and try again", status=503) from None
        time.sleep(_PAUSE)


@asynccontextmanager
async def container_lock(directory: Path, container: str, seconds: float = 180.0) -> AsyncIterator[int]:
    """Be the only one who works on the container; gives a descriptor that every program started for that must keep
    open. Raises HiveError `container_busy` after `seconds`, `container_not_prepared`.
    """
    descriptor = await asyncio.to_thread(_open_container_lock, directory, container)
    try:
        await _take_container_lock(descriptor, container, seconds)
        yield descriptor
    finally:
        os.close(descriptor)


def _open_container_lock(directory: Path, container: str) -> int:
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


async def _take_container_lock(descriptor: int, container: str, seconds: float) -> None:
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
