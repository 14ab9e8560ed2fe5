"""The size of the database, and its limit."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import suppress

from hive_core.errors import HiveError
from hive_core.infra.database.database import Database
from hive_core.text import format_bytes

_RESERVE = 0.1
"""Share of the limit that is added for the operator."""
_WARN, _CALM = 0.8, 0.7
_PRUNE, _PRUNED = 0.9, 0.85
_PAUSE_SECONDS = 5.0
_NOTHING_LEFT_SECONDS = 60.0
"""Pause after nothing was left to spare, unless a message is accepted: each attempt is a write of its own."""
_ROW_BYTES = 256
"""About what a message needs beside its body: its columns, delivery and index entries."""
_QUERY = """SELECT (page_count - freelist_count) * page_size
    FROM pragma_page_count(), pragma_freelist_count(), pragma_page_size()"""


class DatabaseSpace:
    """The space that is used in the database file, and the refusal of what would exceed its limit.

    Free pages within the file do not count, because they are used again. Between two measurements the sizes of
    accepted messages are added, so that accepting one costs no statement.
    """

    def __init__(self, database: Database, limit: int) -> None:
        """`limit` is in bytes."""
        self.limit = limit
        self._database = database
        self._measured = 0
        self._added = 0
        self._accepted = 0
        """The number of messages accepted since the start."""
        self._changed = asyncio.Event()

    @property
    def used(self) -> int:
        """The bytes used, as measured last, with what was accepted since."""
        return self._measured + self._added

    def check(self, *, reserved: bool = False) -> None:
        """Raise `database_full` if the limit is reached; if `reserved`, only if the operator's reserve is used, too."""
        limit = int(self.limit * (1 + _RESERVE)) if reserved else self.limit
        if self.used < limit:
            return
        raise HiveError(
            "database_full",
            f"the hive's database is full: {format_bytes(self.used)} are used, database_limit is "
            f"{format_bytes(self.limit)}; nothing was stored",
            hint="the operator was told; try again later, or put what is long into a file",
            status=507,
        )

    def add(self, size: int) -> None:
        """Count a message of `size` bytes that is accepted."""
        self._added += size + _ROW_BYTES
        self._accepted += 1
        self._changed.set()

    def touch(self) -> None:
        """Measure again soon, because something was stored."""
        self._changed.set()

    async def measure(self) -> None:
        """Measure the space that is used."""
        self._added, before = 0, self._added
        try:
            self._measured = await self._database.read(_used)
        except BaseException:
            self._added += before
            raise

    async def run(self, prune: Callable[[], Awaitable[bool]], warn: Callable[[str], Awaitable[None]]) -> None:
        """Measure after changes, until cancelled; call `warn` at 80 % and `prune` at 90 % of the limit.

        `warn` is called once, and again only after the database has been below 70 % meanwhile. `prune` removes what
        can be spared and returns False when nothing is left of that; then it is called again when a message was
        accepted, or after a minute.
        """
        warned = False
        nothing_left, retry_at = -1, 0.0
        clock = asyncio.get_running_loop().time
        while True:
            self._changed.clear()
            await self.measure()
            share = self.used / self.limit
            if share >= _WARN and not warned:
                await warn(self._warning())
            warned = share >= _WARN or (warned and share > _CALM)
            if share >= _PRUNE and (self._accepted != nothing_left or clock() >= retry_at):
                accepted = self._accepted
                while await prune():
                    await self.measure()
                    if self.used / self.limit < _PRUNED:
                        break
                else:
                    nothing_left, retry_at = accepted, clock() + _NOTHING_LEFT_SECONDS
            await asyncio.sleep(_PAUSE_SECONDS)
            # What is acknowledged can be spared later, also if nothing is stored meanwhile.
            with suppress(TimeoutError):
                async with asyncio.timeout(_NOTHING_LEFT_SECONDS if share >= _PRUNE else None):
                    await self._changed.wait()

    def _warning(self) -> str:
        return (
            f"The database has reached {100 * self.used // self.limit} % of database_limit "
            f"({format_bytes(self.used)} of {format_bytes(self.limit)}). When it is full, messages of agents are "
            "refused (database_full).\n"
            "From 90 % on, acknowledged messages are removed before retention_days is over. To make room: read your "
            "inbox (hive-c0re inbox), lower retention_days, or raise database_limit."
        )


def _used(db: sqlite3.Connection) -> int:
    return int(db.execute(_QUERY).fetchone()[0])
