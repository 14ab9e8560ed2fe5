"""Builds of the local runtime: checked files, laid down as a directory.

A closure is made elsewhere and renamed into place when it is whole and on disk, so one that is there is whole, also
after a kill or a loss of power.
"""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import tempfile
from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path

from hive_core.errors import HiveError, conflict
from hive_core.infra.files import sync
from hive_core.infra.git.repository import Repository
from hive_core.infra.tasks import shield_to_completion
from hive_core.runtimes.base import BuildOrder
from hive_core.runtimes.local.config_check import NOT_CHECKED, Confine, check, find_nix


class Builder:
    """Builds closures into `closures`; `confine` is how the parsers are run."""

    def __init__(self, closures: LocalClosures, confine: Confine) -> None:
        self._closures = closures
        self._confine = confine

    async def build(self, order: BuildOrder, say: Callable[[str], None]) -> str:
        """The closure of a commit. The same tree gives the same one. Raises BuildFailed and HiveError."""
        tree = await shield_to_completion(asyncio.to_thread(_tree, order))
        say(f"{order.name}: commit {order.commit[:12]}, tree {tree[:12]}")
        there = self._closures.path(order.name, tree)
        if await asyncio.to_thread(there.is_dir):
            say("the same files were built before")
            return str(there)
        place = await shield_to_completion(asyncio.to_thread(self._closures.workplace))
        try:
            files = place / "files"
            await shield_to_completion(asyncio.to_thread(_extract, order, files))
            await check(files, say, self._confine)
            return str(await shield_to_completion(asyncio.to_thread(self._closures.put, files, order.name, tree)))
        finally:
            await shield_to_completion(asyncio.to_thread(self._closures.discard, place))

    async def compare(self, old: str | None, new: str) -> list[str]:
        """Return a line if agent.nix has changed and nothing has checked it; the files' differences are git's to show.

        Raises:
            HiveError: `closure_gone` if the new closure no longer exists.
        """

        def read() -> list[str]:
            after = self._closures.need(Path(new).parent.name, new) / "agent.nix"
            before = Path(old) / "agent.nix" if old and self._closures.has(old) else None
            if find_nix() is not None or (before is not None and before.read_bytes() == after.read_bytes()):
                return []
            return [NOT_CHECKED]

        return await asyncio.to_thread(read)

    async def has(self, closure: str) -> bool:
        """Whether the closure is there."""
        return await asyncio.to_thread(self._closures.has, closure)

    async def need(self, name: str, closure: str) -> None:
        """Raise `closure_gone` if the closure is not there. An agent from before there were any has an empty one."""
        if closure:
            await asyncio.to_thread(self._closures.need, name, closure)

    async def keep(self, name: str, closures: Collection[str]) -> None:
        """Remove the closures of that agent that are not in `closures`."""
        await shield_to_completion(asyncio.to_thread(self._closures.keep, name, closures))


def _tree(order: BuildOrder) -> str:
    with Repository.open(order.repository) as repository:
        return repository.tree(order.commit)


def _extract(order: BuildOrder, into: Path) -> None:
    with Repository.open(order.repository) as repository:
        repository.extract(order.commit, into)


class LocalClosures:
    """The closures of every agent, below `directory`; `scratch` is on the same file system. Blocks."""

    def __init__(self, directory: Path, scratch: Path) -> None:
        self._directory = directory
        self._scratch = scratch

    def path(self, name: str, tree: str) -> Path:
        """Where the closure of a tree of that agent lies, or will."""
        return self._directory / name / tree

    def has(self, closure: str) -> bool:
        """Whether `closure` is one of ours and there."""
        path = Path(closure)
        return path.parent.parent == self._directory and ".." not in path.parts and path.is_dir()

    def need(self, name: str, closure: str) -> Path:
        """The directory of a closure of that agent; raises `closure_gone`."""
        path = Path(closure)
        if not self.has(closure) or path.parent.name != name:
            raise conflict("closure_gone", f"what was built for {name} is gone: {closure}", "propose the same again")
        return path

    def workplace(self) -> Path:
        """A new directory for work under way; `discard` it in the end."""
        try:
            self._scratch.mkdir(parents=True, exist_ok=True)
            return Path(tempfile.mkdtemp(prefix="closure-", dir=self._scratch))
        except OSError as error:
            raise HiveError(
                "cannot_build", f"cannot make a directory in {self._scratch}: {error.strerror}", status=500
            ) from None

    def discard(self, place: Path) -> None:
        """Remove a directory for work and what is in it."""
        shutil.rmtree(place, ignore_errors=True)

    def put(self, made: Path, name: str, tree: str) -> Path:
        """Take a directory that holds the files of a tree and is on disk; one that is there already stays."""
        _seal(made)
        path = self.path(name, tree)
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            made.rename(path)
        except OSError as error:
            # Another build of the same tree was quicker.
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                raise
        sync(path.parent)
        return path

    def keep(self, name: str, closures: Collection[str]) -> None:
        """Remove the closures of that agent that are not in `closures`."""
        home = self._directory / name
        kept = {Path(closure) for closure in closures}
        for path in [] if not home.is_dir() else list(home.iterdir()):
            if path in kept:
                continue
            place = self.workplace()
            # At once gone or still whole, whenever the daemon is killed.
            path.rename(place / "removed")
            self.discard(place)
        with suppress(OSError):
            home.rmdir()


def _seal(directory: Path) -> None:
    """Make every file below `directory` read-only: nothing in a closure is ever changed."""
    for parent, _, files in os.walk(directory):
        for name in files:
            path = Path(parent, name)
            path.chmod(0o555 if path.stat().st_mode & 0o100 else 0o444)
        Path(parent).chmod(0o755)
