"""The host's resolv.conf for agents with the host's network, in a directory that follows its changes.

A sandbox or container that shows the file itself keeps the one of its start: resolvers and network managers replace it,
or the target of its link, by a new one. A directory that is shown has the new file at once.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import structlog

from hive_core.infra.concurrency.threads import UPKEEP
from hive_core.infra.storage import files

_log = structlog.get_logger(__name__)

HOST = Path("/etc/resolv.conf")
NAME = "resolv.conf"
_SECONDS = 2.0
"""The time between two looks at the host's file."""
_MOST_BYTES = 64 * 1024


class HostResolver:
    """Keeps a copy of the host's resolv.conf in `directory`."""

    def __init__(self, directory: Path, source: Path = HOST) -> None:
        self._directory = directory
        self._source = source
        self._seen: tuple[int, ...] | None = None

    def copy(self) -> bool:
        """Replace the copy if the file or the target of its link has changed; returns True if it was. Raises OSError.

        A host without the file has an empty one, with which programs ask the host's own address (resolv.conf(5)).
        """
        try:
            found = self._source.stat()
            seen: tuple[int, ...] = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)
            if seen == self._seen:
                return False
            with self._source.open("rb") as file:
                text = file.read(_MOST_BYTES).decode(errors="replace")
        except FileNotFoundError:
            seen, text = (), ""
        changed = files.replace(self._directory / NAME, text, 0o644)
        self._seen = seen
        return changed

    async def follow(self) -> bool:
        """Replace the copy as `copy` does; a copy that cannot be written, as on a full disk, is logged."""
        try:
            return await UPKEEP.run(self.copy)
        except OSError as error:
            _log.warning("the host's DNS cannot be copied for agents", error=error.strerror)
            return False

    async def run(self) -> None:
        """Follow the host's file until cancelled."""
        while True:
            if await self.follow():
                _log.info("the host's DNS changed, and so did that of agents")
            await asyncio.sleep(_SECONDS)
