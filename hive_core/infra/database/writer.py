"""The single writer with group commit: operations that arrive during a commit share the next one.

A durable commit costs about the same for one operation as for a hundred, so throughput grows with the load while each
operation still waits until its own data is on disk.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from hive_core.errors import HiveError
from hive_core.infra.database.connection import Operation, SqliteConnection
from hive_core.infra.database.failures import disk_full, is_write_failure, lacks_space, temporary_error
from hive_core.infra.storage.disk_space import is_lack_of_space

T = TypeVar("T")
Outcome = tuple[Any, BaseException | None]
Batch = list[tuple[Operation[Any], asyncio.Future[Any]]]

_ATTEMPTS = 3
"""Attempts of a transaction whose writes fail although there is room."""
TEMPORARY_ERRORS = frozenset({"disk_full", "database_busy"})
"""Error codes after which the database is unchanged, and a later attempt may succeed."""

_OPERATION_ERRORS = (sqlite3.IntegrityError, sqlite3.DataError, sqlite3.ProgrammingError, sqlite3.InterfaceError)
"""SQLite's errors that one operation causes. All its other errors concern the file or the disk."""


class Writer:
    """The only writer of the database.

    Operations run one after another on SQLite's thread, each in its own savepoint: one that raises changes nothing and
    does not affect the others. Results are returned after the commit.

    An operation may run again after a rollback, so it must depend on nothing but the connection.
    """

    def __init__(self, connection: SqliteConnection, on_commit: Callable[[int], None] = lambda _: None) -> None:
        """`on_commit` is called after each commit with the number of its operations."""
        self._connection = connection
        self._on_commit = on_commit
        self._waiting: Batch = []
        self._work = asyncio.Event()
        self._closed = False

    def submit(self, operation: Operation[T]) -> asyncio.Future[T]:
        """Queue `operation`; the future gets its result when it is on disk. Operations keep their order."""
        if self._closed:
            raise _stopping()
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._waiting.append((operation, future))
        self._work.set()
        return future

    async def write(self, operation: Operation[T]) -> T:
        """Run `operation` and return its result. It is executed even if the caller is cancelled meanwhile."""
        return await self.submit(operation)

    async def run(self) -> None:
        """Commit until closed. Returns when everything submitted is on disk; raises if SQLite fails permanently."""
        try:
            while not (self._closed and not self._waiting):
                await self._work.wait()
                self._work.clear()
                while self._waiting:
                    batch, self._waiting = self._waiting, []
                    await self._commit(batch)
        finally:
            # After a failure, no caller may wait for a writer that has ended.
            self._closed = True
            left, self._waiting = self._waiting, []
            _settle(left, [(None, _stopping())] * len(left))

    def close(self) -> None:
        """Refuse further operations; `run` returns after the queued ones."""
        self._closed = True
        self._work.set()

    async def _commit(self, batch: Batch) -> None:
        operations = [operation for operation, _ in batch]
        outcomes: list[Outcome] = []
        try:
            await self._connection.run(lambda connection: _execute(connection, operations, outcomes))
        except BaseException as error:
            refusal, done = temporary_error(error), list(outcomes)
            left = refusal or HiveError(
                "storage_failed", f"the database failed: {error}", hint="see the daemon's log", status=503
            )
            _settle(batch, done + [(None, left)] * (len(batch) - len(done)))
            if refusal is None:
                raise
        else:
            _settle(batch, outcomes)
            self._on_commit(len(batch))


def _execute(connection: sqlite3.Connection, operations: list[Operation[Any]], outcomes: list[Outcome]) -> None:
    """Run `operations` and append the outcome of each to `outcomes` as soon as it is on disk."""
    try:
        outcomes += _with_room(connection, operations)
        return
    except HiveError:
        if len(operations) == 1:
            raise
    # One by one: an operation that needs little space, or frees some, must not fail because another needs much.
    for operation in operations:
        try:
            outcomes += _with_room(connection, [operation], known_full=True)
        except HiveError as refusal:
            outcomes.append((None, refusal))


def _with_room(
    connection: sqlite3.Connection, operations: list[Operation[Any]], *, known_full: bool = False
) -> list[Outcome]:
    """Run `operations` in one transaction. Raises HiveError `disk_full` if they were not stored for lack of space.

    A write that failed although there is room now is repeated: another program may have made the room meanwhile. With
    `known_full`, any failed write counts as a lack of space.
    """
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            return _in_one_transaction(connection, operations)
        except sqlite3.OperationalError as error:
            if is_lack_of_space(error):
                raise disk_full() from error
            if not is_write_failure(error):
                raise
            if known_full or lacks_space(_path(connection)):
                raise disk_full() from error
            if attempt == _ATTEMPTS:
                raise
    raise AssertionError("unreachable")


def _path(connection: sqlite3.Connection) -> Path:
    return Path(connection.execute("PRAGMA database_list").fetchone()[2])


def _in_one_transaction(connection: sqlite3.Connection, operations: list[Operation[Any]]) -> list[Outcome]:
    outcomes: list[Outcome] = []
    connection.execute("BEGIN IMMEDIATE")
    try:
        for operation in operations:
            connection.execute("SAVEPOINT operation")
            try:
                outcomes.append((operation(connection), None))
            except Exception as error:
                if isinstance(error, sqlite3.Error) and not isinstance(error, _OPERATION_ERRORS):
                    raise
                connection.execute("ROLLBACK TO operation")
                outcomes.append((None, error))
            connection.execute("RELEASE operation")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return outcomes


def _settle(batch: Batch, outcomes: list[Outcome]) -> None:
    for (_, future), (result, error) in zip(batch, outcomes, strict=True):
        if future.done():
            continue  # The caller was cancelled; the operation was executed nevertheless.
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)


def _stopping() -> HiveError:
    return HiveError("stopping", "the daemon is stopping", hint="try again when it is back", status=503)
