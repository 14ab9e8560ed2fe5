"""Classification of SQLite's failures: which of them are a full disk, and what callers are told.

SQLite reports ENOSPC as SQLITE_FULL, and every other error of a write, also EDQUOT and EFBIG, as SQLITE_IOERR_WRITE and
the like, as it reports a broken disk. A write beside the database tells these apart.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from hive_core.errors import HiveError
from hive_core.infra.storage.disk_space import full_disk, has_room, is_lack_of_space

_WRITE_FAILURES = frozenset(
    {
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_IOERR_CLOSE,
        sqlite3.SQLITE_IOERR_DIR_FSYNC,
        sqlite3.SQLITE_IOERR_FSYNC,
        sqlite3.SQLITE_IOERR_SHMMAP,
        sqlite3.SQLITE_IOERR_SHMOPEN,
        sqlite3.SQLITE_IOERR_SHMSIZE,
        sqlite3.SQLITE_IOERR_TRUNCATE,
        sqlite3.SQLITE_IOERR_WRITE,
    }
)
"""SQLite's codes for a failed write whose error number is not told."""


def disk_full() -> HiveError:
    """Return the error for an operation that was not stored for lack of space."""
    return full_disk("the disk is full: nothing was stored")


def temporary_error(error: BaseException) -> HiveError | None:
    """Return the error for a failure that left the database unchanged and may be temporary; None for any other."""
    if isinstance(error, HiveError):
        return error
    if is_lack_of_space(error):
        return disk_full()
    if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_BUSY:
        hint = "close any other program that has the daemon's database open, then try again"
        return HiveError("database_busy", "another program holds the database's lock", hint=hint, status=503)
    return None


def is_write_failure(error: BaseException) -> bool:
    """Return True if `lacks_space` must be asked whether the error is a full disk."""
    return getattr(error, "sqlite_errorcode", None) in _WRITE_FAILURES  # Errors of Python's own module have no code.


def lacks_space(database: Path) -> bool:
    """Return True if nothing can be written beside the database, or not as far into a file as it reaches, now."""
    reach = max(_size(database.with_name(database.name + suffix)) for suffix in ("", "-wal"))
    return not has_room(database.parent, reach)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
