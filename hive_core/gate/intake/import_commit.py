"""Taking a proposed commit in from a repository that its agent can write.

The daemon runs no git in such a repository and reads no setting, hook, ref or index of it: all that is taken from
there is objects, by their ids. Two confined commands of git stand between an agent and the applied repository:

    config/.git/objects ─▶ [git pack-objects] ─pipe─▶ [git index-pack --strict] ─▶ quarantine ─▶ applied repository

The first works in an empty repository of the hive's own that borrows the agent's objects. The second believes nothing
of what it is sent (see `hive_core.infra.git.quarantine`). Nothing but bytes of a pack pass between them. What has
arrived is then read and checked (`hive_core.gate.intake.tree_check`), and moved over only if all of it is good.

A pack is streamed and no bundle made: a bundle is a pack behind a list of refs, and refs are what is not wanted here.
What is in the pack is fetched with the same checks, by fewer processes, and without a file of unknown size between.
Files beyond the limit are left out of it, so a huge one costs nothing: `index-pack` notes that one is missing.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from hive_core.errors import HiveError, conflict
from hive_core.gate.intake import source_check
from hive_core.gate.intake.confinement import Plain, Sandbox, limits
from hive_core.gate.intake.errors import absent, not_sent, refusal
from hive_core.gate.intake.tree_check import CheckedConfig, read_checked_config, read_head
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
from hive_core.infra.tasks import shield_to_completion
from hive_core.runtimes.bubblewrap import inspect_host
from hive_core.settings import LimitCeilings
from hive_core.text import shown


@dataclass(frozen=True)
class IntakeLimits:
    """`bytes`: of the pack, of each file, of all files. `files`: how many. `seconds`: of time, and of processor time
    for each command. `memory`: bytes of address space for each command, beside what a file needs. `ceilings`: of the
    limits that the settings ask for.
    """

    bytes: int
    files: int
    seconds: float = 30.0
    memory: int = 512 * 1024 * 1024
    ceilings: LimitCeilings = field(default_factory=LimitCeilings)


class CommitImporter:
    """Takes commits in. `bwrap` confines git, or None if that does not work here. `scratch` is a directory on the file
    system of the applied repositories; what a killed daemon leaves in it may be removed when no intake is under way.
    How many are taken in at one time is the caller's to limit: each has up to three commands of git.
    """

    def __init__(self, bwrap: str | None, scratch: Path, most: IntakeLimits) -> None:
        self._bwrap = bwrap
        self._scratch = scratch
        self._most = most
        self._start: GitStarter | None = None
        # One for all intakes: nothing is ever written to it.
        self._bare: Path | None = None

    async def import_commit(self, config: Path, repository: Path, commit: str, base: str | None) -> CheckedConfig:
        """Check a commit of the repository in `config` and put its objects into `repository`, for good, without a ref.

        `base` is the commit that it must descend from, one of `repository`. Raises HiveError: `bad_commit`,
        `no_such_commit`, `no_repository`, `bad_repository`, `bad_object`, `bad_tree`, `too_large`, `too_many_files`,
        `bad_agent_toml`, `above_ceiling`, `bad_prompt`, `not_rebased`, `intake_slow`, `disk_full`, `git_missing`,
        `intake_failed`.
        Nothing is left behind then, nor if it is cancelled.
        """
        if re.fullmatch(r"[0-9a-f]{40}", commit) is None:
            hint = "git rev-parse HEAD prints the id"
            raise HiveError("bad_commit", f"{shown(commit)} is not a full commit id (40 digits 0-9 a-f)", hint=hint)
        await asyncio.to_thread(source_check.check, config)
        if self._start is None:
            self._start = await asyncio.to_thread(_starter, self._bwrap, self._most)
        if self._bare is None or not (self._bare / "config").exists():
            self._bare = create_bare_repository(self._new_place())
        directory = self._new_place()
        try:
            async with asyncio.timeout(self._most.seconds):
                quarantine = Quarantine(directory, self._bare, repository)
                taking = _Import(self._start, self._most, self._bare, quarantine, config, repository)
                return await taking.run(commit, base)
        except TimeoutError:
            why = f"reading the commit took more than {self._most.seconds:g} s"
            hint = "see that .git/objects holds plain files only, and that git fsck is quick"
            raise HiveError("intake_slow", why, hint=hint) from None
        except OSError as error:
            why = f"the proposal cannot be read: {error.strerror or error}"
            raise HiveError("intake_failed", why, hint="see the daemon's log", status=500) from error
        finally:
            shutil.rmtree(directory, ignore_errors=True)

    def _new_place(self) -> Path:
        self._scratch.mkdir(mode=0o700, parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(prefix="intake-", dir=self._scratch))


@dataclass(frozen=True)
class _Import:
    """One commit on its way from the directory `config` to `repository`."""

    start: GitStarter
    most: IntakeLimits
    bare: Path
    quarantine: Quarantine
    config: Path
    repository: Path

    async def run(self, commit: str, base: str | None) -> CheckedConfig:
        # Started first: it reads nothing before it is asked, and where it is confined that takes a moment.
        async with self._reader() as objects:
            await self._transfer(commit, base)
            head = await read_head(objects, commit)
            if base is not None and base not in (commit, *head.parents):
                await self._check_descent(commit, base)
            candidate = await read_checked_config(
                objects, head.tree, self.most.bytes, self.most.files, self.most.ceilings
            )
        # The quarantine is removed after this, and half a move is no use to anybody.
        await shield_to_completion(asyncio.to_thread(self.quarantine.accept))
        return candidate

    async def _transfer(self, commit: str, base: str | None) -> None:
        wanted = f"{commit}^{{commit}}\n" + (f"^{base}\n" if base else "")
        source, sink = pipe()
        asked, question = pipe()
        async with AsyncExitStack() as stack:
            try:
                # The one that waits for the other's output first, so that neither works before its limits hold.
                indexing = self.start(self.quarantine.index_command(self.most.bytes), source)
                await stack.enter_async_context(ended(indexing))
                reading = self.start(self._pack(), asked, sink)
                await stack.enter_async_context(ended(reading))
                os.write(question, wanted.encode())
            finally:
                for descriptor in (source, sink, asked, question):
                    os.close(descriptor)
            ends = await asyncio.gather(finish(reading), finish(indexing))
        if sha := absent(ends[1]):
            raise not_sent(sha, await self._length(sha), self.most.bytes)
        if error := refusal(*ends, commit, self.most.bytes, self.config):
            raise error

    def _pack(self) -> GitInvocation:
        line = ("pack-objects", "--revs", "--stdout", "-q", "--delta-base-offset", "--no-use-bitmap-index")
        return self._at_source(*line, f"--filter=blob:limit={self.most.bytes + 1}")

    def _at_source(self, *arguments: str) -> GitInvocation:
        """A command that reads the agent's objects."""
        trusted = self.repository / "objects"
        # The trusted objects first: what is there already cannot be passed off as something else.
        objects = environment(self.bare, None, [trusted, self.config / source_check.OBJECTS])
        # All of `config` is shown, for it alone is sure to be a directory and no link: what is mounted is looked up
        # outside of the sandbox. A path below it may lead anywhere by now; followed in the sandbox, it does not.
        return GitInvocation(arguments, objects, (self.bare, trusted, self.config))

    async def _length(self, sha: str) -> int | None:
        """What the agent's repository says of an object's length."""
        end = await self._end_of(self._at_source("cat-file", "-s", sha))
        return int(end.output) if end.status == 0 and re.fullmatch(r"[0-9]{1,18}\n", end.output) else None

    async def _end_of(self, call: GitInvocation) -> GitEnd:
        """Run a command that has no input."""
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
