"""Files of secrets below a directory in which everybody can write."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from hive_core.agents.grants.secret_files import SecretFiles
from hive_core.layout import Layout


def files_at(top: Path) -> SecretFiles:
    """Return the files of secrets with another top directory than this host would choose."""
    files = SecretFiles(Layout(top.parent / "state", top.parent / "run"))
    files.top = top
    return files


def test_a_link_in_place_of_the_directory_is_not_followed(tmp_path: Path) -> None:
    """A link that somebody else made leads no removal elsewhere, and no agent to other files."""
    other = tmp_path / "other"
    (other / "ada").mkdir(parents=True)
    (other / "ada" / "TOKEN").write_text("kept")
    top = tmp_path / "top"
    top.symlink_to(other)
    files = files_at(top)
    assert files.directory("ada") is None
    acts: list[Callable[[], None]] = [
        files.remove_all,
        lambda: files.remove("ada", "TOKEN"),
        lambda: files.write_all("ada", {}),
    ]
    for act in acts:
        with pytest.raises(OSError, match=r"Not a directory|symbolic links"):
            act()
    assert (other / "ada" / "TOKEN").read_text() == "kept"


def test_the_directory_of_another_user_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What another user has put in its place is neither shown to an agent nor changed."""
    top = tmp_path / "top"
    (top / "ada").mkdir(parents=True)
    (top / "ada" / "TOKEN").write_text("theirs")
    files = files_at(top)
    assert files.directory("ada") == top / "ada"
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    assert files.directory("ada") is None
    acts: list[Callable[[], None]] = [
        files.remove_all,
        lambda: files.remove("ada", "TOKEN"),
        lambda: files.write("ada", "TOKEN", b"x"),
    ]
    for act in acts:
        with pytest.raises(PermissionError, match="another user"):
            act()
    assert (top / "ada" / "TOKEN").read_text() == "theirs"


def test_a_link_in_place_of_an_agents_directory_is_not_shown(tmp_path: Path) -> None:
    """An agent is shown its own directory of secrets, never one that a link leads to."""
    top = tmp_path / "top"
    top.mkdir()
    (top / "ada").symlink_to("/")
    assert files_at(top).directory("ada") is None
