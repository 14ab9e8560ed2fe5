"""Builds of the local runtime: a closure is a directory with the checked files of a commit.

A closure is written elsewhere and renamed to its path when it is complete and on disk, so one that exists is complete,
also after a kill or a power failure.
"""

from __future__ import annotations

import asyncio
import errno
import shutil
import tempfile
from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path

from hive_core.errors import HiveError, conflict
from hive_core.infra.concurrency.tasks import shield_to_completion
from hive_core.infra.concurrency.threads import LIFECYCLE
from hive_core.infra.git.repository import Repository
from hive_core.infra.storage.disk_space import disk_full_as_error
from hive_core.infra.storage.files import make_readable, sync
from hive_core.layout import closure_path
from hive_core.runtimes.base import BuildOrder
from hive_core.runtimes.checks.built_tree import check_built_tree
from hive_core.runtimes.local.config_check import NOT_CHECKED, Confine, check, find_nix


class Builder:
    """Builds closures into `closures`; the parsers run as `confine` says."""

    def __init__(self, closures: LocalClosures, confine: Confine) -> None:
        self._closures = closures
        self._confine = confine

    async def build(self, order: BuildOrder, say: Callable[[str], None]) -> str:
        """Build a commit and return its closure as `<agent>/<tree>`, the same for the same tree.

        Raises BuildFailed and HiveError.
        The files of the closure are compared with the commit, also if it was built before.
        """
        tree = await shield_to_completion(asyncio.to_thread(_tree, order))
        say(f"{order.name}: commit {order.commit[:12]}, tree {tree[:12]}")
        closure = self._closures.path(order.name, tree)
        if await asyncio.to_thread(closure.is_dir):
            say("the same files were built before")
        else:
            closure = await self._make(order, tree, say)
        await shield_to_completion(asyncio.to_thread(check_built_tree, order, closure))
        return f"{order.name}/{tree}"

    async def _make(self, order: BuildOrder, tree: str, say: Callable[[str], None]) -> Path:
        scratch = await shield_to_completion(asyncio.to_thread(self._closures.create_scratch))
        try:
            files = scratch / "files"
            await shield_to_completion(asyncio.to_thread(_extract, order, files))
            await check(files, say, self._confine)
            return await shield_to_completion(asyncio.to_thread(self._closures.put, files, order.name, tree))
        finally:
            await shield_to_completion(asyncio.to_thread(self._closures.discard, scratch))

    async def compare(self, old: str | None, new: str) -> list[str]:
        """Return a line if agent.nix has changed and nothing has checked it; the files' differences are shown by git.

        Raises:
            HiveError: `closure_gone` if the new closure no longer exists.
        """

        def read() -> list[str]:
            after = self._closures.need(self._closures.locate(new).parent.name, new) / "agent.nix"
            before = self._closures.locate(old) / "agent.nix" if old and self._closures.has(old) else None
            if find_nix() is not None or (before is not None and before.read_bytes() == after.read_bytes()):
                return []
            return [NOT_CHECKED]

        return await asyncio.to_thread(read)

    async def has(self, closure: str) -> bool:
        """Return True if the closure exists."""
        return await LIFECYCLE.run(self._closures.has, closure)

    async def need(self, name: str, closure: str) -> str:
        """Return the path of the agent's closure, "" for an agent older than closures. Raises `closure_gone`."""
        return str(await LIFECYCLE.run(self._closures.need, name, closure)) if closure else ""

    async def keep(self, name: str, closures: Collection[str]) -> None:
        """Remove the agent's closures that are not in `closures`."""
        await shield_to_completion(LIFECYCLE.run(self._closures.keep, name, closures))


def _tree(order: BuildOrder) -> str:
    with Repository.open(order.repository) as repository:
        return repository.tree(order.commit)


def _extract(order: BuildOrder, into: Path) -> None:
    with Repository.open(order.repository) as repository:
        repository.extract(order.commit, into)


class LocalClosures:
    """The closures of every agent, below `directory`; `scratch` must be on the same file system. Methods block."""

    def __init__(self, directory: Path, scratch: Path) -> None:
        self._directory = directory
        self._scratch = scratch

    def path(self, name: str, tree: str) -> Path:
        """Return the path of the closure of an agent's tree, whether it exists or not."""
        return self._directory / name / tree

    def locate(self, closure: str) -> Path:
        """Return the path of a closure that is named in the database or in a tag, whether it exists or not."""
        return closure_path(self._directory, closure)

    def has(self, closure: str) -> bool:
        """Return True if `closure` is a closure of this hive and exists."""
        path = self.locate(closure)
        return path.parent.parent == self._directory and ".." not in path.parts and path.is_dir()

    def need(self, name: str, closure: str) -> Path:
        """Return the directory of the agent's closure; raises `closure_gone`."""
        path = self.locate(closure)
        if not self.has(closure) or path.parent.name != name:
            why = f"the build output of {name} no longer exists: {closure}"
            raise conflict("closure_gone", why, f"hive-c0re rebuild {name}")
        return path

    def create_scratch(self) -> Path:
        """Make a directory for work in progress; the caller must `discard` it."""
        try:
            with disk_full_as_error("build a configuration"):
                self._scratch.mkdir(parents=True, exist_ok=True)
                return Path(tempfile.mkdtemp(prefix="closure-", dir=self._scratch))
        except OSError as error:
            raise HiveError(
                "cannot_build", f"cannot make a directory in {self._scratch}: {error.strerror}", status=500
            ) from None

    def discard(self, directory: Path) -> None:
        """Remove a directory that `create_scratch` made, with its content."""
        shutil.rmtree(directory, ignore_errors=True)

    def put(self, made: Path, name: str, tree: str) -> Path:
        """Rename `made`, which holds the files of a tree and is on disk, to its closure, unless that exists already."""
        make_readable(made)
        path = self.path(name, tree)
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            made.rename(path)
        except OSError as error:
            # Another build of the same tree has finished first.
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                raise
        sync(path.parent)
        return path

    def keep(self, name: str, closures: Collection[str]) -> None:
        """Remove the agent's closures that are not in `closures`."""
        home = self._directory / name
        kept = {self.locate(closure) for closure in closures}
        for path in [] if not home.is_dir() else list(home.iterdir()):
            if path in kept:
                continue
            scratch = self.create_scratch()
            # Whenever the daemon is killed, the closure either is complete or no longer exists.
            path.rename(scratch / "removed")
            self.discard(scratch)
        with suppress(OSError):
            home.rmdir()
