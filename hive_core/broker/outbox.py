"""Messages on their way to the disk: those that arrive during one commit are stored by the next, in one statement."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections import deque
from collections.abc import Callable
from functools import partial

from hive_core.broker import store
from hive_core.broker.store import NewMessage
from hive_core.database import Database
from hive_core.errors import HiveError

Settled = Callable[[bool], None]
_Entry = tuple[NewMessage, Settled, asyncio.Future[None]]


class Outbox:
    """Stores messages in the order of `put`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._entries: deque[_Entry] = deque()
        self._flush_queued = False

    def put(self, message: NewMessage, settled: Settled) -> asyncio.Future[None]:
        """Queue a message; the future is done when it is on disk.

        `settled` is called with whether it was stored, also when nobody waits for the future any more.
        """
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        # Queued before the flag is read: a flush that has not lowered the flag yet will find it.
        entry = (message, settled, future)
        self._entries.append(entry)
        if not self._flush_queued:
            taken: list[_Entry] = []
            try:
                flushed = self._database.submit(partial(self._flush, taken))
            except HiveError:
                self._entries.remove(entry)
                raise
            self._flush_queued = True
            flushed.add_done_callback(partial(self._settle, taken))
        return future

    def _flush(self, taken: list[_Entry], db: sqlite3.Connection) -> None:
        # On SQLite's thread. The flag falls before the queue is emptied: what is put after that queues a flush of its
        # own, which at worst finds nothing left.
        self._flush_queued = False
        self._drain(taken)
        if taken:
            store.insert(db, [message for message, _, _ in taken])

    def _settle(self, taken: list[_Entry], flushed: asyncio.Future[None]) -> None:
        error = flushed.exception()
        if error is not None:
            # The transaction may have failed before this flush had its turn.
            self._flush_queued = False
            self._drain(taken)
        for _, settled, future in taken:
            settled(error is None)
            if future.done():
                continue  # The sender has hung up.
            if error is None:
                future.set_result(None)
            else:
                future.set_exception(error)

    def _drain(self, into: list[_Entry]) -> None:
        with contextlib.suppress(IndexError):
            while True:
                into.append(self._entries.popleft())
