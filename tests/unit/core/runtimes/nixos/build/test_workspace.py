"""The directory that a build works in."""

from __future__ import annotations

import json
import os
import stat
import subprocess
from pathlib import Path

import pytest

from hive_core.errors import HiveError
from hive_core.runtimes.nixos.build import workspace


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """An applied repository that nobody else can read, with two proposals."""
    work, path = tmp_path / "work", tmp_path / "ada.git"
    line = ["git", "-c", "user.name=hive", "-c", "user.email=hive@localhost"]
    subprocess.run([*line, "init", "--quiet", "--initial-branch=main", str(work)], check=True)
    for number in (1, 2):
        (work / "agent.nix").write_text(f"{{ n = {number}; }}\n")
        for command in (["add", "."], ["commit", "--quiet", "-m", "x"], ["tag", "-a", f"proposal/{number}", "-m", "x"]):
            subprocess.run([*line, "-C", str(work), *command], check=True)
    subprocess.run(["git", "clone", "--quiet", "--bare", str(work), str(path)], check=True)
    path.chmod(0o700)
    for parent, _, files in os.walk(path):
        for name in files:
            Path(parent, name).chmod(0o600)
    return path


def empty(scratch: Path) -> workspace.BuildWorkspace:
    build_workspace = workspace.BuildWorkspace.of(scratch, "ada-1")
    workspace.create_workspace(build_workspace, "{ }")
    return build_workspace


def refs(repository: Path) -> list[str]:
    line = ["git", f"--git-dir={repository}", "for-each-ref", "--format=%(refname)"]
    return subprocess.run(line, check=True, capture_output=True, text=True).stdout.split()


def test_a_build_gets_what_it_needs(tmp_path: Path, repository: Path) -> None:
    """The flake, a lock, a git that trusts the repository, and of the history what the proposal reaches."""
    build_workspace = workspace.BuildWorkspace.of(tmp_path / "scratch", "ada-1")
    old = os.umask(0o077)
    try:
        workspace.prepare_workspace(build_workspace, repository, 1, "{ }", {"version": 7})
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "scratch").stat().st_mode) == 0o700
    assert (build_workspace.flake / "flake.nix").read_text() == "{ }"
    assert json.loads((build_workspace.flake / "flake.lock").read_text()) == {"version": 7}
    assert "directory = *" in Path(build_workspace.variables["GIT_CONFIG_GLOBAL"]).read_text()
    assert refs(build_workspace.repository) == ["refs/tags/proposal/1"]
    for path in (build_workspace.path, build_workspace.repository, *build_workspace.path.rglob("*")):
        wanted = 0o5 if path.is_dir() else 0o4
        assert stat.S_IMODE(path.stat().st_mode) & wanted == wanted, path
    for path in (build_workspace.flake, build_workspace.home.parent, build_workspace.result.parent):
        assert stat.S_IMODE(path.stat().st_mode) == 0o777
    workspace.remove_workspace(build_workspace)
    assert list((tmp_path / "scratch").iterdir()) == []


def test_a_proposal_that_is_not_there_is_told(tmp_path: Path, repository: Path) -> None:
    """A build of what was not proposed is git's error, and what was prepared can be removed."""
    build_workspace = workspace.BuildWorkspace.of(tmp_path / "scratch", "ada-7")
    with pytest.raises(HiveError) as caught:
        workspace.prepare_workspace(build_workspace, repository, 7, "{ }", None)
    assert caught.value.code == "git_failed"
    workspace.remove_workspace(build_workspace)
    assert list((tmp_path / "scratch").iterdir()) == []


def test_an_earlier_build_is_out_of_the_way(tmp_path: Path) -> None:
    """What a build of the same proposal has left is gone when it is built again."""
    build_workspace = empty(tmp_path)
    build_workspace.home.mkdir()
    build_workspace.result.symlink_to("/nix/store/x")
    workspace.create_workspace(build_workspace, "{ }")
    assert workspace.read_result(build_workspace) is None


def test_the_home_is_for_nix_to_make(tmp_path: Path) -> None:
    """The home is not there and can be made: Nix since 2.10 ignores one that belongs to somebody else."""
    build_workspace = empty(tmp_path)
    assert build_workspace.variables["HOME"] == str(build_workspace.home)
    assert not build_workspace.home.exists()
    assert stat.S_IMODE(build_workspace.home.parent.stat().st_mode) == 0o777


def test_a_scratch_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    """A wrong state directory is an error in words."""
    (tmp_path / "file").write_text("")
    with pytest.raises(HiveError, match="cannot prepare a build") as caught:
        empty(tmp_path / "file/scratch")
    assert caught.value.code == "cannot_build"


def test_what_a_killed_daemon_left_goes(tmp_path: Path) -> None:
    """Directories of builds are removed, also those of earlier versions, and no others."""
    empty(tmp_path)
    (tmp_path / "intake-1").mkdir()
    (tmp_path / "nix-ada-1").mkdir()
    workspace.remove_all_workspaces(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["intake-1"]


def test_the_result_is_a_link(tmp_path: Path) -> None:
    """What Nix has built is where its link points; anything else is nothing."""
    build_workspace = empty(tmp_path)
    assert workspace.read_result(build_workspace) is None
    build_workspace.result.write_text("/nix/store/x")
    assert workspace.read_result(build_workspace) is None
    build_workspace.result.unlink()
    build_workspace.result.symlink_to("/nix/store/x")
    assert workspace.read_result(build_workspace) == "/nix/store/x"


def test_the_lock_file_is_read_with_care(tmp_path: Path) -> None:
    """Whoever evaluates can write there: only a plain file with a JSON object of a bounded size is taken."""
    build_workspace = empty(tmp_path)
    file = build_workspace.flake / "flake.lock"
    assert workspace.read_lock(build_workspace) is None
    file.write_text('{"version": 7}')
    assert workspace.read_lock(build_workspace) == '{"version": 7}'
    for text in ("[]", "no", "[" * 100_000, '{"a": "' + "x" * 2_000_000 + '"}'):
        file.write_text(text)
        assert workspace.read_lock(build_workspace) is None
    file.unlink()
    (tmp_path / "secret").write_text("{}")
    file.symlink_to(tmp_path / "secret")
    assert workspace.read_lock(build_workspace) is None
    file.unlink()
    os.mkfifo(file)
    assert workspace.read_lock(build_workspace) is None
    file.unlink()
    file.mkdir()
    before = len(list(Path("/proc/self/fd").iterdir()))
    assert workspace.read_lock(build_workspace) is None
    assert len(list(Path("/proc/self/fd").iterdir())) == before
