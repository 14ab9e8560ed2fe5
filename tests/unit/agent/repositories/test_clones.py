"""The agent's clones: made at once, kept for ever, and never half made."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from hive_agent.repositories.clones import prepare_clones
from hive_agent.repositories.places import RepositoryPlace
from tests.helpers.git_repos import git


class Hive:
    """A repository `web` with one commit, its mirror, and the directory of an agent's clones."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.source, self.code = directory / "source", directory / "code"
        self.mirror = directory / "repos/web.git"
        self.clone = self.code / "web"
        for path in (self.source, self.code, self.mirror.parent):
            path.mkdir()
        git(self.source, "init", "--quiet", "--initial-branch=main")
        self.commit("a.txt", "one\n")
        git(self.mirror.parent, "clone", "--quiet", "--mirror", str(self.source), str(self.mirror))

    @property
    def place(self) -> RepositoryPlace:
        return RepositoryPlace("web", "main", self.mirror, self.clone, "ada/work", instructions=True)

    def commit(self, name: str, text: str) -> str:
        (self.source / name).write_text(text)
        git(self.source, "add", "--all")
        git(self.source, "commit", "--quiet", "--message", name)
        return git(self.source, "rev-parse", "HEAD")

    def land(self, name: str) -> str:
        commit = self.commit(name, "landed\n")
        git(self.mirror, "fetch", "--quiet")
        return commit

    async def prepare(self, places: Sequence[RepositoryPlace] | None = None) -> list[str]:
        return await prepare_clones([self.place] if places is None else places, self.code, os.environ)


@pytest.fixture
def hive(tmp_path: Path) -> Hive:
    return Hive(tmp_path)


async def test_a_clone_is_made(hive: Hive) -> None:
    """The files are there on a branch of the agent's own, a pull gets what landed, and a push says what to do."""
    assert await hive.prepare() == []
    assert (hive.clone / "a.txt").read_text() == "one\n"
    assert git(hive.clone, "branch", "--all", "--format=%(refname)").split() == [
        "refs/heads/ada/work",
        "refs/remotes/origin/HEAD",
        "refs/remotes/origin/main",
    ]
    assert git(hive.clone, "status", "--porcelain") == ""
    assert not list((hive.clone / ".git/objects/pack").glob("*.pack"))
    (hive.clone / "own.txt").write_text("own\n")
    git(hive.clone, "add", "own.txt")
    git(hive.clone, "commit", "--quiet", "--message", "own")
    landed = hive.land("b.txt")
    git(hive.clone, "pull", "--quiet")
    assert git(hive.clone, "rev-parse", "HEAD~1") == landed
    with pytest.raises(AssertionError, match="is read-only, commit and call the tool submit_work instead"):
        git(hive.clone, "push")


async def test_an_existing_clone_is_kept(hive: Hive) -> None:
    """Work in a clone is never touched: neither commits, nor changed files, nor what is staged."""
    await hive.prepare()
    (hive.clone / "a.txt").write_text("two\n")
    (hive.clone / "new.txt").write_text("new\n")
    git(hive.clone, "add", "new.txt")
    git(hive.clone, "checkout", "--quiet", "-b", "elsewhere")
    before = git(hive.clone, "status", "--branch", "--porcelain")
    (hive.clone / ".git/index.lock").touch()
    assert await hive.prepare() == []
    assert git(hive.clone, "status", "--branch", "--porcelain") == before
    git(hive.clone, "commit", "--quiet", "--message", "a lock that a killed git has left is gone")


async def test_nothing_of_the_repository_runs(hive: Hive, tmp_path: Path) -> None:
    """No filter and no hook of anybody runs while a clone is made or checked."""
    trace = tmp_path / "trace"
    hive.commit(".gitattributes", "* filter=evil\n")
    git(hive.mirror, "fetch", "--quiet")
    home = tmp_path / "home"
    hooks = home / "hooks"
    hooks.mkdir(parents=True)
    for hook in ("post-checkout", "reference-transaction", "post-index-change"):
        (hooks / hook).write_text(f"#!/bin/sh\ntouch {trace}\n")
        (hooks / hook).chmod(0o755)
    settings = (
        f'[filter "evil"]\n\tsmudge = touch {trace}; cat\n[core]\n\thooksPath = {hooks}\n\tfsmonitor = touch {trace}\n'
    )
    (home / ".gitconfig").write_text(settings)
    for _ in range(2):
        assert await prepare_clones([hive.place], hive.code, {**os.environ, "HOME": str(home)}) == []
        shutil.copytree(hooks, hive.clone / ".git/hooks", dirs_exist_ok=True)
    assert not trace.exists()


