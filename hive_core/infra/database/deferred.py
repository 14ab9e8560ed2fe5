"""Changes that are made although a full disk keeps them from being stored; they are stored when there is room.

Such a change must survive the daemon, too. Nothing can be written then, but a file can be removed, even where a quota
is exceeded. So there is a directory of empty files for each key, one for each intent, and the removal of one records
that intent until the change is stored.
"""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

import structlog

from hive_core.errors import HiveError
from hive_core.infra.concurrency.threads import LIFECYCLE
from hive_core.infra.database.database import TEMPORARY_ERRORS, Database, Operation
from hive_core.infra.storage.disk_space import is_lack_of_space
from hive_core.infra.storage.files import sync

T = TypeVar("T")
Intent = Literal["stop", "destroy", "purge"]
"""In increasing order: the last one that is recorded holds."""

_log = structlog.get_logger(__name__)

_RETRY_SECONDS = 1.0
_GUARD = "guard"
"""A file without which the others mean nothing, so that their removal is no intent."""


class IntentFiles:
    """The directories of empty files, below `directory`. Methods block."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def make(self, key: str) -> None:
        """Make the files of a key that has not got all of them. Without room it gets none.

        A directory appears with all its files, so that a missing one is always an intent.
        """
        path, unfinished = self._directory / key, self._directory / f"{key}.new"
        try:
            if path.is_dir() and all((path / name).exists() for name in (*get_args(Intent), _GUARD)):
                return
            self.remove(key)
            unfinished.mkdir(mode=0o700, parents=True, exist_ok=True)
            for name in (*get_args(Intent), _GUARD):
                (unfinished / name).touch(mode=0o600)
            sync(unfinished)
            unfinished.rename(path)
            sync(self._directory)
        except OSError as error:
            _log.warning("intent files not made", agent=key, error=str(error))
            self.remove(key)

    def record(self, key: str, intent: Intent) -> None:
        """Record an intent. A key without files is logged: only this daemon knows the intent then."""
        path = self._directory / key
        try:
            (path / intent).unlink(missing_ok=True)
            sync(path)
        except OSError as error:
            _log.warning("intent not recorded", agent=key, intent=intent, error=str(error))

    def recorded(self) -> dict[str, Intent]:
        """Return the intents that are recorded, by key."""
        found: dict[str, Intent] = {}
        for path in self._directory.iterdir() if self._directory.is_dir() else []:
            missing = [intent for intent in get_args(Intent) if not (path / intent).exists()]
            if missing and (path / _GUARD).exists() and not path.name.endswith(".new"):
                found[path.name] = missing[-1]
        return found

    def remove(self, key: str) -> None:
        """Remove the files of a key, and any that were left unfinished."""
        path = self._directory / key
        shutil.rmtree(path.with_name(f"{key}.new"), ignore_errors=True)
        _remove(path)

    def remove_others(self, keys: Iterable[str]) -> None:
        """Remove the files of all keys but `keys`."""
        known = set(keys)
        for path in list(self._directory.iterdir()) if self._directory.is_dir() else []:
            if path.name not in known:
                _remove(path)


def _remove(path: Path) -> None:
    """Remove the directory of a key, without recording an intent on the way: the guard comes first, and is synced."""
    with suppress(OSError):
        (path / _GUARD).unlink(missing_ok=True)
        sync(path)
        shutil.rmtree(path, ignore_errors=True)


class DeferredChanges:
    """Stores changes, or keeps those for which there is no room and repeats them in order of each key.

    The caller must hold a lock on the key, so that its changes come one after another.
    """

    def __init__(self, database: Database, files: IntentFiles) -> None:
        self._database = database
        self.files = files
        self._kept: dict[str, list[tuple[Operation[Any], Intent | None]]] = {}
        self._storing = asyncio.Lock()
        self._filled = asyncio.Event()

    def is_kept(self, key: str) -> bool:
        """Return True if a change of `key` is not stored yet."""
        return key in self._kept

    def kept(self) -> set[str]:
        """Return the keys of all changes that are not stored yet."""
        return set(self._kept)

    async def store(self, key: str, operation: Operation[T]) -> T:
        """Store the earlier changes of `key` and this one, with the reserve if necessary. Raises `disk_full`."""
        async with self._storing:
            return await self._store(key, operation)

    async def store_or_keep(self, key: str, operation: Operation[T], intent: Intent | None = None) -> T | None:
        """Store the change as `store` does; return None if it is kept because the disk is full.

        `intent` is what the next daemon has to know of it then.
        """
        async with self._storing:
            try:
                return await self._store(key, operation)
            except HiveError as error:
                if not is_lack_of_space(error):
                    raise
            if intent is not None:
                await LIFECYCLE.run(self.files.record, key, intent)
            self._kept.setdefault(key, []).append((operation, intent))
            self._filled.set()
            _log.warning("a change is stored when there is room", agent=key, intent=intent)
            return None

    async def settle(self, key: str) -> None:
        """Store the changes of `key` that were kept. Raises `disk_full`."""
        async with self._storing:
            if key in self._kept:
                await self._store(key, lambda _: None)

    async def run(self) -> None:
        """Repeat what was kept until it is stored, until cancelled."""
        while True:
            await self._filled.wait()
            for key in list(self._kept):
                try:
                    await self.settle(key)
                except HiveError as error:
                    if error.code not in TEMPORARY_ERRORS:
                        raise
                else:
                    _log.info("a change that was kept is stored", agent=key)
            if self._kept:
                await asyncio.sleep(_RETRY_SECONDS)
            else:
                self._filled.clear()

    async def _store(self, key: str, operation: Operation[T]) -> T:
        kept = self._kept.get(key, [])
        result = await self._database.write_urgently(partial(_in_order, [change for change, _ in kept], operation))
        if kept:
            del self._kept[key]
            ended = any(intent in ("destroy", "purge") for _, intent in kept)
            await LIFECYCLE.run(self.files.remove if ended else self.files.make, key)
        return result


def _in_order(earlier: Sequence[Operation[Any]], operation: Operation[T], db: sqlite3.Connection) -> T:
    for change in earlier:
        change(db)
    return operation(db)
