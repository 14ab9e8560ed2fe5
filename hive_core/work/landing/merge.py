"""Merges of approved work into a branch that has moved meanwhile.

Confined commands of git make the merge commit in a quarantine, from objects alone: there is no index and no working
tree, and the repository in which they run is an empty one of the hive. So no attribute, merge driver, filter, hook or
setting of the work has an effect. Some versions of git follow renames whatever the settings say; such a merge writes to
other paths than the proposal, and goes back.

A merge is only accepted if it is what people have approved: it differs from the branch in nothing but the paths that
the proposal changes, and each of these has exactly the approved content and mode.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import time
from collections.abc import Iterable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from hive_core.errors import HiveError
from hive_core.gate.intake.confinement import Plain, Sandbox, limits
from hive_core.infra.concurrency.tasks import shield_to_completion
from hive_core.infra.concurrency.threads import GATE
from hive_core.infra.git.command import FLAGS
from hive_core.infra.git.names import check_sha
from hive_core.infra.git.objects import Person, message_bytes, person_line
from hive_core.infra.git.quarantine import (
    GitInvocation,
    GitStarter,
    Quarantine,
    create_bare_repository,
    ended,
    environment,
    finish,
    pipe,
)
from hive_core.infra.processes import describe_exit, read_all
from hive_core.infra.storage.disk_space import disk_full, has_room, is_lack_of_space
from hive_core.runtimes.bubblewrap import inspect_host
from hive_core.text import escaped_first_line

_ACTION = "merge a proposal"
_SECONDS = 300.0
_MEMORY = 1024 * 1024 * 1024
_FILE_BYTES = 256 * 1024 * 1024
_LIST_BYTES = 64 * 1024 * 1024
_ERROR_BYTES = 64 * 1024
_SHOWN = 1_000
"""Paths of a conflict or a change that are returned."""
_NO_RENAMES = ("-c", "merge.renames=false", "-c", "merge.directoryRenames=false", "-c", "diff.renames=false")
_NO_ATTRIBUTES = "* !merge !conflict-marker-size !text !eol !filter !diff\n"
"""Attributes that go before those of any other file, should a version of git look for them in a tree."""
_OID = re.compile(rb"[0-9a-f]{40}")
_CHANGE = re.compile(rb":[0-7]{6} ([0-7]{6}) [0-9a-f]{40} ([0-9a-f]{40}) [A-Z]")


@dataclass(frozen=True)
class Merged:
    """A merge commit with the parents `branch` and `approved`, in that order; the repository has it without a ref."""

    commit: str
    tree: str


@dataclass(frozen=True)
class Conflict:
    """Git cannot merge; `paths` are those in conflict, at most 1,000 of them. They are an agent's words."""

    paths: tuple[str, ...]


@dataclass(frozen=True)
class Changed:
    """The merge is not what was approved: `paths`, at most 1,000 of them, would have another content or mode.

    The paths are an agent's words.
    """

    paths: tuple[str, ...]


class Merger:
    """Makes merges. `bwrap` confines git, or is None where it does not work.

    `scratch` is a directory on the file system of the repositories. Its content may be removed while no merge is in
    progress. The caller limits the number of merges at a time.
    """

    def __init__(self, bwrap: str | None, scratch: Path) -> None:
        self._bwrap = bwrap
        self._scratch = scratch
        self._start: GitStarter | None = None

    async def merge(
        self, repository: Path, branch: str, approved: str, base: str, message: str, author: Person
    ) -> Merged | Conflict | Changed:
        """Merge the commit `approved`, which was made on top of `base`, into the commit `branch`.

        All are in the bare `repository`, in whose objects the merge commit is stored durably if it is accepted; no ref
        changes. Raises HiveError: `merge_failed`, `merge_slow`, `disk_full`, `git_missing`.
        """
        for commit in (branch, approved, base):
            check_sha(commit)
        if self._start is None:
            self._start = await GATE.run(_starter, self._bwrap)
        directory = self._scratch / f"merge-{os.urandom(8).hex()}"
        try:
            bare = await GATE.run(_make_directories, directory)
            async with asyncio.timeout(_SECONDS):
                work = _Merge(self._start, repository, directory, bare, branch, approved)
                return await work.run(base, message, author)
        except TimeoutError:
            why = f"the merge took more than {_SECONDS:g} s"
            raise HiveError(
                "merge_slow", why, hint="rebase the proposal, so that it needs no merge", status=503
            ) from None
        except OSError as error:
            if is_lack_of_space(error):
                raise disk_full(_ACTION) from error
            why = f"the merge cannot be made: {error.strerror or error}"
            raise HiveError("merge_failed", why, hint="see the daemon's log", status=500) from error
        finally:
            await shield_to_completion(GATE.run(shutil.rmtree, directory, ignore_errors=True))


