"""Links that an agent leaves in its root directory do not lead programs of the host's root out of it."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from hive_core.errors import HiveError
from hive_core.runtimes.nixos.containers.filesystem import clear_destroy_paths, clear_script_paths
from hive_core.runtimes.nixos.runtime import NixosRuntime
from tests.unit.core.runtimes.nixos.builders import spec_of
from tests.unit.core.runtimes.nixos.fake_host import FakeHost

DIRECTORIES = (
    "etc",
    "var",
    "var/lib",
    "var/lib/private",
    "var/log",
    "var/log/journal",
    "root",
    "usr",
    "usr/bin",
)
FILES = ("etc/os-release", "etc/machine-id", "etc/resolv.conf")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    root.mkdir()
    return root


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    """A directory of the host's, with all that a container's has."""
    victim = tmp_path / "victim"
    for directory in ("bin", "lib/private", "private", "etc"):
        (victim / directory).mkdir(parents=True)
    for name in ("os-release", "machine-id", "resolv.conf"):
        (victim / name).symlink_to("/nowhere")
    return victim


def all_of(directory: Path) -> set[tuple[str, int, int]]:
    """Every entry below a directory: its path, mode and inode."""
    entries = ((entry, entry.lstat()) for entry in [directory, *directory.rglob("*")])
    return {(str(entry), status.st_mode, status.st_ino) for entry, status in entries}


@pytest.mark.parametrize("name", [*DIRECTORIES, *FILES])
def test_a_link_is_gone_and_what_it_leads_to_is_untouched(root: Path, victim: Path, name: str) -> None:
    """On every path that the script uses, also if the link leads to a directory that looks like a container's."""
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(victim)
    before = all_of(victim)
    clear_script_paths(root)
    assert not os.path.lexists(path) and path.parent.is_dir()
    assert all_of(victim) == before


@pytest.mark.parametrize("name", [*DIRECTORIES, *FILES])
def test_a_link_that_leads_nowhere_is_gone(root: Path, name: str) -> None:
    """`touch` and `mkdir` would make what it names."""
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(root.parent / "new")
    clear_script_paths(root)
    assert not os.path.lexists(path)


@pytest.mark.parametrize("name", [*DIRECTORIES, *FILES])
def test_what_is_neither_file_nor_directory_is_gone(root: Path, name: str) -> None:
    """Nothing is opened: a FIFO does not hold up the daemon."""
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    os.mkfifo(path)
    clear_script_paths(root)
    assert not os.path.lexists(path)


@pytest.mark.parametrize("name", FILES)
def test_a_directory_in_the_place_of_a_file_is_put_aside(root: Path, victim: Path, name: str) -> None:
    """`cp` would write into it, and through a link there; however deep it is, it is out of the way at once."""
    path = root / name
    path.mkdir(parents=True)
    (path / path.name).symlink_to(victim)
    clear_script_paths(root)
    assert not os.path.lexists(path)
    (aside,) = path.parent.iterdir()
    assert (aside / path.name).is_symlink()


def test_what_is_as_it_should_be_stays(root: Path) -> None:
    """Directories, files and every other link of a container's."""
    for name in DIRECTORIES:
        (root / name).mkdir(parents=True, exist_ok=True)
    for name in FILES:
        (root / name).write_text("kept")
    for name in ("bin", "sbin", "lib"):
        (root / name).symlink_to(f"usr/{name}")
    (root / "etc/static").symlink_to("/nix/store/aaa-etc/etc")
    before = all_of(root)
    clear_script_paths(root)
    assert all_of(root) == before


def test_a_container_that_never_ran_has_no_root_directory(root: Path) -> None:
    """There is nothing to do then, nor in an empty one."""
    clear_script_paths(root / "none")
    clear_script_paths(root)
    assert list(root.iterdir()) == []


def test_a_root_directory_that_is_a_link_is_refused(root: Path, victim: Path) -> None:
    """It is not for the daemon to clear up elsewhere."""
    (victim / "root").symlink_to("/nowhere")
    (root / "h-ada").symlink_to(victim)
    with pytest.raises(NotADirectoryError):
        clear_script_paths(root / "h-ada")
    assert (victim / "root").is_symlink()


