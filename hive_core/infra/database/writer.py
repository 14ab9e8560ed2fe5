"""Group commit: operations that arrive while a commit is under way share the next one.

A commit that reaches the disk costs about the same for one operation as for a hundred, so the rate grows with the
load while each operation still waits for its own data to be on disk.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from typing import Any, TypeVar

from hive_core.errors import HiveError
from hive_core.infra.database.connection import Operation, SqliteConnection

T = TypeVar("T")
Outcome = tuple[Any, BaseException | None]
Batch = list[tuple[Operation[Any], asyncio.Future[Any]]]

PASSING = frozenset({"disk_full", "database_busy"})
"""Codes of refusals after which the database is as it was, and the same may work at the next try."""

_ITS_OWN = (sqlite3.IntegrityError, sqlite3.DataError, sqlite3.ProgrammingError, sqlite3.InterfaceError)
"""SQLite's refusals of what one operation asks for. All its other errors are of the file or the disk."""


class Writer:
    """The only way to change the database.

    Operations run one after another on SQLite's thread, each in a savepoint of its own: one that raises changes
    nothing and does not disturb its neighbours. Their results are given out after the commit.

    An operation may run again after a rollback, so it must depend on nothing but the connection.
    """

    def __init__(self, connection: SqliteConnection, on_commit: Callable[[int], None] = lambda _: None) -> None:
        """`on_commit` is told how many operations each commit held."""
        self._connection = connection
        self._on_commit = on_commit
        self._waiting: Batch = []
        self._work = asyncio.Event()
        self._closed = False

    def submit(self, operation: Operation[T]) -> asyncio.Future[T]:
        """Queue `operation`; the future holds its result once that is on disk. Submission order is kept."""
        if self._closed:
            raise _stopping()
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._waiting.append((operation, future))
        self._work.set()
        return future

    async def write(self, operation: Operation[T]) -> T:
        """Run `operation` and return its result. It is carried out even if the caller is cancelled meanwhile."""
        return await self.submit(operation)

    async def run(self) -> None:
        """Commit until closed. Returns when everything submitted is on disk; raises if SQLite fails for good."""
        try:
            while not (self._closed and not self._waiting):
                await self._work.wait()
                self._work.clear()
                while self._waiting:
                    batch, self._waiting = self._waiting, []
                    await self._commit(batch)
        finally:
            # After a failure: nobody may wait for a writer that is gone.
            self._closed = True
            left, self._waiting = self._waiting, []
            _settle(left, [(None, _stopping())] * len(left))

    def close(self) -> None:
        """Take nothing new; `run` returns after what is queued."""
        self._closed = True
        self._work.set()

    async def _commit(self, batch: Batch) -> None:
        operations = [operation for operation, _ in batch]
        outcomes: list[Outcome] = []
        try:
            await self._connection.run(lambda connection: _carry_out(connection, operations, outcomes))
        except BaseException as error:
            refusal, done = _passing(error), list(outcomes)
            left = refusal or HiveError(
                "storage_failed", f"the database failed: {error}", hint="see the daemon's log", status=503
            )
            _settle(batch, done + [(None, left)] * (len(batch) - len(done)))
            if refusal is None:
                raise
        else:
            _settle(batch, outcomes)
            self._on_commit(len(batch))


def _carry_out(connection: sqlite3.Connection, operations: list[Operation[Any]], outcomes: list[Outcome]) -> None:
    """Run `operations` and append what came of each to `outcomes`, as soon as it is on disk."""
    try:
        outcomes += _in_one_transaction(connection, operations)
        return
    except sqlite3.OperationalError as error:
        if len(operations) == 1 or getattr(error, "sqlite_errorcode", None) != sqlite3.SQLITE_FULL:
            raise
    # One by one: what needs little room, or makes some, is not to be refused for a neighbour that needs much.
    for operation in operations:
        try:
            outcomes += _in_one_transaction(connection, [operation])
        except sqlite3.OperationalError as error:
            refusal = _passing(error)
            if refusal is None:
                raise
            outcomes.append((None, refusal))


def _in_one_transaction(connection: sqlite3.Connection, operations: list[Operation[Any]]) -> list[Outcome]:
    outcomes: list[Outcome] = []
    connection.execute("BEGIN IMMEDIATE")
    try:
        for operation in operations:
            connection.execute("SAVEPOINT operation")
            try:
                outcomes.append((operation(connection), None))
            except Exception as error:
                if isinstance(error, sqlite3.Error) and not isinstance(error, _ITS_OWN):
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
            continue  # The caller was cancelled; the operation was carried out all the same.
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)


def _passing(error: BaseException) -> HiveError | None:
    """The refusal for a failure that leaves the database as it was and may be over at the next try."""
    code = getattr(error, "sqlite_errorcode", None)  # Errors that Python's module raises by itself have none.
    if code == sqlite3.SQLITE_FULL:
        hint = "make room on the disk that holds the state directory"
        return HiveError("disk_full", "the disk is full: nothing was stored", hint=hint, status=507)
    if code == sqlite3.SQLITE_BUSY:
        hint = "try again; end whatever else has the daemon's database open"
        return HiveError("database_busy", "another program holds the database's lock", hint=hint, status=503)
    return None


def _stopping() -> HiveError:
    return HiveError("stopping", "the daemon is stopping", hint="try again when it is back", status=503)
