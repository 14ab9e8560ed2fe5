"""Messages on their way to the disk: those that arrive during one commit are stored by the next, in one statement."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable
from functools import partial

from hive_core.infra.database.database import Database
from hive_core.messaging import store
from hive_core.messaging.store import NewMessage

Settled = Callable[[bool], None]
_Entry = tuple[NewMessage, Settled, asyncio.Future[None]]


class Outbox:
    """Stores messages in the order of `put`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._open: list[_Entry] | None = None
        # Held for a few instructions at a time, by the event loop and SQLite's thread.
        self._lock = threading.Lock()

    def put(self, message: NewMessage, settled: Settled) -> asyncio.Future[None]:
        """Queue a message; the future is done when it is on disk.

        `settled` is called with whether it was stored, also when nobody waits for the future any more.
        """
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry = (message, settled, future)
        with self._lock:
            if self._open is not None:
                self._open.append(entry)
                return future
        batch = [entry]
        flushed = self._database.submit(partial(self._flush, batch))
        # The flush cannot have begun: the writer takes what was submitted when the event loop gets on.
        with self._lock:
            self._open = batch
        flushed.add_done_callback(partial(self._settle, batch))
        return future

    def seal(self) -> None:
        """Store what is put from now on behind all that is submitted to the database until then."""
        with self._lock:
            self._open = None

    def _flush(self, batch: list[_Entry], db: sqlite3.Connection) -> None:
        # On SQLite's thread. Nothing is put into the batch from here on.
        self._close(batch)
        store.insert(db, [message for message, _, _ in batch])

    def _settle(self, batch: list[_Entry], flushed: asyncio.Future[None]) -> None:
        error = flushed.exception()
        self._close(batch)  # The transaction may have failed before this flush had its turn.
        for _, settled, future in batch:
            settled(error is None)
            if future.done():
                continue  # The sender has hung up.
            if error is None:
                future.set_result(None)
            else:
                future.set_exception(error)

    def _close(self, batch: list[_Entry]) -> None:
        with self._lock:
            if self._open is batch:
                self._open = None
