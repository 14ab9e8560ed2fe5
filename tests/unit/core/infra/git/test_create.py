"""Making and opening the applied repository."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from hive_core.errors import HiveError
from hive_core.infra.git import create
from hive_core.infra.git.repository import Repository
from tests.unit.core.infra.git.builders import Plain, plant, tag


def test_init_again_changes_nothing(repository: Repository, commit: str) -> None:
    """What is there stays; only the configuration is put right."""
    plant(repository, tag("built/1", commit))
    before = repository.tags()
    (repository.path / "config").write_text("[core]\n\tfsmonitor = /bin/evil\n")
    with Repository.init(repository.path) as again:
        assert (again.tags(), again.main()) == (before, commit)
    assert (repository.path / "config").read_text() == create.CONFIG


def test_a_new_repository_is_bare_and_without_hooks(repository: Repository, plain: Plain) -> None:
    """Nothing of git's templates is in it, and plain git reads it without a complaint."""
    assert plain("rev-parse", "--is-bare-repository").strip() == "true"
    assert plain("symbolic-ref", "HEAD").strip() == "refs/heads/main"
    assert not (repository.path / "hooks").exists()


@pytest.mark.parametrize("left", ["nothing", "empty directory", "half beside"])
def test_init_after_a_kill(tmp_path: Path, left: str) -> None:
    """Whatever a killed init left, the next one makes a whole repository and leaves nothing beside it."""
    path = tmp_path / "ada.git"
    if left == "empty directory":
        path.mkdir()
    elif left == "half beside":
        (tmp_path / ".ada.git.new" / "refs").mkdir(parents=True)
    with Repository.init(path) as made:
        assert (made.tags(), made.main()) == ({}, None)
    assert [each.name for each in tmp_path.iterdir()] == ["ada.git"]


def test_a_failed_init_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If it cannot be finished there is no repository, not half of one."""

    def fail(_: Path) -> None:
        raise HiveError("disk_full", "no room")

    monkeypatch.setattr(create, "sync_all", fail)
    with pytest.raises(HiveError):
        Repository.init(tmp_path / "ada.git")
    assert list(tmp_path.iterdir()) == []


def test_opening_what_is_not_there(tmp_path: Path) -> None:
    """`repository_missing` (404) and `repository_damaged` say which; a repository above is not taken instead."""
    with Repository.init(tmp_path / "outer.git") as outer:
        inside = outer.path / "inner.git"
    with pytest.raises(HiveError) as missing:
        Repository.open(inside)
    assert (missing.value.code, missing.value.status) == ("repository_missing", 404)
    inside.mkdir()
    (inside / "HEAD").touch()
    for attempt in (Repository.open, Repository.init):
        with pytest.raises(HiveError) as damaged:
            attempt(inside)
        assert damaged.value.code == "repository_damaged"


def test_a_machine_without_git(repository: Repository, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """`git_missing` says what to install."""
    monkeypatch.setattr("hive_core.infra.git.command.SAFE", {"PATH": str(tmp_path)})
    with pytest.raises(HiveError) as refused:
        repository.tree("1" * 40)
    assert refused.value.code == "git_missing"


def test_importing_the_layer_does_not_import_gitpython() -> None:
    """GitPython is slow to import and runs git when it is: the daemon's start does not wait for it."""
    code = "import sys, hive_core.infra.git.repository as r; sys.exit('git' in sys.modules or 'gitdb' in sys.modules)"
    root = Path(__file__).parents[5]
    subprocess.run([sys.executable, "-c", code], check=True, cwd=root)
