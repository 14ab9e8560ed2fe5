"""Lack of space on a disk: recognition of its errors, trials whether there is room, and the error that callers get.

A full file system (ENOSPC), a quota (EDQUOT) and a limit of file sizes (EFBIG) are the same to the daemon: nothing can
be written now, what is stored stays as it is, and a later attempt may succeed.
"""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hive_core.errors import HiveError
from hive_core.infra.concurrency.threads import UPKEEP

_NUMBERS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_WORDS = ("No space left on device", "Disk quota exceeded", "File too large")
"""The words of strerror(3) for these numbers, in the locale C."""
_SQLITE_FULL = 13
"""SQLITE_FULL, which SQLite makes of ENOSPC. Its codes for the others are ambiguous: see `database/failures.py`."""


def is_lack_of_space(error: BaseException) -> bool:
    """Return True for an error, of whatever library, that says that a file system, quota or file size limit is full."""
    if isinstance(error, HiveError):
        return error.code == "disk_full"
    if isinstance(error, shutil.Error):  # It has only the words of the errors that it collects.
        return reports_lack_of_space(str(error))
    if isinstance(error, OSError):
        return error.errno in _NUMBERS
    return getattr(error, "sqlite_errorcode", None) == _SQLITE_FULL


def reports_lack_of_space(output: str, status: int = 0) -> bool:
    """Return True if the output of a program in the locale C, or its end (minus a signal), says the same."""
    return status == -signal.SIGXFSZ or any(words in output for words in _WORDS)


def disk_full(action: str) -> HiveError:
    """Return the error for an action that a full disk prevented, such as "store an object"."""
    return full_disk(f"cannot {action}: no space left on the disk")


def full_disk(message: str) -> HiveError:
    """Return the error for a full disk, with a message of its own."""
    hint = "free space on the disk that holds the state directory, or raise its quota or the limit of file sizes"
    return HiveError("disk_full", message, hint=hint, status=507)


TRIAL = "tmp_obj_room"
"""Prefix of the files of `has_room`, which a kill can leave. In a git repository they look like unfinished objects."""
_TRIAL_BYTES = 64 * 1024


def has_room(directory: Path, reach: int = 0) -> bool:
    """Return False if a small file cannot be written in `directory` for lack of space. The file is removed again.

    `reach` is the size of the largest file there that is written, for limits of file sizes. Neither these nor quotas
    are in what statvfs(2) says, so only a trial shows all of them.
    """
    try:
        descriptor, path = tempfile.mkstemp(prefix=TRIAL, dir=directory)
        try:
            os.unlink(path)  # noqa: PTH108 - `path` is a text
            # Random, because some file systems compress; on the disk, because some report a quota only then.
            written = os.pwrite(descriptor, os.urandom(_TRIAL_BYTES), 0)
            if reach:
                written = min(written, os.pwrite(descriptor, os.urandom(_TRIAL_BYTES), reach))
            os.fsync(descriptor)
            return written == _TRIAL_BYTES
        finally:
            os.close(descriptor)
    except OSError as error:
        return not is_lack_of_space(error)


_POLL_SECONDS = 0.5


class RoomWatch:
    """Waits until a file can be written in a directory again; any number of callers share the trials."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._polling: asyncio.Task[None] | None = None

    async def wait(self) -> None:
        """Return when there is room, at once if there is some now."""
        if self._polling is None or self._polling.done():
            self._polling = asyncio.create_task(self._poll(), name="wait for room on the disk")
        await asyncio.shield(self._polling)

    async def close(self) -> None:
        """End the trials."""
        if self._polling is not None:
            self._polling.cancel()
            await asyncio.wait([self._polling])

    async def _poll(self) -> None:
        # Nothing tells of space that was freed.
        while not await UPKEEP.run(has_room, self._directory):  # noqa: ASYNC110
            await asyncio.sleep(_POLL_SECONDS)


@contextmanager
def disk_full_as_error(action: str) -> Iterator[None]:
    """Raise HiveError `disk_full` instead of the OSError of a full disk."""
    try:
        yield
    except OSError as error:
        if is_lack_of_space(error):
            raise disk_full(action) from None
        raise