async def test_the_way_is_clear_before_every_start(
    host: FakeHost, runtime: NixosRuntime, victim: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first, one on another closure, one after a crash: while the container is stopped."""
    etc = host.host_paths.root("h-ada") / "etc"
    etc.parent.mkdir(parents=True)
    seen: list[tuple[str, bool]] = []
    unit, start = "container@h-ada.service", host.systemd.start

    async def noted(name: str) -> None:
        seen.append((host.systemd.units[name].active if name in host.systemd.units else "", etc.is_symlink()))
        await start(name)

    monkeypatch.setattr(host.systemd, "start", noted)
    etc.symlink_to(victim)
    changes = runtime.watch()
    await runtime.start(spec_of(host.place))
    etc.symlink_to(victim)
    await runtime.activate(spec_of(host.place, closure="/nix/store/bbb-system"))
    etc.symlink_to(victim)
    host.systemd.put(unit, "failed", "failed", code=2, status=9, result="signal")
    while (state := await anext(changes)).lifecycle != "running" or not state.restarts:
        pass
    assert seen == [("", False), ("inactive", False), ("failed", False)]


async def test_a_way_that_cannot_be_cleared_is_no_start(host: FakeHost, runtime: NixosRuntime) -> None:
    """It is refused with what to do; systemd is not asked."""
    host.host_paths.root_dir.mkdir(parents=True)
    spec = spec_of(host.place)
    await runtime.start(spec)
    await runtime.stop("ada")
    host.host_paths.root("h-ada").symlink_to(host.place)
    host.systemd.done.clear()
    with pytest.raises(HiveError) as refused:
        await runtime.start(spec)
    assert refused.value.code == "container_not_prepared" and refused.value.hint
    assert not any(step.startswith("start") for step in host.systemd.done)
    assert stat.S_ISLNK(host.host_paths.root("h-ada").lstat().st_mode)


@pytest.mark.parametrize("name", ["var", "var/empty"])
@pytest.mark.parametrize("made", ["link", "fifo", "file"])
def test_destroy_finds_directories_or_nothing(root: Path, victim: Path, name: str, made: str) -> None:
    """A link that `chattr -i` would follow or open is gone, and its target is untouched."""
    (victim / "empty").mkdir()
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if made == "link":
        path.symlink_to(victim)
    elif made == "fifo":
        os.mkfifo(path)
    else:
        path.touch()
    before = all_of(victim)
    clear_destroy_paths(root)
    assert not os.path.lexists(path) and path.parent.is_dir()
    assert all_of(victim) == before


def test_destroy_keeps_what_is_as_it_should_be(root: Path) -> None:
    """Directories stay, links elsewhere too: what removes them follows none."""
    (root / "var/empty").mkdir(parents=True)
    (root / "etc").symlink_to("/nowhere")
    before = all_of(root)
    clear_destroy_paths(root)
    clear_destroy_paths(root / "none")
    assert all_of(root) == before


LOGGED = """#!/bin/sh
echo "${{0##*/}} $*" >> {log}
exit 1
"""


@pytest.mark.parametrize("unfinished", [False, True])
async def test_a_hostile_tree_is_removed(host: FakeHost, runtime: NixosRuntime, victim: Path, unfinished: bool) -> None:
    """Of a container that is destroyed, and of one that was left half removed: no program of the host's root is led to
    the victim, and none is started for each of its directories.
    """
    log = host.place / "logged"
    for name in ("chattr", "mountpoint"):
        (host.root / "bin" / name).write_text(LOGGED.format(log=log))
        (host.root / "bin" / name).chmod(0o755)
    await runtime.start(spec_of(host.place))
    await runtime.stop("ada")
    paths = host.host_paths
    for tree in (paths.root("h-ada"), paths.profile("h-ada"), paths.gcroots / "h-ada"):
        tree.mkdir(parents=True, exist_ok=True)
        for number in range(20):
            (tree / f"d{number}" / "deep").mkdir(parents=True)
        (tree / "link").symlink_to(victim)
    (victim / "empty").mkdir()
    (paths.root("h-ada") / "var").symlink_to(victim)
    before = all_of(victim)
    if unfinished:
        (paths.profile("h-ada") / "system").unlink()
        conf = paths.conf("h-ada")
        conf.write_text("AUTO_START=0\n")
        await runtime.start(spec_of(host.place))
        assert not (paths.root("h-ada") / "d0").exists()
    else:
        await runtime.destroy("ada")
        assert not paths.root("h-ada").exists() and not paths.conf("h-ada").exists()
        assert not paths.profile("h-ada").exists() and not (paths.gcroots / "h-ada").exists()
    assert all_of(victim) == before
    assert not log.exists() or log.read_text() == ""
