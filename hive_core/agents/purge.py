"""Deletion of an agent's files, which is safe against links and continues after a restart.

The table `purges` names the agents whose row is deleted and whose files may still be in place. The files are moved into
the trash, where they are in the way of no new agent of the name, and deleted in the background by rm(1).

An agent may have nested directories thousands deep, given them names of 255 bytes, removed its own access to them and
created links to anywhere. rm from coreutils removes deep trees with few descriptors, and neither it nor `chmod -R`
follows the links that it finds in the tree. Its memory grows with the depth, by about 560 bytes for each directory, so
it has a limit: a tree of more than a million nested directories is left in the trash, and the error says so.
"""

from __future__ import annotations

import asyncio
import os
import resource
import secrets
import stat
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol

import structlog

from hive_core.agents import store
from hive_core.errors import HiveError, conflict
from hive_core.infra.concurrency.threads import LIFECYCLE
from hive_core.infra.database.database import Database
from hive_core.infra.database.deferred import DeferredChanges
from hive_core.infra.disk_quota.conversion import other_tree
from hive_core.infra.disk_quota.quotas import DirectoryQuotas, make_removable
from hive_core.infra.processes import Command, Process, describe_exit, read_all, spawn
from hive_core.infra.storage.disk_space import is_lack_of_space
from hive_core.infra.storage.files import has_mount_below, open_directory
from hive_core.layout import Layout
from hive_core.text import escaped_first_line

_log = structlog.get_logger(__name__)

_OUTPUT_BYTES = 64 * 1024
_MEMORY = 1024**3
"""Limit of the address space of rm and chmod, in bytes."""
_ERROR_CHARACTERS = 300
_REMOVED_BY_OTHERS = ("build-", "nix-", "doctor-")
"""Prefixes of temporary files that `trash_scratch` leaves alone."""


class SecretOwner(Protocol):
    """Interface to the secrets of agents, as far as this module needs it."""

    async def forget(self, agent: str, *, purge: bool) -> None:
        """Remove the files of a destroyed agent's secrets; with `purge` the secrets, too. Raises HiveError."""


class Purging:
    """Deletes the files of destroyed agents."""

    def __init__(
        self, layout: Layout, database: Database, deferred: DeferredChanges, secrets: SecretOwner | None = None
    ) -> None:
        self._layout = layout
        self._secrets = secrets
        self._database = database
        self._deferred = deferred
        self._trash = Trash(layout)
        self._pending: set[str] = set()
        self._trash_filled = asyncio.Event()
        self._trash_filled.set()

    async def open(self, known: set[str]) -> None:
        """Move the files of purged agents and the sockets of unknown agents away, where an earlier daemon left them."""
        self._pending |= await self._database.read(store.purges)
        for name in sorted(self._pending):
            try:
                await self.finish(name)
            except HiveError as error:
                _log.error("purge not finished", agent=name, error=error.message)
        try:
            await LIFECYCLE.run(self._trash.trash_orphaned, known)
        except OSError as error:
            _log.error("left run directories not removed", error=_describe(error))
        try:
            await LIFECYCLE.run(self._trash.trash_scratch)
        except OSError as error:
            _log.error("left temporary files not removed", error=_describe(error))

    async def run(self) -> None:
        """Empty the trash, at once and whenever something is left in it, until cancelled."""
        while True:
            await self._trash_filled.wait()
            self._trash_filled.clear()
            for directory in await LIFECYCLE.run(self._trash.directories):
                try:
                    await self._trash.delete(directory)
                except OSError as error:
                    _log.error("trash not removed", directory=str(directory), error=_describe(error))

    def stop(self) -> None:
        """Stop deleting; the next daemon continues."""
        self._trash.stop()

    async def clear_run(self, name: str) -> Sequence[Path]:
        """Move a destroyed agent's run directory away; returns the trash directories to `delete`."""
        try:
            if self._secrets is not None:
                await self._secrets.forget(name, purge=False)
        except HiveError as error:
            _log.error("files of secrets not removed", agent=name, error=error.message)
        try:
            return await LIFECYCLE.run(self._trash.move_run, name)
        except OSError as error:
            _log.error("run directory not removed", agent=name, error=_describe(error))
            return []

    def begun(self, name: str) -> None:
        """Record that `store.begin_purge` is committed."""
        self._pending.add(name)

    async def finish(self, name: str) -> Sequence[Path]:
        """Remove the agent's secrets and move all of its files away; returns the trash directories to `delete`.

        Raises `agent_being_purged`, and the errors of `SecretOwner.forget`.
        """
        if self._secrets is not None:
            await self._secrets.forget(name, purge=True)
        try:
            await LIFECYCLE.run(DirectoryQuotas().forget, [self._layout.agent_home(name)])
            try:
                directories = await LIFECYCLE.run(self._trash.move_all, name)
            except OSError as error:
                if not is_lack_of_space(error):
                    raise
                # There is no room for a directory in the trash.
                await self._trash.delete_in_place(name)
                directories = []
        except OSError as error:
            raise conflict(
                "agent_being_purged",
                f"the files of the purged agent {name} cannot be moved away: {_describe(error)}",
                "remove the cause and spawn the agent again, or restart the daemon",
            ) from None
        await self._deferred.store_or_keep(name, lambda db: store.end_purge(db, name))
        if not self._deferred.is_kept(name):
            self._pending.discard(name)
        return directories

    def pending(self, name: str) -> bool:
        """Return whether the purge of an agent of that name is not finished."""
        return name in self._pending

    async def make_way(self, name: str) -> None:
        """Finish the purge of an earlier agent of that name, if it is pending.

        Raises `agent_being_purged`, `disk_full`.
        """
        if name in self._pending:
            await self._deferred.settle(name)
            await self.finish(name)
            self._trash_filled.set()

    async def delete(self, directories: Sequence[Path]) -> None:
        """Delete trash directories until done or until the daemon stops. Raises `purge_unfinished`."""
        for directory in directories:
            try:
                await self._trash.delete(directory)
            except OSError as error:
                raise HiveError(
                    "purge_unfinished",
                    f"the agent was removed, but not all of its files can be: {_describe(error)}",
                    hint=f"the remaining files are in {directory}; the daemon tries again at its next start",
                    status=500,
                ) from None


