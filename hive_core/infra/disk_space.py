"""Lack of space on a disk: recognition of its errors, and the error that callers get.

A full file system (ENOSPC), a quota (EDQUOT) and a limit of file sizes (EFBIG) are the same to the daemon: nothing can
be written now, what is stored stays as it is, and a later attempt may succeed.
"""

from __future__ import annotations

import errno
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager

from hive_core.errors import HiveError

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
    """Return the error for a full disk."""
    hint = "free space on the disk that holds the state directory, or raise its quota"
    return HiveError("disk_full", f"cannot {action}: no space left on the disk", hint=hint, status=507)


@contextmanager
def disk_full_as_error(action: str) -> Iterator[None]:
    """Raise HiveError `disk_full` instead of the OSError of a full disk."""
    try:
        yield
    except OSError as error:
        if is_lack_of_space(error):
            raise disk_full(action) from None
        raise
