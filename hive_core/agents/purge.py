"""Removing what agents leave, so that a daemon that is killed half-way finishes it at its next start.

The table `purges` names the agents whose row is gone and whose files may still be in place. From there they go into
the trash, with which no agent of the same name has anything to do, and are removed in their own time.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path

import structlog

from hive_core.agents import store
from hive_core.agents.trash import Trash
from hive_core.errors import HiveError, conflict
from hive_core.infra.database.database import Database
from hive_core.layout import Layout

log = structlog.get_logger(__name__)


class Purging:
    """What of destroyed agents is still to be removed."""

    def __init__(self, layout: Layout, database: Database) -> None:
        self._database = database
        self._trash = Trash(layout)
        self._names: set[str] = set()
        self._emptying = asyncio.Lock()
        self._more = asyncio.Event()
        self._more.set()

    async def open(self, known: set[str]) -> None:
        """Move away what an earlier daemon did not get to: files of purged agents, sockets of unknown ones."""
        self._names = await self._database.read(store.purges)
        for name in sorted(self._names):
            try:
                await self.finish(name)
            except HiveError as error:
                log.error("purge not finished", agent=name, error=error.message)
        try:
            await asyncio.to_thread(self._trash.take_strays, known)
        except OSError as error:
            log.error("left run directories not removed", error=_words(error))

    async def run(self) -> None:
        """Empty the trash, at once and whenever something is left in it; in the background."""
        while True:
            await self._more.wait()
            self._more.clear()
            for place in await asyncio.to_thread(self._trash.places):
                try:
                    await self._empty_one(place)
                except OSError as error:
                    log.error("trash not removed", place=str(place), error=_words(error))

    def stop(self) -> None:
        """Leave the rest to the next daemon."""
        self._trash.stop()

    async def clear_run(self, name: str) -> Sequence[Path]:
        """Move a destroyed agent's run directory away; what is to be emptied then."""
        try:
            return await asyncio.to_thread(self._trash.take_run, name)
        except OSError as error:
            log.error("run directory not removed", agent=name, error=_words(error))
            return []

    def begun(self, name: str) -> None:
        """`store.begin_purge` is on disk."""
        self._names.add(name)

    async def finish(self, name: str) -> Sequence[Path]:
        """Move away all that the agent has left; what is to be emptied then. Raises `agent_being_purged`."""
        try:
            places = await asyncio.to_thread(self._trash.take_all, name)
        except OSError as error:
            raise conflict(
                "agent_being_purged",
                f"the files of the purged agent {name} cannot be moved away: {_words(error)}",
                "see what holds them and spawn it again, or restart the daemon",
            ) from None
        await self._database.write(lambda db: store.end_purge(db, name))
        self._names.discard(name)
        return places

    def pending(self, name: str) -> bool:
        """Whether the purge of an agent of that name is not finished."""
        return name in self._names

    async def make_way(self, name: str) -> None:
        """Finish the purge of an earlier agent of that name, if there is one left. Raises `agent_being_purged`."""
        if name in self._names:
            await self.finish(name)
            self._more.set()

    async def empty(self, places: Sequence[Path]) -> None:
        """Remove what was moved away, as far as the daemon is not stopping. Raises `purge_unfinished`."""
        for place in places:
            try:
                await self._empty_one(place)
            except OSError as error:
                raise HiveError(
                    "purge_unfinished",
                    f"the agent is gone, but not all of its files can be removed: {_words(error)}",
                    hint=f"what is left is in {place}; the daemon tries again at its next start",
                    status=500,
                ) from None

    async def _empty_one(self, place: Path) -> None:
        # One at a time: the threads are few, and agents' logs need them, too.
        async with self._emptying:
            await asyncio.to_thread(self._trash.empty, place)


def _words(error: OSError) -> str:
    where = f": {error.filename!r}" if error.filename else ""
    return f"{os.strerror(error.errno or 0)}{where}"
