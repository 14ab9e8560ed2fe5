"""The `agent.nix` that a repository brings for agents that work on it, in `.hive/agent.nix` of its branch."""

from __future__ import annotations

import asyncio
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from hive_core.agents.repositories import KnownRepository
from hive_core.errors import HiveError
from hive_core.gate.intake.confinement import Plain, Sandbox, limits
from hive_core.gate.intake.text_check import check_text
from hive_core.infra.git.quarantine import GitEnd, GitInvocation, GitStarter, ended, environment, finish
from hive_core.runtimes.bubblewrap import inspect_host
from hive_core.text import shown

PATH = ".hive/agent.nix"
_MOST_BYTES = 60_000
"""The largest file that is taken; the output of a command is read up to a little more."""
_MEMORY = 512 * 1024**2
_SECONDS = 30.0
_PLAIN_FILES = ("100644", "100755")


@dataclass(frozen=True)
class Toolchain:
    """The text of the file, and the commit that it is from."""

    text: str
    commit: str


async def read_toolchain(repository: KnownRepository, bwrap: str | None) -> Toolchain | None:
    """Return the file of the repository's branch; None if it has none. git reads the mirror in confinement.

    Raises HiveError: `bad_toolchain` if it is no plain file of text, or too large; the errors of `check_text`.
    """
    start = await asyncio.to_thread(_starter, bwrap)
    branch = f"refs/heads/{repository.branch}"
    try:
        async with asyncio.timeout(_SECONDS):
            found = await _git(start, repository, "rev-parse", "--quiet", "--verify", f"{branch}^{{commit}}")
            commit = found.output.strip()
            if found.status or not commit:
                return None
            listed = await _git(start, repository, "ls-tree", "-l", "--full-tree", commit, PATH)
            if listed.status or not listed.output.strip():
                return None
            mode, _, blob, size = listed.output.split("\t")[0].split()
            if mode not in _PLAIN_FILES:
                raise _bad(repository, "is no plain file")
            if int(size) > _MOST_BYTES:
                raise _bad(repository, f"has {int(size):,} bytes, at most {_MOST_BYTES:,} are taken")
            read = await _git(start, repository, "cat-file", "blob", blob)
    except TimeoutError:
        raise _bad(repository, f"could not be read within {_SECONDS:g} s") from None
    if read.status:
        raise _bad(repository, f"cannot be read: {shown(read.output[:200])}")
    if len(read.output.encode()) != int(size):
        raise _bad(repository, "is no text in UTF-8")
    check_text("agent.nix", read.output.encode())
    return Toolchain(read.output, commit)


async def _git(start: GitStarter, repository: KnownRepository, *arguments: str) -> GitEnd:
    variables = environment(repository.mirror, None, ())
    nothing = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    try:
        process = start(GitInvocation(arguments, variables, (repository.mirror,)), nothing)
    finally:
        os.close(nothing)
    async with ended(process):
        return await finish(process)


def _starter(bwrap: str | None) -> GitStarter:
    found = shutil.which("git")
    if found is None:
        raise HiveError("git_missing", "cannot run git: it is not there", hint="install git 2.36 or newer", status=500)
    git, allowed = Path(found).resolve(), limits(_MOST_BYTES, _MEMORY, _SECONDS)
    return Plain(git, allowed) if bwrap is None else Sandbox(bwrap, inspect_host(python=()), git, allowed)


def _bad(repository: KnownRepository, why: str) -> HiveError:
    return HiveError(
        "bad_toolchain",
        f"{PATH} of the repository {repository.name} {why}",
        hint="correct it there, or give an agent.nix of your own with --config-dir, or packages with --with",
    )
