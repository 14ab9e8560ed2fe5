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
from collections import Counter
from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path

from hive_core.errors import HiveError, conflict
from hive_core.infra.git.repository import Repository
from hive_core.infra.tasks import shield_to_completion
from hive_core.runtimes.base import BuildOrder
from hive_core.runtimes.local.config_check import Confine, check


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
        """What differs between two closures, in words, a line each. Raises `closure_gone` if the new one is gone."""

        def read() -> list[str]:
            after = self._closures.need(Path(new).parent.name, new)
            if old and not self._closures.has(old):
                return ["what is in force was not kept: everything is shown as new", *compare(None, after)]
            return compare(Path(old) if old else None, after)

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
        _sync(path.parent)
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


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


_LARGEST = 256 * 1024
"""Bytes of the largest file whose lines are counted."""
_MOST = 200
"""Most lines of words."""


def compare(old: Path | None, new: Path) -> list[str]:
    """A line for each file that was added, removed or changed; `old` of None is an empty directory."""
    before, after = deployed_files(old) if old else {}, deployed_files(new)
    words = []
    for name in sorted({*before, *after}):
        if name not in before:
            words.append(f"{name} added ({_size(after[name])})")
        elif name not in after:
            words.append(f"{name} removed ({_size(before[name])})")
        else:
            words += _changed(name, before[name], after[name])
    if len(words) > _MOST:
        words[_MOST - 1 :] = [f"and {len(words) - _MOST + 1} more files"]
    return words


def deployed_files(directory: Path) -> dict[str, Path]:
    """The plain files below `directory`, by their paths in it."""
    return {
        str(Path(parent, name).relative_to(directory)): Path(parent, name)
        for parent, _, names in os.walk(directory)
        for name in names
    }


def _changed(name: str, old: Path, new: Path) -> list[str]:
    sizes = old.stat().st_size, new.stat().st_size
    modes = old.stat().st_mode & 0o100, new.stat().st_mode & 0o100
    words = []
    if modes[0] != modes[1]:
        words.append(f"{name} is {'now' if modes[1] else 'no longer'} executable")
    if max(sizes) > _LARGEST:
        if sizes[0] != sizes[1] or not _same(old, new):
            words.append(f"{name} changed (from {sizes[0]:,} to {sizes[1]:,} bytes)")
        return words
    before, after = old.read_bytes(), new.read_bytes()
    if before != after:
        words.append(f"{name} changed ({_lines(before, after)})")
    return words


def _lines(before: bytes, after: bytes) -> str:
    if b"\0" in before or b"\0" in after:
        return f"from {len(before):,} to {len(after):,} bytes"
    # Lines counted without their order: linear, whatever an agent has written.
    lines = Counter(before.splitlines()), Counter(after.splitlines())
    added, removed = (lines[1] - lines[0]).total(), (lines[0] - lines[1]).total()
    if not added and not removed:
        return "only the ends of lines" if before.splitlines() == after.splitlines() else "the order of lines"
    return f"{added} line{'' if added == 1 else 's'} added, {removed} removed"


def _same(old: Path, new: Path) -> bool:
    with old.open("rb") as left, new.open("rb") as right:
        while chunk := left.read(_LARGEST):
            if chunk != right.read(_LARGEST):
                return False
        return not right.read(1)


def _size(path: Path) -> str:
    size = path.stat().st_size
    if size > _LARGEST:
        return f"{size:,} bytes"
    lines = len(path.read_bytes().splitlines())
    return f"{lines} line{'' if lines == 1 else 's'}"
