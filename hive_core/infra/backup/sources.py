"""The database of a hive that is backed up: of a daemon that runs, or of a file."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from hive_core.errors import conflict
from hive_core.infra.database.snapshot import DatabaseFacts, check_copy, copy_database, read_agents
from hive_core.infra.storage.file_lock import find_daemon
from hive_core.infra.storage.files import open_directory
from hive_core.layout import Layout

__all__ = ["DaemonDatabase", "DatabaseFile", "DatabaseSource", "find_daemon"]

_COPY_SECONDS = 3_600.0
"""Time limit of the daemon's copy of its database, which can have gigabytes."""
_CHUNK = 1024 * 1024


class DatabaseSource(Protocol):
    """The database that is backed up."""

    def copy(self, target: Path) -> DatabaseFacts:
        """Copy what is committed into an empty file, and check the copy. Raises HiveError as `copy_database` does."""

    def agents(self) -> frozenset[tuple[str, int]]:
        """Return the agents that exist now, with the times of their creation."""


@dataclass(frozen=True)
class DatabaseFile:
    """A database that is opened here: that of a hive whose daemon does not run, or cannot be asked."""

    path: Path

    def copy(self, target: Path) -> DatabaseFacts:
        return copy_database(self.path, target)

    def agents(self) -> frozenset[tuple[str, int]]:
        return read_agents(self.path)


class DaemonClient(Protocol):
    """A client of the daemon. Its methods raise errors for users."""

    def get(self, path: str) -> dict[str, Any]:
        """Send a GET and return the answer."""

    def post(self, path: str, body: Mapping[str, object], *, wait: float) -> dict[str, Any]:
        """Send a POST and return the answer; `wait` are the seconds that it may take."""


class DaemonDatabase:
    """The database of a daemon that runs: on some file systems only the daemon can read it (`connection.py`)."""

    def __init__(self, layout: Layout, client: DaemonClient) -> None:
        self._layout = layout
        self._client = client

    def is_served(self) -> bool:
        """Return True if it is the database of this state directory."""
        served = Path(self._client.get("/v1/database")["state_dir"])
        return served.resolve() == self._layout.state_dir.resolve()

    def copy(self, target: Path) -> DatabaseFacts:
        """Let the daemon copy its database, and move the copy to `target`."""
        name = Path(self._client.post("/v1/database/copy", {}, wait=_COPY_SECONDS)["file"]).name
        with open_directory(self._layout.scratch) as scratch:
            try:
                descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=scratch)
                os.unlink(name, dir_fd=scratch)
            except FileNotFoundError:
                why = "another backup has begun, and the daemon removed the copy of this one"
                raise conflict("backup_under_way", why, "try again when it has ended") from None
        with os.fdopen(descriptor, "rb") as source, target.open("wb") as copy:
            shutil.copyfileobj(source, copy, _CHUNK)
        return check_copy(target, self._layout.database)

    def agents(self) -> frozenset[tuple[str, int]]:
        return frozenset(self._client.get("/v1/database")["agents"].items())
