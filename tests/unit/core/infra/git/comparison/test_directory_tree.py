"""The ids of directories on disk, compared with those that git gives."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from hive_core.infra.git.comparison.directory_tree import NotATreeError, tree_id

FILES = {
    "agent.nix": b"{ }\n",
    "lib/x.nix": b"\x00\xff\r\n",
    "lib.nix": b"",
    "lib-a": b"1",
    "lib/deep/er/y": b"2" * 3_000_000,
    "odd \xff\n name".encode("latin-1").decode(errors="surrogateescape"): b"3",
    ".gitattributes": b"* export-subst eol=crlf filter=x\nlib.nix export-ignore\n",
}


def write(directory: Path) -> Path:
    for name, content in FILES.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    (directory / "lib-a").chmod(0o755)
    return directory


def of_git(directory: Path, repository: Path) -> str:
    """The id of the tree that real git makes of a directory, as if there were no attributes."""

    def git(*arguments: str) -> str:
        line = ["git", f"--git-dir={repository}", f"--work-tree={directory}", *arguments]
        return subprocess.run(line, check=True, capture_output=True, text=True).stdout.strip()

    git("init", "--quiet")
    (repository / "info").mkdir(exist_ok=True)
    (repository / "info/attributes").write_text("* !eol !filter !text\n")
    git("add", "--all")
    return git("write-tree")


def test_the_id_is_that_of_git(tmp_path: Path) -> None:
    """Names, contents, executable bits and the order of entries are git's, and no attribute has an effect."""
    files = write(tmp_path / "files")
    assert tree_id(files) == of_git(files, tmp_path / "repository")


@pytest.mark.parametrize(
    "change",
    [
        lambda files: (files / "agent.nix").write_bytes(b"{  }\n"),
        lambda files: (files / "agent.nix").chmod(0o755),
        lambda files: (files / "agent.nix").rename(files / "agent2.nix"),
        lambda files: (files / "lib/new").write_bytes(b""),
        lambda files: (files / "lib-a").unlink(),
    ],
)
def test_every_change_is_another_id(tmp_path: Path, change: Callable[[Path], object]) -> None:
    """A content, a mode, a name, one file more and one less each give another id."""
    files = write(tmp_path / "files")
    before = tree_id(files)
    change(files)
    assert tree_id(files) != before


@pytest.mark.parametrize(
    "add",
    [
        lambda files: (files / "link").symlink_to("agent.nix"),
        lambda files: (files / "lib/link").symlink_to("deep"),
        lambda files: (files / "empty").mkdir(),
        lambda files: os.mkfifo(files / "pipe"),
        lambda files: Path(files, *"d" * 300).mkdir(parents=True),
    ],
)
def test_only_plain_files_are_a_tree(tmp_path: Path, add: Callable[[Path], object]) -> None:
    """Links, special files, empty directories and endless ones are refused, without being followed or opened."""
    files = write(tmp_path / "files")
    add(files)
    with pytest.raises(NotATreeError):
        tree_id(files)
