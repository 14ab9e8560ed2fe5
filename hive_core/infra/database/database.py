"""The daemon's database: reads, writes and timestamps."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TypeVar

from hive_core.errors import HiveError
from hive_core.infra.concurrency.threads import LIFECYCLE
from hive_core.infra.database.connection import Operation, SqliteConnection, open_for_reading, open_for_writing
from hive_core.infra.database.reserve import DiskReserve
from hive_core.infra.database.writer import TEMPORARY_ERRORS, Writer
from hive_core.infra.storage.disk_space import is_lack_of_space

__all__ = ["TEMPORARY_ERRORS", "Database", "Operation"]

T = TypeVar("T")


class Database:
    """Reads and writes of one database file. Writes proceed only while `run` is running."""

    def __init__(
        self,
        writing: SqliteConnection,
        reading: SqliteConnection,
        scanning: SqliteConnection,
        on_commit: Callable[[int], None],
        reserve: DiskReserve | None,
    ) -> None:
        self._reserve = reserve
        self._writing = writing
        self._reading = reading
        self._scanning = scanning
        self.committed: list[Callable[[], None]] = []
        """Called after each commit."""
        self._writer = Writer(writing, partial(self._committed, on_commit))
        self.submit = self._writer.submit
        self.write = self._writer.write
        self.run = self._writer.run

    @classmethod
    async def open(
        cls, path: Path, on_commit: Callable[[int], None] = lambda _: None, reserve: DiskReserve | None = None
    ) -> Database:
        """Open `path` and create it if it does not exist. Raises HiveError if it is damaged, too new or unusable.

        `reserve` is given up if the disk is full, for the opening and for `write_urgently`.
        """
        try:
            return await cls._open(path, on_commit, reserve)
        except HiveError as error:
            if not is_lack_of_space(error) or reserve is None or not await LIFECYCLE.run(reserve.release):
                raise
        return await cls._open(path, on_commit, reserve)

    @classmethod
    async def _open(cls, path: Path, on_commit: Callable[[int], None], reserve: DiskReserve | None) -> Database:
        opened = [await open_for_writing(path)]
        try:
            opened.append(await open_for_reading(path))
            opened.append(await open_for_reading(path))
        except BaseException:
            for connection in opened:
                await connection.close()  # Otherwise its thread would keep the process alive.
            raise
        writing, reading, scanning = opened
        return cls(writing, reading, scanning, on_commit, reserve)

    async def read(self, operation: Operation[T]) -> T:
        """Run `operation` on the reading connection, which sees only what is committed.

        It must be short, as all reads share the connection; `scan` is for those that are not.
        """
        return await self._reading.run(operation)

    async def scan(self, operation: Operation[T]) -> T:
        """Run `operation`, which may read many rows, as `read` does, on a connection for such reads only."""
        return await self._scanning.run(operation)

    async def write_urgently(self, operation: Operation[T]) -> T:
        """Run `operation` as `write` does; if the disk is full, again after the reserve was given up."""
        try:
            return await self.write(operation)
        except HiveError as error:
            if not is_lack_of_space(error):
                raise
        if self._reserve is not None:
            await LIFECYCLE.run(self._reserve.release)
        return await self.write(partial(_in_little_space, operation))

    async def check(self) -> None:
        """Raise HiveError unless a write can be executed."""
        await self.write(lambda db: db.execute("SELECT 1").fetchone())

    async def alive(self) -> None:
        """Raise HiveError if the writer has ended. A full disk or a lock is not reported: a restart would not help."""
        try:
            await self.check()
        except HiveError as error:
            if error.code not in TEMPORARY_ERRORS:
                raise

    def _committed(self, on_commit: Callable[[int], None], operations: int) -> None:
        on_commit(operations)
        for call in self.committed:
            call()

    def finish(self) -> None:
        """Refuse further writes; `run` returns when the queued ones are on disk."""
        self._writer.close()

    async def close(self) -> None:
        """Close the file. `run` must have returned."""
        await self._scanning.close()
        await self._reading.close()
        await self._writing.close()


def _in_little_space(operation: Operation[T], db: sqlite3.Connection) -> T:
    # Where SQLite overwrites what is deleted, a purge would write as much as the agent's messages take.
    overwrites = db.execute("PRAGMA secure_delete").fetchone()[0]
    db.execute("PRAGMA secure_delete = FAST")
    try:
        return operation(db)
    finally:
        db.execute(f"PRAGMA secure_delete = {'FAST' if overwrites == _FAST else overwrites}")


_FAST = 2
"""The value of `secure_delete` that overwrites only what is written anyway."""


def milliseconds() -> int:
    """Return the current time as the tables store it: milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


_advance = 0
"""The largest difference seen between the host's clock and the time since its boot, in milliseconds."""


def steady_milliseconds() -> int:
    """Return the time as `milliseconds` does, but not less than before if the host's clock is set back.

    Whatever has a time limit is measured with it. It advances with the time since boot, also while the host sleeps.
    """
    global _advance  # noqa: PLW0603 - the host has one clock
    since_boot = time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000
    _advance = max(_advance, milliseconds() - since_boot)
    return since_boot + _advance


def to_datetime(at: int) -> datetime:
    """Convert a time of the tables to the protocol's form."""
    return datetime.fromtimestamp(at / 1_000, UTC)
