"""Opening and checking the database file, and whole operations on SQLite's thread."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar, cast

import aiosqlite

from hive_core.errors import HiveError
from hive_core.infra.database.migrations import migrate

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

    Raises HiveError `database_damaged`, `database_unusable` or `schema_too_new`.
    """
    try:
        return await SqliteConnection.open(lambda: _connect_for_writing(path))
    except sqlite3.OperationalError as error:
        raise _unusable(path, error) from None
    except sqlite3.DatabaseError as error:
        raise _damaged(path, str(error)) from None


async def open_for_reading(path: Path) -> SqliteConnection:
    """Open a connection that reads what is committed. Raises HiveError `database_unusable`."""
    try:
        return await SqliteConnection.open(lambda: _connect_for_reading(path))
    except sqlite3.OperationalError as error:
        raise _unusable(path, error) from None


def _connect_for_writing(path: Path) -> sqlite3.Connection:
    # On SQLite's thread, so that the check of a large file does not block the event loop.
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        path.chmod(0o600)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        problems = [row[0] for row in connection.execute("PRAGMA quick_check(5)")]
        if problems != ["ok"]:
            raise _damaged(path, "; ".join(problems))
        migrate(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _connect_for_reading(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA query_only = ON")
    return connection


def _unusable(path: Path, error: sqlite3.Error) -> HiveError:
    return HiveError("database_unusable", f"cannot open {path}: {error}", hint="see whether the daemon may write there")


def _damaged(path: Path, why: str) -> HiveError:
    return HiveError(
        "database_damaged",
        f"{path} is damaged: {why}",
        hint=f"keep a copy, then restore a backup or try: sqlite3 {path.name} .recover | sqlite3 recovered.sqlite",
    )
