"""Leftovers of killed programs: half-written files, and locks of git."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
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


@contextmanager
def running_git(options: list[str], place: Path) -> Iterator[None]:
    """A git that waits for input within the block, started in `place`."""
    line = ["git", *options, "cat-file", "--batch-check"]
    with subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=place) as process:
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(b"HEAD^{missing}\n")
        process.stdin.flush()
        process.stdout.readline()  # It is in its repository now.
        yield
        process.stdin.close()


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
    monkeypatch.setattr(leftovers, "_git_works_in", lambda _: True)
    with pytest.raises(GitFailed, match=r"index\.lock"):
        await config.commit({"prompt.md": "You count.\n"}, "second")
    monkeypatch.setattr(leftovers, "_git_works_in", lambda _: False)
    before = await config.head()
    assert await config.commit({"prompt.md": "You count.\n"}, "second") != before
    assert not list((repository / ".git").rglob("*.lock"))


@pytest.mark.parametrize("where", ["-C", "below", "worktree", "git-dir"])
def test_a_git_that_works_in_the_repository_is_seen(repository: Path, tmp_path: Path, where: str) -> None:
    """Its locks are its own, wherever it was started."""
    (repository / "below").mkdir()
    for lock in (repository / ".git").rglob("*.lock"):
        lock.unlink()
    subprocess.run(["git", "-C", repository, "worktree", "add", "--quiet", tmp_path / "linked"], check=True)
    (repository / ".git" / "index.lock").touch()
    options, place = {
        "-C": (["-C", str(repository)], tmp_path),
        "below": ([], repository / "below"),
        "worktree": ([], tmp_path / "linked"),
        "git-dir": (["--git-dir", str(repository / ".git")], tmp_path),
    }[where]
    with running_git(options, place):
        assert remove_git_locks(repository) == []
    assert remove_git_locks(repository / "no") == []


def test_a_git_of_another_repository_keeps_no_locks(repository: Path, tmp_path: Path) -> None:
    """Work elsewhere on the machine does not keep the locks of a killed git in place."""
    subprocess.run(["git", "init", "--quiet", tmp_path / "config-other"], check=True)
    with running_git([], tmp_path / "config-other"):
        assert len(remove_git_locks(repository)) == 3