@dataclass(frozen=True)
class _Merge:
    """One merge. Git writes new objects into a directory of its own, and only `_keep` takes them from there."""

    start: GitStarter
    repository: Path
    directory: Path
    bare: Path
    branch: str
    approved: str

    async def run(self, base: str, message: str, author: Person) -> Merged | Conflict | Changed:
        arguments = ("merge-tree", "--write-tree", "-z", "--name-only", "--no-messages", self.branch, self.approved)
        status, output = await self._git(*arguments, fine=(0, 1))
        tree, *paths = output.removesuffix(b"\0").split(b"\0")
        if not _OID.fullmatch(tree):
            raise _failed("merge-tree", "it names no tree")
        if status:
            return Conflict(_shown(path for path in paths if path))
        if changed := await self._differences(tree.decode(), base):
            return Changed(changed)
        commit = await self._commit(tree.decode(), message, author)
        await self._keep(commit)
        return Merged(commit, tree.decode())

    async def _differences(self, tree: str, base: str) -> tuple[str, ...]:
        """Return the paths that the merge has otherwise than it was approved."""
        proposed, landed, others = await asyncio.gather(
            self._changes(base, self.approved),
            self._changes(self.branch, tree),
            self._changes(self.approved, tree),
        )
        # What the branch has got meanwhile differs from the approved tree, but in no path of the proposal.
        return _shown((landed.keys() - proposed.keys()) | (others.keys() & proposed.keys()))

    async def _changes(self, old: str, new: str) -> dict[bytes, tuple[bytes, bytes]]:
        """Return mode and object of every path that differs, as `new` has them."""
        arguments = ("diff-tree", "-r", "-z", "--raw", "--no-renames", "--full-index", "--no-ext-diff", old, new, "--")
        _, output = await self._git(*arguments)
        fields = output.split(b"\0")
        changes = {}
        for head, path in zip(fields[0::2], fields[1::2], strict=False):
            found = _CHANGE.fullmatch(head)
            if found is None:
                raise _failed("diff-tree", "its answer cannot be read")
            changes[path] = (found[1], found[2])
        if fields[-1] or len(fields) != 2 * len(changes) + 1:
            raise _failed("diff-tree", "its answer is cut")
        return changes

    async def _commit(self, tree: str, message: str, author: Person) -> str:
        when = person_line(author, int(time.time())).decode()
        name, _, rest = when.rpartition(" <")
        email, _, date = rest.partition("> ")
        variables = {
            f"GIT_{who}_{what}": text
            for who in ("AUTHOR", "COMMITTER")
            for what, text in (("NAME", name), ("EMAIL", email), ("DATE", f"@{date}"))
        }
        arguments = ("commit-tree", "--no-gpg-sign", "-p", self.branch, "-p", self.approved, tree)
        _, output = await self._git(*arguments, feed=message_bytes(message), variables=variables)
        commit = output.strip()
        if not _OID.fullmatch(commit):
            raise _failed("commit-tree", "it names no commit")
        return commit.decode()

    async def _keep(self, commit: str) -> None:
        """Bring the new objects into the repository through a quarantine, where each is hashed and checked again."""
        (self.directory / "incoming").mkdir()
        quarantine = Quarantine(self.directory / "incoming", self.bare, self.repository)
        into = quarantine.index_command(_FILE_BYTES)
        into = replace(into, reads=(*into.reads, *_lenders(self.repository)))
        out_of = self._call("pack-objects", "--revs", "--stdout", "-q", "--delta-base-offset", "--no-use-bitmap-index")
        wanted = f"{commit}\n^{self.branch}\n^{self.approved}\n"
        source, sink = pipe()
        question = _input(wanted.encode())
        async with AsyncExitStack() as stack:
            try:
                # The reader of the pipe first, so that neither command works before its limits are set.
                indexing = self.start(into, source)
                await stack.enter_async_context(ended(indexing))
                packing = self.start(out_of, question, sink)
                await stack.enter_async_context(ended(packing))
            finally:
                for descriptor in (source, sink, question):
                    os.close(descriptor)
            ends = await asyncio.gather(finish(packing), finish(indexing))
        for name, end in zip(("pack-objects", "index-pack"), ends, strict=True):
            if end.status:
                await self._check_room()
                raise _failed(name, f"{describe_exit(end.status)}: {escaped_first_line(end.output)}")
        await shield_to_completion(GATE.run(quarantine.accept))

    async def _git(
        self,
        *arguments: str,
        feed: bytes = b"",
        variables: dict[str, str] | None = None,
        fine: Sequence[int] = (0,),
    ) -> tuple[int, bytes]:
        """Run a command; returns its exit code, one of `fine`, and its standard output. Raises `merge_failed`."""
        call = self._call(*arguments)
        call = replace(call, environment={**call.environment, **(variables or {})})
        source = _input(feed)
        answer, writer = pipe()
        try:
            os.set_blocking(answer, False)
            try:
                process = self.start(call, source, writer)
            finally:
                os.close(source)
                os.close(writer)
            async with ended(process):
                output, errors = await asyncio.gather(
                    read_all(answer, _LIST_BYTES + 1), read_all(process.output, _ERROR_BYTES)
                )
                status = await process.wait()
        finally:
            os.close(answer)
        if status not in fine:
            await self._check_room()
            raise _failed(
                arguments[0], f"{describe_exit(status)}: {escaped_first_line(errors.decode(errors='replace'))}"
            )
        if len(output) > _LIST_BYTES:
            raise _failed(arguments[0], "the list of paths is too long")
        return status, output

    def _call(self, *arguments: str) -> GitInvocation:
        objects, trusted = self.directory / "objects", self.repository / "objects"
        variables = environment(self.bare, objects, [trusted])
        reads = (self.bare, trusted, *_lenders(self.repository))
        return GitInvocation((*FLAGS, *_NO_RENAMES, *arguments), variables, reads, (objects,))

    async def _check_room(self) -> None:
        if not await GATE.run(has_room, self.repository / "objects"):
            raise disk_full(_ACTION)


