"""Who writes a repository's refs now: a lock that git's processes hold too, so that it outlives a killed daemon.

A git process that a killed daemon left behind may still be about to write. What it has locked must not be taken for
the remains of a dead one; with this lock the kernel says whether any is alive.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hive_core.errors import HiveError

_FILE = "hive.lock"
_PAUSE = 0.02


@contextmanager
def writing(repository: Path, seconds: float = 30.0) -> Iterator[int]:
    """Be one of those who write; gives a descriptor that each git process started meanwhile must keep open.

    Waits while refs are being repaired. Raises HiveError `repository_busy`.
    """
    yield from _locked(repository, fcntl.LOCK_SH, seconds)


@contextmanager
def alone(repository: Path, seconds: float = 30.0) -> Iterator[int]:
    """Wait until nobody else writes, and keep others out. Raises HiveError `repository_busy` after `seconds`."""
    yield from _locked(repository, fcntl.LOCK_EX, seconds)


def _locked(repository: Path, how: int, seconds: float) -> Iterator[int]:
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(repository / _FILE, flags, 0o600)
    try:
        _take(descriptor, how, time.monotonic() + seconds, repository)
        yield descriptor
    finally:
        os.close(descriptor)


def _take(descriptor: int, how: int, deadline: float, repository: Path) -> None:
    while True:
        try:
            fcntl.flock(descriptor, how | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() >= deadline:
                why = f"a git process is still writing {repository.name}"
                raise HiveError("repository_busy", why, hint="see what it does, and try again", status=503) from None
        time.sleep(_PAUSE)
