"""The agent.nix that a repository brings: read in confinement, as text, and from its branch only."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from hive_core.agents.repositories import KnownRepository
from hive_core.errors import HiveError
from hive_core.gate.intake.toolchain import read_toolchain
from tests.helpers.git_repos import git

BWRAP = [None, *([found] if (found := shutil.which("bwrap")) else [])]


def mirror_with(tmp_path: Path, content: bytes | None, *, link: bool = False) -> KnownRepository:
    """A mirror whose branch has this file, or a link in its place."""
    source = tmp_path / "source"
    (source / ".hive").mkdir(parents=True)
    git(source, "init", "--quiet", "--initial-branch=main")
    (source / "a.txt").touch()
    if link:
        (source / ".hive/agent.nix").symlink_to("/etc/passwd")
    elif content is not None:
        (source / ".hive/agent.nix").write_bytes(content)
    git(source, "add", "--all")
    git(source, "commit", "--quiet", "--message", "one")
    git(tmp_path, "clone", "--quiet", "--mirror", str(source), str(tmp_path / "web.git"))
    return KnownRepository("web", tmp_path / "web.git", "main")


@pytest.mark.parametrize("bwrap", BWRAP)
async def test_the_file_of_the_branch(tmp_path: Path, bwrap: str | None) -> None:
    """The text is that of the branch, with the commit that it is from."""
    found = await read_toolchain(mirror_with(tmp_path, b"{ }\n"), bwrap)
    assert found is not None
    assert (found.text, found.commit) == ("{ }\n", git(tmp_path / "source", "rev-parse", "HEAD"))


async def test_a_repository_without_the_file(tmp_path: Path) -> None:
    """Without the file, or without the branch, there is nothing to take."""
    known = mirror_with(tmp_path, None)
    assert await read_toolchain(known, None) is None
    assert await read_toolchain(KnownRepository("web", known.mirror, "other"), None) is None


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"#" * 60_001, "bad_toolchain"),
        (b"\xff\xfe", "bad_toolchain"),
        ("{ }\u202e".encode(), "bad_text"),
        (None, "bad_toolchain"),
    ],
)
async def test_what_is_refused(tmp_path: Path, content: bytes | None, code: str) -> None:
    """Large files, links, what is no text and characters that cannot be seen are refused."""
    with pytest.raises(HiveError) as refused:
        await read_toolchain(mirror_with(tmp_path, content, link=content is None), None)
    assert refused.value.code == code