def _describe(error: OSError) -> str:
    filename = f": {error.filename!r}" if error.filename else ""
    return f"{error.strerror or error}{filename}"


class Trash:
    """The directories `trash` of the state and the run directory, which may be two file systems.

    The methods that are no coroutines block; `stop` returns at once.
    """

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._one_at_a_time = asyncio.Lock()
        self._child: Process | None = None
        self._stopped = False

    def move_run(self, name: str) -> list[Path]:
        """Move the agent's run directory into the trash; returns the directories to `delete`. Raises OSError."""
        return self._move(self._layout.run_dir, [self._layout.agent(name).run])

    def move_all(self, name: str) -> list[Path]:
        """Move everything that an agent has into the trash; returns the directories to `delete`. Raises OSError."""
        return self.move_run(name) + self._move(self._layout.state_dir, self._files(name))

    async def delete_in_place(self, name: str) -> None:
        """Delete everything that an agent has where it is, which needs no room. Raises OSError as `delete` does."""
        for path in await LIFECYCLE.run(_existing, [self._layout.agent(name).run, *self._files(name)]):
            await self.delete(path)

    def _files(self, name: str) -> list[Path]:
        layout = self._layout
        built = [layout.applied_repository(name), layout.closures / name, layout.deployed / name, layout.builds / name]
        home = layout.agent_home(name)
        return [home, other_tree(home), *built, *sorted(layout.logs.glob(f"{name}.log*"))]

    def trash_orphaned(self, known: set[str]) -> list[Path]:
        """Move the run directories and view sockets of agents that are not `known` into the trash. Raises OSError.

        So is `own`, a directory in the run directories of older hives, which agents could write.
        """
        layout = self._layout
        runs, views = layout.run_dir / "agents", layout.views
        orphaned = sorted(path for path in runs.iterdir() if path.name not in known) if runs.exists() else []
        orphaned += [layout.agent(name).run / "own" for name in sorted(known)]
        orphaned += sorted(path for path in views.iterdir() if path.stem not in known) if views.exists() else []
        return self._move(layout.run_dir, orphaned)

    def trash_scratch(self) -> None:
        """Move the temporary files of an earlier daemon and its unfinished repositories into the trash. Raises OSError.

        What a build with Nix or `doctor` has left is removed by these, and they may be at work already.
        """
        layout = self._layout
        scratch = sorted(layout.scratch.iterdir()) if layout.scratch.exists() else []
        found = [path for path in scratch if not path.name.startswith(_REMOVED_BY_OTHERS)]
        found += [*sorted(layout.applied.glob(".*.new")), *sorted(layout.agents.glob("*/.config.new"))]
        self._move(layout.state_dir, found)

    def directories(self) -> list[Path]:
        """Return all directories to `delete`."""
        directories: list[Path] = []
        for root in (self._layout.run_dir, self._layout.state_dir):
            with suppress(FileNotFoundError):
                directories += sorted((root / "trash").iterdir())
        return directories

    async def delete(self, directory: Path) -> None:
        """Delete a directory, or as much of it as possible until `stop`.

        Raises:
            OSError: Something could not be deleted; everything else was.
        """
        async with self._one_at_a_time:
            # Directories without access for their owner stop only a daemon that is not root.
            if os.geteuid() != 0:
                await self._run("chmod", "-R", "u+rwX", directory=directory)
            # Not into mounted file systems, whose content may not be the agent's. Without them the option would only
            # keep rm out of subvolumes of btrfs, which an agent may create.
            mounted = await LIFECYCLE.run(has_mount_below, directory)
            failure = await self._run("rm", "-rf", *(["--one-file-system"] if mounted else []), directory=directory)
            if failure and not mounted and not self._stopped and await LIFECYCLE.run(make_removable, directory):
                failure = await self._run("rm", "-rf", directory=directory)
            if failure and not self._stopped:
                raise OSError(None, failure)

    def stop(self) -> None:
        """Kill the running deletion, and make every `delete` return soon."""
        self._stopped = True
        if self._child is not None:
            self._child.kill()

    async def _run(self, program: str, *options: str, directory: Path) -> str:
        """Run a program in the trash; returns the error, or an empty text if there is none."""
        if self._stopped:
            return ""
        environment = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"}
        line = [program, *options, "--", directory.name]
        command = Command(line, environment, directory.parent, limits={resource.RLIMIT_AS: _MEMORY})
        self._child = child = spawn(command)
        try:
            output = await read_all(child.output, _OUTPUT_BYTES)
            code = await child.wait()
        finally:
            self._child = None
            await child.end()
        return "" if code == 0 else _first_error(output) or f"{program}: {describe_exit(code)}"

    def _move(self, root: Path, sources: list[Path]) -> list[Path]:
        existing = _existing(sources)
        if not existing:
            return []
        directory = root / "trash" / secrets.token_hex(8)
        directory.parent.mkdir(mode=0o700, exist_ok=True)
        directory.mkdir(mode=0o700)
        for number, source in enumerate(existing):
            with suppress(FileNotFoundError):
                with suppress(NotADirectoryError):
                    _unlock(source)
                source.rename(directory / f"{number}.{source.name}")  # Several have the agent's name.
        return [directory]


def _existing(paths: Sequence[Path]) -> list[Path]:
    return [path for path in paths if os.path.lexists(path)]


def _first_error(output: bytes) -> str:
    """Return the first line that rm printed; of a very long path only the beginning, and the reason at the end."""
    line = escaped_first_line(output.decode(errors="replace"))
    half = _ERROR_CHARACTERS // 2
    return line if len(line) <= _ERROR_CHARACTERS else f"{line[:half]} [...] {line[-half:]}"


def _unlock(path: Path) -> None:
    """Give the owner all rights to a directory, without which it cannot be moved to another parent.

    Raises:
        NotADirectoryError: `path` is something else, for example a link.
    """
    with open_directory(path, path_only=True) as descriptor:
        mode = stat.S_IMODE(os.fstat(descriptor).st_mode)
        if mode & 0o700 != 0o700:
            change_mode(descriptor, 0o700)


def change_mode(descriptor: int, mode: int) -> None:
    """fchmod(2) for a descriptor that was opened with O_PATH, for which the kernel has no other way."""
    os.chmod(f"/proc/self/fd/{descriptor}", mode)  # noqa: PTH101 - a descriptor, not a path
