"""The import of a proposed commit from a repository that its agent can write.

The daemon runs no git in such a repository and reads no setting, hook, ref or index of it: it takes only objects, by
their ids. Two confined commands of git stand between an agent and the applied repository:

    config/.git/objects ─▶ [git pack-objects] ─pipe─▶ [git index-pack --strict] ─▶ quarantine ─▶ applied repository

The first command works in an empty repository of the hive that borrows the agent's objects. The second verifies all
objects (see `hive_core.infra.git.quarantine`). Only the bytes of a pack pass between them. The arrived objects are then
checked (`hive_core.gate.intake.tree_check`), and moved into the applied repository only if all are acceptable.

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
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from hive_core.errors import HiveError, conflict
from hive_core.gate.intake import source_check
from hive_core.gate.intake.confinement import Plain, Sandbox, limits
from hive_core.gate.intake.errors import missing_object, missing_object_error, refusal
from hive_core.gate.intake.tree_check import CheckedConfig, read_checked_config, read_head
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
from hive_core.infra.processes import describe_exit
from hive_core.infra.storage.disk_space import disk_full, has_room, is_lack_of_space
from hive_core.protocol import AgentConfig
from hive_core.runtimes.bubblewrap import inspect_host
from hive_core.settings import LimitCeilings
from hive_core.text import shown

_ACTION = "take a proposal in"


@dataclass(frozen=True)
class IntakeLimits:
    """Limits of an intake.

    `bytes` limits the pack, each file and the sum of all files; `files` their number; `seconds` the time, and the
    processor time of each command; `memory` the bytes of address space of each command, in addition to the size of a
    file. `ceilings` are those of the limits in `agent.toml`. `check_settings` raises HiveError for a setting that the
    runtime cannot enforce.
    """

    bytes: int
    files: int
    seconds: float = 30.0
    memory: int = 512 * 1024 * 1024
    ceilings: LimitCeilings = field(default_factory=LimitCeilings)
    check_settings: Callable[[AgentConfig], None] = lambda _: None


class CommitImporter:
    """Imports commits into applied repositories.

    `bwrap` is the program that confines git, or None if it does not work here. `scratch` is a directory on the file
    system of the applied repositories; its content may be removed while no intake is in progress. Callers limit the
    number of intakes at a time, because each runs up to three commands of git.
    """

    def __init__(self, bwrap: str | None, scratch: Path, most: IntakeLimits) -> None:
        self._bwrap = bwrap
        self._scratch = scratch
        self._most = most
        self._start: GitStarter | None = None
        # All intakes share one, because nothing is written to it.
        self._bare: Path | None = None

    async def import_commit(self, config: Path, repository: Path, commit: str, base: str | None) -> CheckedConfig:
        """Check a commit of the repository in `config` and store its objects durably in `repository`, without a ref.

        `base` is the commit that it must descend from, one of `repository`. Raises HiveError: `bad_commit`,
        `no_such_commit`, `no_repository`, `bad_repository`, `bad_object`, `bad_tree`, `too_large`, `too_many_files`,
        `bad_agent_toml`, `above_ceiling`, the errors of `check_settings`, `bad_prompt`, `not_rebased`, `intake_slow`,
        `disk_full`, `git_missing`, `intake_failed`.
        After an error or a cancellation nothing is left behind.
        """
        if re.fullmatch(r"[0-9a-f]{40}", commit) is None:
            hint = "git rev-parse HEAD prints the id"
            raise HiveError("bad_commit", f"{shown(commit)} is not a full commit id (40 digits 0-9 a-f)", hint=hint)
        await asyncio.to_thread(source_check.check, config)
        if self._start is None:
            self._start = await asyncio.to_thread(_starter, self._bwrap, self._most)
        directory: Path | None = None
        try:
            bare = self._bare = self._bare_repository()
            directory = self._new_directory()
            async with asyncio.timeout(self._most.seconds):
                quarantine = Quarantine(directory, bare, repository)
                taking = _Import(self._start, self._most, bare, quarantine, config, repository)
                return await taking.run(commit, base)
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
class _Import:
    """The import of one commit from the directory `config` into `repository`."""

    start: GitStarter
    most: IntakeLimits
    bare: Path
    quarantine: Quarantine
    config: Path
    repository: Path

    async def run(self, commit: str, base: str | None) -> CheckedConfig:
        # The reader waits for requests, so it is started first: the start of its sandbox takes time.
        async with self._reader() as objects:
            await self._transfer(commit, base)
            head = await read_head(objects, commit)
            if base is not None and base not in (commit, *head.parents):
                await self._check_descent(commit, base)
            candidate = await read_checked_config(
                objects, head.tree, self.most.bytes, self.most.files, self.most.ceilings
            )
            self.most.check_settings(candidate.config)
        # The quarantine is removed after this, so the move must not stop in the middle.
        await shield_to_completion(asyncio.to_thread(self.quarantine.accept))
        return candidate

    async def _transfer(self, commit: str, base: str | None) -> None:
        wanted = f"{commit}^{{commit}}\n" + (f"^{base}\n" if base else "")
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
        if error := refusal(*ends, commit, self.most.bytes, self.config):
            # A command that reaches a limit of file sizes does not tell which one: the intake's own, or the daemon's.
            if not await asyncio.to_thread(has_room, self.repository / "objects"):
                raise disk_full(_ACTION) from error
            raise error

    def _pack(self) -> GitInvocation:
        line = ("pack-objects", "--revs", "--stdout", "-q", "--delta-base-offset", "--no-use-bitmap-index")
        return self._at_source(*line, f"--filter=blob:limit={self.most.bytes + 1}")

    def _at_source(self, *arguments: str) -> GitInvocation:
        """Return a command that reads the agent's objects."""
        trusted = self.repository / "objects"
        # Trusted objects first, so that the agent's repository cannot replace an object that is there already.
        objects = environment(self.bare, None, [trusted, self.config / source_check.OBJECTS])
        # All of `config` is mounted, because only `config` itself is surely no link: bwrap resolves mounted paths
        # outside of the sandbox. A path below may have become a link; inside the sandbox it leads nowhere else.
        return GitInvocation(arguments, objects, (self.bare, trusted, self.config))

    async def _length(self, sha: str) -> int | None:
        """Return the size of an object according to the agent's repository, or None."""
        end = await self._end_of(self._at_source("cat-file", "-s", sha))
        return int(end.output) if end.status == 0 and re.fullmatch(r"[0-9]{1,18}\n", end.output) else None

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
    async def _reader(self) -> AsyncIterator[ObjectReader]:
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

    async def _check_descent(self, commit: str, base: str) -> None:
        end = await self._end_of(self.quarantine.read_command("merge-base", "--is-ancestor", base, commit))
        if end.status == 1:
            hint = f'git fetch "$HIVE_AGENT_APPLIED/{self.repository.name}" main && git rebase FETCH_HEAD'
            raise conflict("not_rebased", f"{commit} does not build on {base}, which is deployed now", hint)
        if end.status:
            raise HiveError(
                "intake_failed", f"git merge-base: {describe_exit(end.status)}", hint="see its log", status=500
            )


def _starter(bwrap: str | None, most: IntakeLimits) -> GitStarter:
    found = shutil.which("git")
    if found is None:
        raise HiveError("git_missing", "cannot run git: it is not there", hint="install git 2.36 or newer", status=500)
    git = Path(found).resolve()
    allowed = limits(most.bytes, most.memory, most.seconds)
    return Plain(git, allowed) if bwrap is None else Sandbox(bwrap, inspect_host(python=()), git, allowed)
