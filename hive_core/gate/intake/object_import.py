"""The import of objects from a repository that an agent can write, by their ids.

The daemon runs no git in such a repository and reads no setting, hook, ref or index of it: it takes only objects, by
their ids. Two confined commands of git stand between an agent and the repository that the daemon trusts:

    .git/objects ─▶ [git pack-objects] ─pipe─▶ [git index-pack --strict] ─▶ quarantine ─▶ trusted repository

The first command works in an empty repository of the hive that borrows the agent's objects. The second verifies all
objects (see `hive_core.infra.git.quarantine`). Only the bytes of a pack pass between them. The arrived objects are then
checked by the caller, and moved into the trusted repository only if all are acceptable.

A pack is used and not a bundle, because a bundle is a pack with a list of refs, and the intake takes no refs. A pack is
streamed by fewer processes and without a file of unknown size. Files beyond the limit are left out of the pack, so a
huge file costs nothing: `index-pack` reports that it is missing.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from hive_core.errors import HiveError
from hive_core.gate.intake.confinement import Plain, Sandbox, limits
from hive_core.gate.intake.errors import missing_object, missing_object_error, refusal
from hive_core.infra.concurrency.tasks import shield_to_completion
from hive_core.infra.git.cat_file import ARGUMENTS, ObjectReader
from hive_core.infra.git.quarantine import (
    GitEnd,
    GitInvocation,
    GitStarter,
    Quarantine,
    create_bare_repository,
    ended,
    environment,
    finish,
    pipe,
)
from hive_core.infra.processes import describe_exit, readable
from hive_core.infra.storage.disk_space import disk_full, has_room, is_lack_of_space
from hive_core.runtimes.bubblewrap import inspect_host
from hive_core.text import shown

_ACTION = "take a proposal in"
_CHUNK = 64 * 1024


class ImportLimits(Protocol):
    """Limits of an import; see `IntakeLimits`."""

    @property
    def bytes(self) -> int:
        """Largest pack, and largest file."""

    @property
    def seconds(self) -> float:
        """Time limit of the import, and of the processor time of each command."""

    @property
    def memory(self) -> int:
        """Bytes of address space of each command, in addition to the size of a file."""


@dataclass(frozen=True)
class ObjectSource:
    """The repository of an agent: a directory that is surely no link, and the path of the objects below it.

    Paths below the directory may become links at any time; inside the sandbox they lead nowhere else.
    """

    directory: Path
    objects: Path


@dataclass(frozen=True)
class Trusted:
    """The repositories of the daemon: git may read the objects of `reads`, and accepted ones go into `into`."""

    reads: Path
    into: Path


class ObjectImporter:
    """Runs imports. Callers limit the number of imports at a time, because each runs up to three commands of git.

    `bwrap` is the program that confines git, or None if it does not work here. `scratch` is a directory on the file
    system of the trusted repositories; its content may be removed while no import is in progress.
    """

    def __init__(self, bwrap: str | None, scratch: Path, most: ImportLimits) -> None:
        self._bwrap = bwrap
        self._scratch = scratch
        self._most = most
        self._start: GitStarter | None = None
        # All imports share one, because nothing is written to it.
        self._bare: Path | None = None

    @asynccontextmanager
    async def importing(self, source: ObjectSource, trusted: Trusted) -> AsyncIterator[Import]:
        """Import objects within the block, and leave nothing of the quarantine behind it.

        Raises HiveError: `no_such_commit`, `bad_commit`, `bad_object`, `bad_tree`, `too_large`, `intake_slow`,
        `disk_full`, `git_missing`, `intake_failed`.
        """
        if self._start is None:
            self._start = await asyncio.to_thread(_starter, self._bwrap, self._most)
        directory: Path | None = None
        try:
            bare = self._bare = self._bare_repository()
            directory = self._new_directory()
            async with asyncio.timeout(self._most.seconds):
                quarantine = Quarantine(directory, bare, trusted.reads, trusted.into)
                yield Import(self._start, self._most, bare, quarantine, source, trusted)
        except TimeoutError:
            why = f"reading the commit took more than {self._most.seconds:g} s"
            hint = "see that .git/objects holds plain files only, and that git fsck is quick"
            raise HiveError("intake_slow", why, hint=hint) from None
        except OSError as error:
            if is_lack_of_space(error):
                raise disk_full(_ACTION) from error
            why = f"the proposal cannot be read: {error.strerror or error}"
            raise HiveError("intake_failed", why, hint="see the daemon's log", status=500) from error
        finally:
            if directory is not None:
                shutil.rmtree(directory, ignore_errors=True)

    def _bare_repository(self) -> Path:
        if self._bare is not None and (self._bare / "config").exists():
            return self._bare
        directory = self._new_directory()
        try:
            return create_bare_repository(directory)
        except BaseException:
            shutil.rmtree(directory, ignore_errors=True)
            raise

    def _new_directory(self) -> Path:
        self._scratch.mkdir(mode=0o700, parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(prefix="intake-", dir=self._scratch))


@dataclass(frozen=True)
class Import:
    """One import that is under way."""

    start: GitStarter
    most: ImportLimits
    bare: Path
    quarantine: Quarantine
    source: ObjectSource
    trusted: Trusted

    async def accept(self) -> None:
        """Keep the imported objects durably."""
        # The quarantine is removed after this, so the move must not stop in the middle.
        await shield_to_completion(asyncio.to_thread(self.quarantine.accept))

    async def transfer(self, commit: str, but: Sequence[str]) -> None:
        """Bring a commit and all that it reaches into the quarantine, without what the commits `but` reach."""
        wanted = f"{commit}^{{commit}}\n" + "".join(f"^{base}\n" for base in but)
        source, sink = pipe()
        asked, question = pipe()
        async with AsyncExitStack() as stack:
            try:
                # The reader of the pipe first, so that neither command works before its limits are set.
                indexing = self.start(self.quarantine.index_command(self.most.bytes), source)
                await stack.enter_async_context(ended(indexing))
                reading = self.start(self._pack(), asked, sink)
                await stack.enter_async_context(ended(reading))
                os.write(question, wanted.encode())
            finally:
                for descriptor in (source, sink, asked, question):
                    os.close(descriptor)
            ends = await asyncio.gather(finish(reading), finish(indexing))
        if sha := missing_object(ends[1]):
            raise missing_object_error(sha, await self._length(sha), self.most.bytes)
        if error := refusal(*ends, commit, self.most.bytes, self.source.directory):
            # A command that reaches a limit of file sizes does not tell which one: the intake's own, or the daemon's.
            if not await asyncio.to_thread(has_room, self.trusted.into / "objects"):
                raise disk_full(_ACTION) from error
            raise error

    def _pack(self) -> GitInvocation:
        line = ("pack-objects", "--revs", "--stdout", "-q", "--delta-base-offset", "--no-use-bitmap-index")
        return self._at_source(*line, f"--filter=blob:limit={self.most.bytes + 1}")

    def _at_source(self, *arguments: str) -> GitInvocation:
        """Return a command that reads the agent's objects."""
        trusted = self.trusted.reads / "objects"
        # Trusted objects first, so that the agent's repository cannot replace an object that is there already.
        objects = environment(self.bare, None, [trusted, self.source.directory / self.source.objects])
        # All of the directory is mounted, because bwrap resolves mounted paths outside of the sandbox.
        return GitInvocation(arguments, objects, (self.bare, trusted, self.source.directory))

    async def _length(self, sha: str) -> int | None:
        """Return the size of an object according to the agent's repository, or None."""
        end = await self._end_of(self._at_source("cat-file", "-s", sha))
        # A line about objects that the clone borrows, and that are not here, may stand before it.
        found = re.search(r"^([0-9]{1,18})\n\Z", end.output, re.MULTILINE)
        return int(found[1]) if end.status == 0 and found else None

    async def _end_of(self, call: GitInvocation) -> GitEnd:
        """Run a command without input."""
        source, question = pipe()
        try:
            process = self.start(call, source)
        finally:
            os.close(source)
            os.close(question)
        async with ended(process):
            return await finish(process)

    @asynccontextmanager
    async def reader(self) -> AsyncIterator[ObjectReader]:
        """Read objects of the quarantine and of the trusted repository within the block."""
        source, questions = pipe()
        try:
            try:
                process = self.start(self.quarantine.read_command(*ARGUMENTS), source)
            finally:
                os.close(source)
            async with ended(process):
                yield ObjectReader(process, questions)
        finally:
            os.close(questions)

    async def merge_base(self, one: str, other: str) -> str | None:
        """Return the best common ancestor of two commits, or None."""
        end = await self._end_of(self.quarantine.read_command("merge-base", one, other))
        if end.status == 0 and re.fullmatch(r"[0-9a-f]{40}\n", end.output):
            return end.output.strip()
        if end.status == 1:
            return None
        raise _merge_base_failed(end)

    async def count_differing_paths(self, old: str, new: str, most: int) -> int:
        """Return the number of paths in which two commits differ, or one above `most`. Raises `bad_tree`.

        A few objects can make trees of any number of paths. git collects all before it prints one, and ends at its
        limit of memory.
        """
        line = ("diff-tree", "-r", "-z", "--name-only", "--no-renames", old, new, "--")
        source, question = pipe()
        os.close(question)
        try:
            process = self.start(self.quarantine.read_command(*line), source)
        finally:
            os.close(source)
        found, said = 0, b""
        async with ended(process):
            while found <= most:
                await readable(process.output)
                with suppress(BlockingIOError):
                    chunk = os.read(process.output, _CHUNK)
                    if not chunk:
                        break
                    found += chunk.count(b"\0")
                    said = chunk
            else:
                return found
            status = await process.wait()
        if status and b"out of memory" in said:
            return most + 1
        if status:
            why = f"git cannot compare the files of {new} with those of {old}: {describe_exit(status)}"
            raise HiveError("bad_tree", why, hint="keep the directories less deep")
        return found

    async def descends(self, commit: str, base: str) -> bool:
        """Return True if `base` is `commit` or one of its ancestors."""
        end = await self._end_of(self.quarantine.read_command("merge-base", "--is-ancestor", base, commit))
        if end.status not in (0, 1):
            raise _merge_base_failed(end)
        return end.status == 0


def check_commit_id(commit: str) -> None:
    """Raise `bad_commit` unless the text is a full commit id."""
    if re.fullmatch(r"[0-9a-f]{40}", commit) is None:
        hint = "git rev-parse HEAD prints the id"
        raise HiveError("bad_commit", f"{shown(commit)} is not a full commit id (40 digits 0-9 a-f)", hint=hint)


def _merge_base_failed(end: GitEnd) -> HiveError:
    return HiveError("intake_failed", f"git merge-base: {describe_exit(end.status)}", hint="see its log", status=500)


def _starter(bwrap: str | None, most: ImportLimits) -> GitStarter:
    found = shutil.which("git")
    if found is None:
        raise HiveError("git_missing", "cannot run git: it is not there", hint="install git 2.36 or newer", status=500)
    git = Path(found).resolve()
    allowed = limits(most.bytes, most.memory, most.seconds)
    return Plain(git, allowed) if bwrap is None else Sandbox(bwrap, inspect_host(python=()), git, allowed)
