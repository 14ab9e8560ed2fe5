"""Copies of the database that the daemon makes of its own, for backups.

On some file systems no other process can open the database while the daemon has it open (`connection.py`).
"""

from __future__ import annotations

import os
import secrets
import shutil
import sqlite3
from contextlib import closing, suppress
from pathlib import Path
from urllib.parse import quote

from hive_core.errors import HiveError, conflict
from hive_core.infra.database.connection import open_for_reading
from hive_core.infra.database.failures import is_write_failure
from hive_core.infra.storage.disk_space import disk_full, has_room, is_lack_of_space

_PREFIX = "database-"
_STEP_PAGES = 1_000


class DatabaseCopies:
    """Makes copies of the database at `source` in `directory`, one at a time."""

    def __init__(self, source: Path, directory: Path) -> None:
        self._source = source
        self._directory = directory
        self._busy = False
        self._closed = False

    async def make(self) -> str:
        """Copy what is committed now into a new file, and return its name. Earlier copies are removed.

        The copying has a thread and a connection of its own, so nothing waits for it. The write-ahead log grows until
        it ends.

        Raises HiveError `backup_under_way`, `disk_full`, `database_unusable`, `stopping`.
        """
        if self._busy:
            raise conflict("backup_under_way", "another backup is copying the database", "try again when it has ended")
        self._busy = True
        try:
            connection = await open_for_reading(self._source)
            try:
                return await connection.run(self._copy)
            finally:
                await connection.close()
        finally:
            self._busy = False

    def close(self) -> None:
        """End a copying that is under way."""
        self._closed = True

    def _copy(self, source: sqlite3.Connection) -> str:
        self._remove_all()
        size = self._source.stat().st_size
        if shutil.disk_usage(self._directory).free < size:
            # Otherwise the copy would take the daemon the room that is left.
            raise disk_full(f"copy the database, which has {size} bytes,")
        name = f"{_PREFIX}{secrets.token_hex(8)}.sqlite"
        target = self._directory / name
        try:
            os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
            self._write(source, target)
        except BaseException as error:
            target.unlink(missing_ok=True)
            if is_lack_of_space(error):
                raise disk_full("copy the database") from None
            if isinstance(error, sqlite3.Error):
                if is_write_failure(error) and not has_room(self._directory):
                    raise disk_full("copy the database") from None
                hint = f"see whether the daemon may write to {self._directory}"
                raise HiveError("database_unusable", f"cannot copy the database: {error}", hint=hint) from None
            raise
        return name

    def _write(self, source: sqlite3.Connection, target: Path) -> None:
        # With `unix-excl` SQLite never maps a file beside the copy, which would be unsafe on the same file systems.
        opened = sqlite3.connect(f"file:{quote(str(target))}?vfs=unix-excl", uri=True, isolation_level=None)
        with closing(opened) as copy:
            # What a crash leaves of a copy is worthless, so neither a journal nor a sync is needed.
            copy.execute("PRAGMA journal_mode = OFF")
            copy.execute("PRAGMA synchronous = OFF")
            # All steps read what was committed at the beginning, so that none of them has to begin anew.
            source.execute("BEGIN")
            try:
                source.execute("SELECT count(*) FROM sqlite_schema").fetchone()
                source.backup(copy, pages=_STEP_PAGES, progress=self._check_open)
            finally:
                with suppress(sqlite3.Error):
                    source.execute("ROLLBACK")

    def _check_open(self, *_: int) -> None:
        if self._closed:
            raise HiveError("stopping", "the hive is stopping", hint="start it again first", status=503)

    def _remove_all(self) -> None:
        for path in self._directory.glob(f"{_PREFIX}*.sqlite*"):
            path.unlink(missing_ok=True)
