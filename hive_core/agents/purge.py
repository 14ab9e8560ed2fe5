"""Deletion of an agent's files, which is safe against links and continues after a restart.

The table `purges` names the agents whose row is deleted and whose files may still be in place. The files are moved into
the trash, where they are in the way of no new agent of the name, and deleted in the background.

An agent may have nested directories thousands deep, given them names of 255 bytes, removed its own access to them and
created links to anywhere. So nothing here recurses, builds long paths or follows a link: directories are opened by
descriptor, and the directories in a directory are first moved up to the top, which flattens the deepest tree.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import stat
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import structlog

from hive_core.agents import store
from hive_core.errors import HiveError, conflict
from hive_core.infra.database.database import Database
from hive_core.layout import Layout

_log = structlog.get_logger(__name__)


class Purging:
    """Deletes the files of destroyed agents."""

    def __init__(self, layout: Layout, database: Database) -> None:
        self._database = database
        self._trash = Trash(layout)
        self._names: set[str] = set()
        self._emptying = asyncio.Lock()
        self._more = asyncio.Event()
        self._more.set()

    async def open(self, known: set[str]) -> None:
        """Move the files of purged agents and the sockets of unknown agents away, where an earlier daemon left them."""
        self._names = await self._database.read(store.purges)
        for name in sorted(self._names):
            try:
                await self.finish(name)
            except HiveError as error:
                _log.error("purge not finished", agent=name, error=error.message)
        try:
            await asyncio.to_thread(self._trash.trash_orphaned, known)
        except OSError as error:
            _log.error("left run directories not removed", error=_describe(error))

    async def run(self) -> None:
        """Empty the trash, at once and whenever something is left in it, until cancelled."""
        while True:
            await self._more.wait()
            self._more.clear()
            for directory in await asyncio.to_thread(self._trash.places):
                try:
                    await self._empty_one(directory)
                except OSError as error:
                    _log.error("trash not removed", place=str(directory), error=_describe(error))

    def stop(self) -> None:
        """Stop deleting; the next daemon continues."""
        self._trash.stop()

    async def clear_run(self, name: str) -> Sequence[Path]:
        """Move a destroyed agent's run directory away; returns the trash directories to `empty`."""
        try:
            return await asyncio.to_thread(self._trash.take_run, name)
        except OSError as error:
            _log.error("run directory not removed", agent=name, error=_describe(error))
            return []

    def begun(self, name: str) -> None:
        """Record that `store.begin_purge` is committed."""
        self._names.add(name)

    async def finish(self, name: str) -> Sequence[Path]:
        """Move all files of the agent away; returns the trash directories to `empty`. Raises `agent_being_purged`."""
        try:
            places = await asyncio.to_thread(self._trash.take_all, name)
        except OSError as error:
            raise conflict(
                "agent_being_purged",
                f"the files of the purged agent {name} cannot be moved away: {_describe(error)}",
                "see what holds them and spawn it again, or restart the daemon",
            ) from None
        await self._database.write(lambda db: store.end_purge(db, name))
        self._names.discard(name)
        return places

    def pending(self, name: str) -> bool:
        """Whether the purge of an agent of that name is not finished."""
        return name in self._names

    async def make_way(self, name: str) -> None:
        """Finish the purge of an earlier agent of that name, if it is pending. Raises `agent_being_purged`."""
        if name in self._names:
            await self.finish(name)
            self._more.set()

    async def empty(self, places: Sequence[Path]) -> None:
        """Delete trash directories until done or until the daemon stops. Raises `purge_unfinished`."""
        for directory in places:
            try:
                await self._empty_one(directory)
            except OSError as error:
                raise HiveError(
                    "purge_unfinished",
                    f"the agent was removed, but not all of its files can be: {_describe(error)}",
                    hint=f"the remaining files are in {directory}; the daemon tries again at its next start",
                    status=500,
                ) from None

    async def _empty_one(self, directory: Path) -> None:
        # One at a time: the threads are few, and agents' logs need them, too.
        async with self._emptying:
            await asyncio.to_thread(self._trash.empty, directory)


def _describe(error: OSError) -> str:
    where = f": {error.filename!r}" if error.filename else ""
    return f"{os.strerror(error.errno or 0)}{where}"


