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
from typing import Literal

from hive_core.errors import HiveError
from hive_core.infra.concurrency.threads import LIFECYCLE
from hive_core.infra.storage.disk_space import disk_full_as_error
from hive_core.layout import Layout

_OPTIONS = {"state_in_use": "--state-dir", "run_dir_in_use": "--run-dir"}


class DaemonLock:
    """The daemon's lock on one of its directories, which the kernel releases when the process ends.

    The first line of the file names the process that holds it, and in the run directory also the state directory. In
    the state directory the second line is the run directory.
    """

    def __init__(self, path: Path, code: Literal["state_in_use", "run_dir_in_use"], layout: Layout) -> None:
        """Take the lock.

        Raises HiveError with `code` if another daemon holds it, and `disk_full`, `no_directory`.
        """
        try:
            with disk_full_as_error(f"make {path}"):
                self._descriptor = _open(path)
        except OSError as error:
            raise HiveError(
                "no_directory",
                f"cannot lock {path}: {os.strerror(error.errno or 0)}",
                hint=f"choose another {_OPTIONS[code]}, or start the daemon as root",
            ) from None
        _check_free(self._descriptor, path, code)
        with suppress(OSError):  # On a full disk, the next daemon that is refused reads an unknown holder.
            os.truncate(self._descriptor, 0)
            pid, is_state = os.getpid(), code == "state_in_use"
            holder = f"{pid}\n{layout.run_dir}\n" if is_state else f"{pid} of {layout.state_dir}\n"
            os.pwrite(self._descriptor, os.fsencode(holder), 0)

    def release(self) -> None:
        """Release the lock."""
        os.close(self._descriptor)


def lock_state(layout: Layout) -> DaemonLock:
    """Lock the state directory. Raises HiveError `state_in_use`."""
    return DaemonLock(layout.lock, "state_in_use", layout)


def lock_run_dir(layout: Layout) -> DaemonLock:
    """Lock the run directory, which two state directories could share. Raises HiveError `run_dir_in_use`."""
    return DaemonLock(layout.run_lock, "run_dir_in_use", layout)


def check_unlocked(layout: Layout) -> None:
    """Raise HiveError `state_in_use` or `run_dir_in_use` if a daemon holds one of the locks. Nothing is changed."""
    _check_unlocked(layout.lock, "state_in_use")
    _check_unlocked(layout.run_lock, "run_dir_in_use")


def check_state_unlocked(layout: Layout) -> None:
    """Raise HiveError `state_in_use` if a daemon holds the lock of the state directory. Nothing is changed."""
    _check_unlocked(layout.lock, "state_in_use")


def find_daemon(layout: Layout) -> Path | None:
    """Return the run directory of the daemon that holds the lock of the state directory; None if there is none."""
    try:
        descriptor = os.open(layout.lock, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        run_dir = "" if _try_lock(descriptor) else _lines(descriptor)[1]
        return Path(run_dir) if run_dir else None
    finally:
        os.close(descriptor)


def _lines(descriptor: int) -> tuple[str, str]:
    """Return the two lines of a lock file; they may be empty."""
    first, _, rest = os.fsdecode(os.pread(descriptor, 8_192, 0)).partition("\n")
    return first.strip(), rest.removesuffix("\n")


def _check_unlocked(path: Path, code: Literal["state_in_use", "run_dir_in_use"]) -> None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return
    _check_free(descriptor, path, code)
    os.close(descriptor)


def _check_free(descriptor: int, path: Path, code: Literal["state_in_use", "run_dir_in_use"]) -> None:
    """Lock a descriptor; close it and raise HiveError with `code` if that is not possible."""
    if not _try_lock(descriptor):
        holder = _lines(descriptor)[0] or "unknown"
        os.close(descriptor)
        why = f"another hive-c0re (process {holder}) is using {path.parent}"
        hint = f"stop it first, or choose another {_OPTIONS[code]}"
        if code == "run_dir_in_use":
            raise HiveError("run_dir_in_use", why, hint=hint)
        raise HiveError("state_in_use", why, hint=hint)


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
