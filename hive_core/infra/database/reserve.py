"""The reserve of disk space that is given up when a change must be stored on a full disk."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import structlog

from hive_core.errors import HiveError
from hive_core.infra.concurrency.threads import LIFECYCLE
from hive_core.infra.database.failures import lacks_space

_log = structlog.get_logger(__name__)

_MOST_BYTES = 8 * 1024 * 1024
_SHARE = 32
"""The reserve is at most this part of a small file system."""
_PAUSE_SECONDS = 5.0
_NOTICE = (
    "The disk that holds the state directory was full, or its quota was used up: messages and proposals were refused "
    "(disk_full).\n"
    "To make room, also while it is full: hive-c0re stop NAME stops an agent that fills it, and hive-c0re destroy "
    "--purge NAME removes all that an agent has. hive-c0re doctor says what is free."
)


class DiskReserve:
    """A file that takes up space until it is removed.

    Removing a file works where nothing else does: on btrfs a quota that is exceeded forbids even to shorten one.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._given_up = False
        """True from a release until the operator was told of it."""

    def make(self) -> bool:
        """Make the file unless it exists; return False if there is no room for twice its size.

        So that the file never takes the space that others need.
        """
        unfinished = self._path.with_name(self._path.name + ".new")
        try:
            if self._path.exists():
                return True
            size = self._size()
            descriptor = os.open(unfinished, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            try:
                os.posix_fallocate(descriptor, 0, 2 * size)
                os.ftruncate(descriptor, size)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            unfinished.rename(self._path)
        except OSError:
            with suppress(OSError):
                unfinished.unlink()
            return False
        return True

    def release(self) -> bool:
        """Remove the file; return False if there was none."""
        try:
            self._path.unlink()
        except OSError:
            return False
        self._given_up = True
        _log.warning("the disk is full: the reserve is given up", path=str(self._path))
        return True

    def release_if_full(self) -> None:
        """Remove the file if nothing else can be written, so that a daemon can start on a full disk."""
        if self._path.exists() and lacks_space(self._path):
            self.release()

    async def run(self, tell: Callable[[str], Awaitable[None]]) -> None:
        """Make the file, at once and again whenever it is missing and there is room, until cancelled.

        `tell` gets a text for the operator when the file was given up; again if it fails with HiveError.
        """
        while True:
            if self._given_up:
                try:
                    await tell(_NOTICE)
                    self._given_up = False
                except HiveError as error:
                    _log.warning("operator not told of the full disk", code=error.code)
            await LIFECYCLE.run(self.make)
            await asyncio.sleep(_PAUSE_SECONDS)

    def _size(self) -> int:
        disk = os.statvfs(self._path.parent)
        blocks = max(disk.f_blocks // _SHARE, 1)
        return min(_MOST_BYTES, blocks * disk.f_frsize)
