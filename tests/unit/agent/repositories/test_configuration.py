"""The agent's own configuration repository: real git, and what is said when it cannot be used."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from hive_agent.repositories.configuration import ConfigRepository
from hive_agent.repositories.git_command import GitFailed
from tests.unit.agent.config_repository_fixture import config_place, git

VARIABLES = {"PATH": os.environ["PATH"]}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return config_place(tmp_path / "config")


def repository(place: Path) -> ConfigRepository:
    return ConfigRepository(place, "alice", VARIABLES)


async def test_head_is_the_commit_checked_out(place: Path) -> None:
    """The id is that of git, in full."""
    assert await repository(place).head() == git(place, "rev-parse", "HEAD")


async def test_commit_holds_the_changes_and_who_made_them(place: Path) -> None:
    """A commit has the new files, the message and the agent's name; other changes are left where they are."""
    (place / "agent.nix").write_text("half done")
    made = await repository(place).commit({"prompt.md": "Be short.\n"}, "shorter\n\nas bob asked")
    assert git(place, "show", "--no-patch", "--format=%H|%an|%B", "HEAD") == f"{made}|alice|shorter\n\nas bob asked"
    assert git(place, "show", f"{made}:prompt.md") == "Be short."
    assert git(place, "show", "--name-only", "--format=", made) == "prompt.md"
    assert await repository(place).uncommitted() == [" M agent.nix"]


async def test_commit_again_makes_no_second_one(place: Path) -> None:
    """The same changes a second time give the same commit: a message handled twice proposes nothing new."""
    first = await repository(place).commit({"prompt.md": "Be short.\n"}, "shorter")
    assert await repository(place).commit({"prompt.md": "Be short.\n"}, "shorter") == first


async def test_side_by_side(place: Path) -> None:
    """Calls at the same time do not end each other's programs."""
    heads = await asyncio.gather(*[repo.head() for repo in [repository(place)] * 5])
    assert set(heads) == {git(place, "rev-parse", "HEAD")}


async def test_repository_further_up_is_not_used(place: Path) -> None:
    """A directory that is no repository is not taken for a part of the one that it lies in."""
    inside = place / "config"
    inside.mkdir()
    with pytest.raises(GitFailed, match="not a git repository"):
        await repository(inside).commit({"prompt.md": "x"}, "x")
    assert list(inside.iterdir()) == []


async def test_broken_repository_is_told(place: Path) -> None:
    """A repository that git cannot read is told in git's words."""
    (place / ".git/HEAD").write_text("nonsense")
    with pytest.raises(GitFailed, match="git rev-parse"):
        await repository(place).head()


async def test_missing_git_is_told(place: Path) -> None:
    """Where git is not installed, the text says so and what to do; so does a missing directory."""
    with pytest.raises(GitFailed, match="git is not installed here"):
        await ConfigRepository(place, "alice", {"PATH": "/nowhere"}).head()
    with pytest.raises(GitFailed, match="missing"):
        await repository(place / "gone").head()


async def test_environment_cannot_name_another_repository(place: Path, tmp_path: Path) -> None:
    """Variables of git that the harness happens to have do not lead to another repository."""
    other = config_place(tmp_path / "other")
    variables = {**VARIABLES, "GIT_DIR": str(other / ".git"), "GIT_INDEX_FILE": str(other / ".git/index")}
    await ConfigRepository(place, "alice", variables).commit({"prompt.md": "x"}, "x")
    assert git(other, "log", "--format=%s") == "the first"
    assert git(place, "log", "--format=%s", "-1") == "x"