_BY_NAME = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Trash:
    """The directories `trash` of the state and the run directory, two file systems perhaps. Its methods block."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._stop = threading.Event()

    def take_run(self, name: str) -> list[Path]:
        """Move the agent's run directory into the trash; returns the directories to `empty`. Raises OSError."""
        return self._take(self._layout.run_dir, [self._layout.agent(name).run])

    def take_all(self, name: str) -> list[Path]:
        """Move everything that an agent has into the trash; returns the directories to `empty`. Raises OSError."""
        layout = self._layout
        built = [layout.applied_repository(name), layout.closures / name, layout.builds / name]
        logs = sorted(layout.logs.glob(f"{name}.log*"))
        return self.take_run(name) + self._take(layout.state_dir, [layout.agent_home(name), *built, *logs])

    def trash_orphaned(self, known: set[str]) -> list[Path]:
        """Move the run directories of agents that are not `known` into the trash. Raises OSError."""
        runs = self._layout.run_dir / "agents"
        strays = sorted(path for path in runs.iterdir() if path.name not in known) if runs.exists() else []
        return self._take(self._layout.run_dir, strays)

    def places(self) -> list[Path]:
        """All directories to `empty`."""
        found: list[Path] = []
        for root in (self._layout.run_dir, self._layout.state_dir):
            with suppress(FileNotFoundError):
                found += sorted((root / "trash").iterdir())
        return found

    def empty(self, directory: Path) -> None:
        """Delete a directory of the trash, or as much of it as possible until `stop`. Raises OSError."""
        with suppress(FileNotFoundError):
            remove_tree(directory, self._stop)

    def stop(self) -> None:
        """Make every `empty` return soon."""
        self._stop.set()

    def _take(self, root: Path, sources: list[Path]) -> list[Path]:
        there = [source for source in sources if os.path.lexists(source)]
        if not there:
            return []
        directory = root / "trash" / secrets.token_hex(8)
        directory.parent.mkdir(mode=0o700, exist_ok=True)
        directory.mkdir(mode=0o700)
        for number, source in enumerate(there):
            with suppress(FileNotFoundError):
                with suppress(NotADirectoryError):
                    unlock(source)
                source.rename(directory / f"{number}.{source.name}")  # Several have the agent's name.
        return [directory]


def unlock(path: Path | str, within: int | None = None) -> None:
    """Give the owner all rights to a directory; raises NotADirectoryError for anything else, links too."""
    with _reached(path, within):
        pass


def remove_tree(directory: Path, stop: threading.Event) -> None:
    """Delete a directory tree. Returns early when `stop` is set; raises OSError if something cannot be deleted."""
    with _reached(directory) as top:
        while True:
            removed, failure = _take_apart(top, stop)
            if stop.is_set():
                return
            # Another round after each that deleted something: a failure (too many links) may be temporary.
            if failure is not None and not removed:
                raise failure
            if failure is None and not removed:
                break
    directory.rmdir()


def _take_apart(top: int, stop: threading.Event) -> tuple[bool, OSError | None]:
    """Delete the entries of `top` once; returns whether any was deleted, and the last failure."""
    removed, failure = False, None
    with _listed(top) as entries:
        for entry in entries:
            if stop.is_set():
                break
            try:
                if entry.is_dir(follow_symlinks=False):
                    removed = _flatten(entry.name, top, stop) or removed
                    if stop.is_set():
                        break
                    os.rmdir(entry.name, dir_fd=top)
                else:
                    os.unlink(entry.name, dir_fd=top)
                removed = True
            except OSError as error:
                failure = error
    return removed, failure


def _flatten(name: str, top: int, stop: threading.Event) -> bool:
    """Delete the files of a directory in `top`, move its directories up to `top`; returns whether it had any entry."""
    found = False
    with _reached(name, top) as inside, _listed(inside) as entries:
        for entry in entries:
            if stop.is_set():
                break
            if entry.is_dir(follow_symlinks=False):
                unlock(entry.name, inside)  # Moving a directory to another parent needs write permission on it.
                os.rename(entry.name, secrets.token_hex(8), src_dir_fd=inside, dst_dir_fd=top)
            else:
                os.unlink(entry.name, dir_fd=inside)
            found = True
    return found


@contextmanager
def _reached(path: Path | str, within: int | None = None) -> Iterator[int]:
    """Open a directory, never through a link, and give its owner all rights. The descriptor is O_PATH: see open(2)."""
    descriptor = os.open(path, _BY_NAME, dir_fd=within)
    try:
        mode = stat.S_IMODE(os.fstat(descriptor).st_mode)
        if mode & 0o700 != 0o700:
            change_mode(descriptor, 0o700)
        yield descriptor
    finally:
        os.close(descriptor)


def change_mode(descriptor: int, mode: int) -> None:
    """fchmod(2) for a descriptor that was opened with O_PATH, for which the kernel has no other way."""
    os.chmod(f"/proc/self/fd/{descriptor}", mode)  # noqa: PTH101 - a descriptor, not a path


@contextmanager
def _listed(directory: int) -> Iterator[Iterator[os.DirEntry[str]]]:
    descriptor = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=directory)
    try:
        with os.scandir(descriptor) as entries:
            yield entries
    finally:
        os.close(descriptor)
