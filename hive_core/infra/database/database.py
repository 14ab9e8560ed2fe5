"""The database: reads and writes for the rest of the daemon; timestamps."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from hive_core.errors import HiveError
from hive_core.infra.database.connection import Operation, SqliteConnection, open_for_reading, open_for_writing
from hive_core.infra.database.writer import PASSING, Writer

__all__ = ["PASSING", "Database", "Operation"]

T = TypeVar("T")


class Database:
    """Reads and writes for the rest of the daemon. `run` must be running for writes to proceed."""

    def __init__(self, writing: SqliteConnection, reading: SqliteConnection, on_commit: Callable[[int], None]) -> None:
        self._writing = writing
        self._reading = reading
        self._writer = Writer(writing, on_commit)
        self.submit = self._writer.submit
        self.write = self._writer.write
        self.run = self._writer.run

    @classmethod
    async def open(cls, path: Path, on_commit: Callable[[int], None] = lambda _: None) -> Database:
        """Open `path`, making it if it is not there; raises HiveError if it is damaged, too new or unusable."""
        writing = await open_for_writing(path)
        try:
            reading = await open_for_reading(path)
        except BaseException:
            await writing.close()  # Or its thread would keep the process alive.
            raise
        return cls(writing, reading, on_commit)

    async def read(self, operation: Operation[T]) -> T:
        """Run `operation` on the reading connection: it sees what is committed."""
        return await self._reading.run(operation)

    async def check(self) -> None:
        """Raise HiveError unless a write would be carried out."""
        await self.write(lambda db: db.execute("SELECT 1").fetchone())

    async def alive(self) -> None:
        """Raise HiveError if the writer is gone; one that refuses for want of room is there, and a restart no cure."""
        try:
            await self.check()
        except HiveError as error:
            if error.code not in PASSING:
                raise

    def finish(self) -> None:
        """Take no more writes; `run` returns when what is queued is on disk."""
        self._writer.close()

    async def close(self) -> None:
        """Close the file. Only after `run` has returned."""
        await self._reading.close()
        await self._writing.close()


def milliseconds() -> int:
    """Now."""
    return time.time_ns() // 1_000_000


def to_datetime(at: int) -> datetime:
    """A time of the tables as the protocol tells it."""
    return datetime.fromtimestamp(at / 1_000, UTC)
