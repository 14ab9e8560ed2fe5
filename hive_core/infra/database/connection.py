"""Opening and checking the database file, and whole operations on SQLite's thread."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import stat
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar, cast
from urllib.parse import quote

import aiosqlite

from hive_core.errors import HiveError
from hive_core.infra.database.failures import is_write_failure, lacks_space
from hive_core.infra.database.migrations import check_version, migrate
from hive_core.infra.storage.disk_space import disk_full, is_lack_of_space
from hive_core.infra.storage.files import filesystem_type

T = TypeVar("T")
Operation = Callable[[sqlite3.Connection], T]


class SqliteConnection(aiosqlite.Connection):
    """An aiosqlite connection that also runs a whole function on its thread.

    With aiosqlite's own methods, each statement of a transaction would cost a switch between threads.
    """

    @classmethod
    async def open(cls, connect: Callable[[], sqlite3.Connection]) -> SqliteConnection:
        """Call `connect` on a new thread, which then serves the connection."""
        connection = cls(connect, iter_chunk_size=64)
        try:
            await connection
        except BaseException:
            # aiosqlite ends the thread after a failure without waiting for it, and the thread still calls the loop.
            await asyncio.to_thread(connection._thread.join)
            raise
        return connection

    async def run(self, operation: Operation[T]) -> T:
        """Call `operation` with the SQLite connection, on the connection's thread."""
        return cast(T, await self._execute(operation, self._conn))  # type: ignore[no-untyped-call]


async def open_for_writing(path: Path) -> SqliteConnection:
    """Open the only writing connection, and check and migrate the file. Its commits return when they are on disk.

    Raises HiveError `database_damaged`, `database_unusable`, `disk_full` or `schema_too_new`.
    """
    try:
        return await SqliteConnection.open(lambda: _connect_for_writing(path))
    except sqlite3.OperationalError as error:
        raise await asyncio.to_thread(unusable, path, error) from None
    except sqlite3.DatabaseError as error:
        raise damaged(path, str(error)) from None


async def open_for_reading(path: Path) -> SqliteConnection:
    """Open a connection that reads what is committed. Raises HiveError `database_unusable`, `disk_full`."""
    try:
        return await SqliteConnection.open(lambda: _connect_for_reading(path))
    except sqlite3.OperationalError as error:
        raise await asyncio.to_thread(unusable, path, error) from None


def _connect_for_writing(path: Path) -> sqlite3.Connection:
    # On SQLite's thread, so that the check of a large file does not block the event loop.
    connection = _connect(path)
    try:
        check_version(connection)  # Before anything is written: a newer program may have chosen another journal.
        if stat.S_IMODE(path.stat().st_mode) != 0o600:  # A change without effect needs space, too.
            path.chmod(0o600)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        problems = [row[0] for row in connection.execute("PRAGMA quick_check(5)")]
        if problems != ["ok"]:
            raise damaged(path, "; ".join(problems))
        migrate(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _connect_for_reading(path: Path) -> sqlite3.Connection:
    connection = _connect(path)
    connection.execute("PRAGMA query_only = ON")
    return connection


_COPY_ON_WRITE = frozenset({"btrfs", "bcachefs"})
"""File systems on which a store into a mapped file needs space, so that it ends the process (SIGBUS) without any."""


def _connect(path: Path) -> sqlite3.Connection:
    # SQLite maps the index of its write-ahead log; with `unix-excl` it is in the process's own memory, and no other
    # process can open the database (https://sqlite.org/vfs.html). All connections must agree on it.
    alone = _needs_space_for_stores(path.parent)
    name = f"file:{quote(str(path))}?vfs={'unix-excl' if alone else 'unix'}"
    return sqlite3.connect(name, uri=True, isolation_level=None, check_same_thread=False)


def _needs_space_for_stores(directory: Path) -> bool:
    kind = filesystem_type(directory)
    # An overlay tells the figures of the file system below it, and btrfs has no number of inodes to tell.
    return kind in _COPY_ON_WRITE or (kind == "overlay" and os.statvfs(directory).f_files == 0)


def unusable(path: Path, error: sqlite3.Error) -> HiveError:
    """Return the error for a file that SQLite cannot open or write."""
    if is_lack_of_space(error) or (is_write_failure(error) and lacks_space(path)):
        return disk_full(f"open {path}")
    return HiveError("database_unusable", f"cannot open {path}: {error}", hint="see whether the daemon may write there")


def damaged(path: Path, why: str) -> HiveError:
    """Return the error for a file whose content is damaged."""
    return HiveError(
        "database_damaged",
        f"{path} is damaged: {why}",
        hint=f"keep a copy, then restore a backup or try: sqlite3 {path.name} .recover | sqlite3 recovered.sqlite",
    )
