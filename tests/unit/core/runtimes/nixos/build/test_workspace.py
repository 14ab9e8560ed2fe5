"""The directory that a build works in."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from hive_core.errors import HiveError
from hive_core.layout import Layout
from hive_core.runtimes.checks.built_tree import check_built_tree
from hive_core.runtimes.nixos.build import workspace
from tests.helpers.git_repos import order


def names(directory: Path) -> list[str]:
    return [path.name for path in directory.iterdir()]


def empty(scratch: Path) -> workspace.BuildWorkspace:
    build_workspace = workspace.BuildWorkspace.of(scratch, "ada-1")
    workspace.create_workspace(build_workspace)
    return build_workspace


def test_an_evaluation_can_write_what_it_has_to(tmp_path: Path) -> None:
    """The flake and its lock can be read by everybody; only a home and the file of the result can be written."""
    old = os.umask(0o077)
    try:
        build_workspace = empty(tmp_path / "scratch")
        workspace.write_flake(build_workspace, "{ }", {"version": 7})
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "scratch").stat().st_mode) == 0o700
    assert (build_workspace.flake / "flake.nix").read_text() == "{ }"
    assert json.loads((build_workspace.flake / "flake.lock").read_text()) == {"version": 7}
    found = {str(path.relative_to(build_workspace.path)): path for path in build_workspace.path.rglob("*")}
    assert {name: stat.S_IMODE(path.stat().st_mode) for name, path in found.items()} == {
        "flake": 0o755,
        "flake/flake.lock": 0o644,
        "flake/flake.nix": 0o644,
        "home": 0o777,
        "out": 0o777,
        "roots": 0o755,
        "build": 0o700,
    }
    assert stat.S_IMODE(build_workspace.path.stat().st_mode) == 0o755


def test_the_files_of_the_commit_are_those_of_its_blobs(tmp_path: Path) -> None:
    """No attribute of the commit has an effect on what is extracted, and nothing of the message gets into a file."""
    attributes = b"*.nix export-subst eol=crlf\nhidden.nix export-ignore\n"
    files = {"agent.nix": b"# $Format:%B$\n{ }\n", "hidden.nix": b"1\n", ".gitattributes": attributes}
    wanted = order(Layout(tmp_path / "state", tmp_path / "run"), files)
    build_workspace = empty(tmp_path / "scratch")
    workspace.extract_source(build_workspace, wanted)
    assert {path.name: path.read_bytes() for path in build_workspace.source.iterdir()} == files
    check_built_tree(wanted, build_workspace.source)


async def test_an_earlier_build_is_out_of_the_way(tmp_path: Path) -> None:
    """The leftovers of a build of the same proposal are removed, also directories in one another without end."""
    build_workspace = empty(tmp_path)
    deep = build_workspace.build
    for _ in range(30):
        deep = deep / ("d" * 100)
        deep.mkdir()
    await workspace.remove_workspace(build_workspace)
    assert names(tmp_path) == []
    await workspace.remove_workspace(build_workspace)


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


async def test_what_a_killed_daemon_left_goes(tmp_path: Path) -> None:
    """Directories of builds are removed, also those of earlier versions, and no others."""
    empty(tmp_path)
    (tmp_path / "intake-1").mkdir()
    (tmp_path / "nix-ada-1").mkdir()
    await workspace.remove_all_workspaces(tmp_path)
    assert names(tmp_path) == ["intake-1"]


def test_the_result_is_read_with_care(tmp_path: Path) -> None:
    """Whoever evaluates can write there: only a plain file of a bounded size is taken, and no link is followed."""
    build_workspace = empty(tmp_path)
    file = build_workspace.derivation
    assert workspace.read_derivation_path(build_workspace) is None
    file.write_text("/nix/store/x.drv")
    assert workspace.read_derivation_path(build_workspace) == "/nix/store/x.drv"
    for content in (b"x" * 5_000, b"\xff"):
        file.write_bytes(content)
        assert workspace.read_derivation_path(build_workspace) is None
    file.unlink()
    (tmp_path / "secret").write_text("secret")
    file.symlink_to(tmp_path / "secret")
    assert workspace.read_derivation_path(build_workspace) is None
    file.unlink()
    os.mkfifo(file)
    assert workspace.read_derivation_path(build_workspace) is None
    file.unlink()
    file.mkdir()
    before = len(list(Path("/proc/self/fd").iterdir()))
    assert workspace.read_derivation_path(build_workspace) is None
    assert len(list(Path("/proc/self/fd").iterdir())) == before
