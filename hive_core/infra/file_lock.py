"""Locks (flock) on the state directory, repositories and containers, which child processes inherit.

A killed daemon may leave git, `nixos-container` or `nix-env` running. They keep the lock that they inherited, so the
next daemon waits for them instead of treating their unfinished work as leftovers.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

from hive_core.errors import HiveError
from hive_core.infra.concurrency.threads import LIFECYCLE
from hive_core.infra.disk_space import disk_full_as_error


class StateLock:
    """The daemon's lock on its state directory, which the kernel releases when the process ends."""

    def __init__(self, path: Path) -> None:
        """Take the lock. Raises HiveError `state_in_use` if another daemon holds it, `disk_full`, `no_directory`."""
        try:
            with disk_full_as_error(f"make {path}"):
                self._descriptor = _open(path)
        except OSError as error:
            raise HiveError(
                "no_directory",
                f"cannot lock {path}: {os.strerror(error.errno or 0)}",
                hint="choose another --state-dir, or start the daemon as root",
            ) from None
        _check_free(self._descriptor, path)
        with suppress(OSError):  # On a full disk, the next daemon that is refused reads an unknown holder.
            os.truncate(self._descriptor, 0)
            os.pwrite(self._descriptor, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Release the lock."""
        os.close(self._descriptor)


def check_unlocked(path: Path) -> None:
    """Raise HiveError `state_in_use` if a daemon holds the lock of a state directory. Nothing is changed."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return
    _check_free(descriptor, path)
    os.close(descriptor)


def _check_free(descriptor: int, path: Path) -> None:
    """Lock a descriptor; close it and raise `state_in_use` if that is not possible."""
    if not _try_lock(descriptor):
        holder = os.pread(descriptor, 32, 0).decode(errors="replace").strip() or "unknown"
        os.close(descriptor)
        raise HiveError(
            "state_in_use",
            f"another hive-c0re (process {holder}) is using {path.parent}",
            hint="stop it first, or choose another --state-dir",
        )


_REPOSITORY_LOCK = "hive.lock"
_POLL_SECONDS = 0.02


@contextmanager
def shared_repository_lock(repository: Path, seconds: float = 30.0) -> Iterator[int]:
    """Lock a repository for one of several writers, waiting while it is being repaired.

    Yields a descriptor that each git process started in the block must inherit.

    Raises:
        HiveError: `repository_busy` after `seconds`.
    """
    yield from _repository_lock(repository, fcntl.LOCK_SH, seconds)


@contextmanager
def exclusive_repository_lock(repository: Path, seconds: float = 30.0) -> Iterator[int]:
    """Lock a repository against all writers, waiting for them. Raises HiveError `repository_busy` after `seconds`."""
    yield from _repository_lock(repository, fcntl.LOCK_EX, seconds)


def _repository_lock(repository: Path, operation: int, seconds: float) -> Iterator[int]:
    descriptor = _open(repository / _REPOSITORY_LOCK)
    try:
        deadline = time.monotonic() + seconds
        while not _try_lock(descriptor, operation):
            if time.monotonic() >= deadline:
                why = f"a git process is still writing {repository.name}"
                hint = "see what the process does (ps), and try again"
                raise HiveError("repository_busy", why, hint=hint, status=503)
            time.sleep(_POLL_SECONDS)
        yield descriptor
    finally:
        os.close(descriptor)


@asynccontextmanager
async def container_lock(directory: Path, container: str, seconds: float = 180.0) -> AsyncIterator[int]:
    """Lock a container against concurrent changes.

    Yields a descriptor that each program started in the block must inherit.

    Raises:
        HiveError: `container_busy` after `seconds`, `container_not_prepared` if the lock cannot be opened.
    """
    descriptor = await LIFECYCLE.run(_open_container_lock, directory, container)
    try:
        deadline = time.monotonic() + seconds
        while not _try_lock(descriptor):
            if time.monotonic() >= deadline:
                raise HiveError(
                    "container_busy",
                    f"a program is still changing the container {container}",
                    hint="see what nixos-container or nix-env is doing (ps), and try again",
                    status=503,
                )
            await asyncio.sleep(_POLL_SECONDS)
        yield descriptor
    finally:
        os.close(descriptor)


def _open_container_lock(directory: Path, container: str) -> int:
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        return _open(directory / f"{container}.lock")
    except OSError as error:
        raise HiveError(
            "container_not_prepared",
            f"cannot lock the container {container} in {directory}: {os.strerror(error.errno or 0)}",
            hint="see whether the daemon may write there",
            status=500,
        ) from None


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)


def _try_lock(descriptor: int, operation: int = fcntl.LOCK_EX) -> bool:
    """Take a lock without waiting; return False if a conflicting lock is held."""
    try:
        fcntl.flock(descriptor, operation | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