@pytest.mark.parametrize("content", ["file", "directory", "link"])
async def test_what_is_in_the_way(hive: Hive, content: str) -> None:
    """What is no clone stays as it is, and the operator is told what to do."""
    if content == "file":
        hive.clone.write_text("mine")
    elif content == "directory":
        hive.clone.mkdir()
        (hive.clone / "mine").touch()
    else:
        hive.clone.symlink_to("nowhere")
    (problem,) = await hive.prepare()
    assert problem.startswith(f"{hive.clone} is no git repository, so the hive leaves it as it is: move it away")
    assert hive.clone in list(hive.code.iterdir())
    assert not (hive.clone / ".git").exists()


async def test_damage_is_told_or_mended(hive: Hive) -> None:
    """An empty index is written anew, a branch without its commit is told, and neither costs a file."""
    await hive.prepare()
    (hive.clone / "a.txt").write_text("two\n")
    (hive.clone / ".git/index").write_bytes(b"")
    assert await hive.prepare() == []
    assert git(hive.clone, "status", "--porcelain") == "M a.txt"
    (hive.clone / ".git/refs/heads/ada/work").write_text("")
    (problem,) = await hive.prepare()
    assert problem.startswith(f"{hive.clone} is damaged")
    assert (hive.clone / "a.txt").read_text() == "two\n"


async def test_a_branch_that_is_not_there_yet(hive: Hive) -> None:
    """The clone of a repository without its branch is empty and says so; a pull gets the branch when it is there."""
    git(hive.mirror, "update-ref", "-d", "refs/heads/main")
    (problem,) = await hive.prepare()
    assert "has no branch main yet" in problem
    assert await hive.prepare() == []
    git(hive.mirror, "fetch", "--quiet")
    git(hive.clone, "pull", "--quiet")
    assert (hive.clone / "a.txt").read_text() == "one\n"


async def test_a_repository_that_is_no_longer_named(hive: Hive) -> None:
    """Its clone stays, and it is told what cannot be read; named again, at another path, it works as before."""
    await hive.prepare()
    assert await hive.prepare(()) == []
    hive.mirror.parent.rename(hive.directory / "moved")
    (problem,) = await hive.prepare(())
    assert problem.startswith(f"{hive.clone} borrows objects of a repository that this agent does not see any more")
    hive.mirror = hive.directory / "moved/web.git"
    assert await hive.prepare() == []
    assert git(hive.clone, "log", "--format=%s") == "a.txt"
    git(hive.clone, "pull", "--quiet")


PROGRAM = """
import asyncio, os, pathlib, sys
from hive_agent.repositories.clones import prepare_clones
from hive_agent.repositories.places import RepositoryPlace
mirror, code = map(pathlib.Path, sys.argv[1:])
place = RepositoryPlace("web", "main", mirror, code / "web", "ada/work", True)
print(asyncio.run(prepare_clones([place], code, os.environ)))
"""


async def test_a_harness_that_is_killed(hive: Hive) -> None:
    """Killed at any moment, it leaves no clone that is half made, and the next harness makes or finds a whole one."""
    for number in range(300):
        (hive.source / f"file{number}").write_text("x" * 1_000)
    commit = hive.land("last.txt")
    for delay in (0.1, 0.2, 0.3, 0.4, 0.5):
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-c", PROGRAM, str(hive.mirror), str(hive.code)), start_new_session=True
        )
        try:
            async with asyncio.timeout(delay):
                await process.wait()
        except TimeoutError:
            os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
        if hive.clone.exists():
            assert git(hive.clone, "status", "--porcelain") == ""
            shutil.rmtree(hive.clone)
    assert await hive.prepare() == []
    assert [path.name for path in hive.code.iterdir()] == ["web"]
    assert git(hive.clone, "rev-parse", "HEAD") == commit
