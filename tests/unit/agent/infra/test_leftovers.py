"""Leftovers of killed programs: half-written files, and locks of git."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from hive_agent.infra import leftovers
from hive_agent.infra.leftovers import remove_git_locks, set_damaged_aside
from hive_agent.repositories.configuration import ConfigRepository
from hive_agent.repositories.git_command import GitFailed


@pytest.mark.parametrize("content", [b"", b"{", b'{"a": 1', b"null,", b"\0" * 100, b"\xff", b"[" * 100_000])
def test_damaged_files_are_set_aside(tmp_path: Path, content: bytes) -> None:
    """Empty, truncated and zeroed files are kept under another name, the newest of them."""
    path = tmp_path / "auth.json"
    for again in (b"old", content):
        path.write_bytes(again)
        assert set_damaged_aside([path]) == [path]
    assert not path.exists()
    assert (tmp_path / "auth.json.damaged").read_bytes() == content


def test_other_files_stay(tmp_path: Path) -> None:
    """Valid ones, missing ones, links, FIFOs and directories are not touched."""
    (tmp_path / "whole").write_text('{"a": 1}')
    (tmp_path / "outside").write_text("{")
    (tmp_path / "link").symlink_to("outside")
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "directory").mkdir()
    names = ("whole", "missing", "link", "fifo", "whole/below")
    assert set_damaged_aside(tmp_path / name for name in names) == []
    assert set_damaged_aside([tmp_path / "directory"]) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["directory", "fifo", "link", "outside", "whole"]


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with a commit, and the locks of a git that was killed."""
    directory = tmp_path / "config"
    git = ["git", "-C", str(directory)]
    subprocess.run(["git", "init", "--quiet", "--initial-branch=main", directory], check=True)
    (directory / "prompt.md").write_text("You wait.\n")
    subprocess.run([*git, "add", "."], check=True)
    person = ["-c", "user.name=ada", "-c", "user.email=ada@hive"]
    subprocess.run([*git, *person, "commit", "--quiet", "-m", "first"], check=True)
    for name in ("index.lock", "HEAD.lock", "refs/heads/main.lock"):
        (directory / ".git" / name).touch()
    return directory


async def test_locks_of_a_killed_git_do_not_stop_a_commit(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are removed before the harness commits, but not while another git runs."""
    config = ConfigRepository(repository, "ada", os.environ)
    monkeypatch.setattr(leftovers, "_git_runs", lambda: True)
    with pytest.raises(GitFailed, match=r"index\.lock"):
        await config.commit({"prompt.md": "You count.\n"}, "second")
    monkeypatch.setattr(leftovers, "_git_runs", lambda: False)
    before = await config.head()
    assert await config.commit({"prompt.md": "You count.\n"}, "second") != before
    assert not list((repository / ".git").rglob("*.lock"))


def test_a_git_that_runs_is_seen(repository: Path) -> None:
    """Its locks are its own."""
    with subprocess.Popen(
        ["git", "-C", str(repository), "cat-file", "--batch"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL
    ) as running:
        assert running.stdin is not None
        assert remove_git_locks(repository) == []
        running.stdin.close()
    assert remove_git_locks(repository / "no") == []