def _make_directories(directory: Path) -> Path:
    """Create the directory of a merge, and return the empty repository in it."""
    directory.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    directory.mkdir(mode=0o700)
    (directory / "objects").mkdir()
    bare = create_bare_repository(directory / "bare")
    (bare / "info").mkdir()
    (bare / "info" / "attributes").write_text(_NO_ATTRIBUTES)
    return bare


def _lenders(repository: Path) -> list[Path]:
    """Return the object directories that a repository of the hive borrows from (gitrepository-layout(5))."""
    objects = repository / "objects"
    try:
        lines = (objects / "info" / "alternates").read_text().splitlines()
    except FileNotFoundError:
        return []
    return [objects / line for line in lines if line and not line.startswith("#")]


def _input(content: bytes) -> int:
    """Return a descriptor from which `content` can be read, all of which is there already."""
    descriptor = os.memfd_create("input", os.MFD_CLOEXEC)
    try:
        with os.fdopen(os.dup(descriptor), "wb") as file:
            file.write(content)
        os.lseek(descriptor, 0, os.SEEK_SET)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _shown(paths: Iterable[bytes]) -> tuple[str, ...]:
    return tuple(sorted(path.decode(errors="replace") for path in paths)[:_SHOWN])


def _starter(bwrap: str | None) -> GitStarter:
    found = shutil.which("git")
    if found is None:
        raise HiveError("git_missing", "cannot run git: it is not there", hint="install git 2.38 or newer", status=500)
    git = Path(found).resolve()
    allowed = limits(_FILE_BYTES, _MEMORY, _SECONDS)
    return Plain(git, allowed) if bwrap is None else Sandbox(bwrap, inspect_host(python=()), git, allowed)


def _failed(command: str, why: str) -> HiveError:
    hint = "see the daemon's log; git 2.38 or newer is needed to merge"
    return HiveError("merge_failed", f"git {command} failed: {why}", hint=hint, status=500)
