"""Quotas on a real btrfs: groups of subvolumes, and what an agent makes below them."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hive_core.agents.purge import Trash
from hive_core.infra.disk_quota import btrfs
from hive_core.infra.disk_quota.conversion import become_subvolume, other_tree
from hive_core.infra.disk_quota.quotas import DirectoryQuotas, make_subvolume
from hive_core.infra.storage.files import open_directory
from hive_core.layout import Layout
from hive_core.protocol import Limits
from hive_core.runtimes.disk_quotas import DiskQuotas
from tests.helpers.disks.btrfs_file import enable_quotas, is_subvolume, mounted_btrfs, why_no_btrfs

pytestmark = pytest.mark.skipif(bool(why_no_btrfs()), reason=why_no_btrfs() or "it works")

MIB = 1024**2
LIMIT = 8 * MIB
SUBVOL_CREATE_V2, INHERIT = 0x50009418, 4
SNAP_CREATE_V2, READ_ONLY = 0x50009417, 2
SYNC = 0x9408
FICLONE = 0x40049409


@pytest.fixture
def point() -> Iterator[Path]:
    """A btrfs with simple quotas."""
    with mounted_btrfs() as mounted:
        yield mounted


@pytest.fixture
def home(point: Path) -> Path:
    """The directory of an agent, limited to 8 MiB."""
    home = point / "ada"
    assert make_subvolume(home, 0o700)
    assert DirectoryQuotas().enforce([home], LIMIT, stopped=True).limit == LIMIT
    return home


def written(path: Path, mebibytes: int) -> int:
    """Write a file until an error; return the MiB that went into it."""
    done = 0
    try:
        with path.open("wb", buffering=0) as file:
            for _ in range(mebibytes):
                file.write(os.urandom(MIB))
                os.fsync(file.fileno())
                done += 1
    except OSError as error:
        assert error.errno == errno.EDQUOT
    with open_directory(path.parent) as directory:
        fcntl.ioctl(directory, SYNC)  # What is used is counted when it is committed.
    return done


def subvolume_of(path: Path) -> int:
    """Return the id of a subvolume."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return btrfs.subvolume(descriptor)
    finally:
        os.close(descriptor)


def make_subvolume_in_group(directory: Path, name: str, group: int | None) -> None:
    """Create a subvolume that is in no group of its parent's, which needs no privileges; with None in no group."""
    descriptor = os.open(directory, os.O_RDONLY)
    groups = [] if group is None else [group]
    inherit = ctypes.create_string_buffer(struct.pack(f"={9 + len(groups)}Q", 0, len(groups), *[0] * 7, *groups))
    order = bytearray(4096)
    struct.pack_into("=5Q", order, 0, 0, 0, INHERIT, 72 + 8 * len(groups), ctypes.addressof(inherit))
    struct.pack_into("=64s", order, 56, name.encode())
    try:
        fcntl.ioctl(descriptor, SUBVOL_CREATE_V2, order)
    finally:
        os.close(descriptor)


def make_snapshot(source: Path, directory: Path, name: str) -> None:
    """Make a snapshot of a subvolume in which nothing can be changed, as the owner of the subvolume may."""
    order = bytearray(4096)
    with open_directory(source) as origin, open_directory(directory) as place:
        struct.pack_into("=3Q", order, 0, origin, 0, READ_ONLY)
        struct.pack_into("=64s", order, 56, name.encode())
        fcntl.ioctl(place, SNAP_CREATE_V2, order)


def fill_with_read_only(directory: Path) -> None:
    """Make a subvolume with a file, and snapshots of it one in the other's directory, in which nothing can change."""
    with open_directory(directory) as descriptor:
        btrfs.create_subvolume(descriptor, "own")
    (directory / "own/file").write_text("x")
    (directory / "own/deeper").mkdir()
    make_snapshot(directory / "own", directory, "frozen")
    make_snapshot(directory / "own", directory / "own/deeper", "frozen")
    with open_directory(directory / "own") as own:
        fcntl.ioctl(own, btrfs._SUBVOL_SETFLAGS, bytearray(READ_ONLY.to_bytes(8, sys.byteorder)))


def test_what_is_below_a_directory_is_limited(point: Path, home: Path) -> None:
    """A full quota ends writes there with EDQUOT, and nowhere else."""
    assert 4 <= written(home / "file", 20) <= 8
    assert written(point / "file", 20) == 20
    assert (DirectoryQuotas().read([home]).used or 0) > 4 * MIB


def test_several_directories_share_one_limit(point: Path, home: Path) -> None:
    """The root of a container counts together with the agent's home; destroyed, it leaves the limit in place."""
    root = point / "h-ada"
    make_subvolume(root, 0o755)
    quotas = DirectoryQuotas()
    assert quotas.enforce([home, root, point / "absent"], LIMIT, stopped=True).limit == LIMIT
    assert written(root / "file", 5) == 5
    assert written(home / "file", 20) < 4
    quotas.forget([root], keep=home)
    assert quotas.read([home]).limit == LIMIT


def test_a_subvolume_of_the_agent_counts(home: Path) -> None:
    """One that an agent makes in the usual way is in its group at once."""
    descriptor = os.open(home, os.O_RDONLY)
    btrfs.create_subvolume(descriptor, "own")
    os.close(descriptor)
    assert written(home / "own/file", 20) <= 8


def test_a_subvolume_outside_of_the_group_is_found(point: Path, home: Path) -> None:
    """One that an agent puts into the group of another counts for the agent after the next search."""
    other = point / "bob"
    make_subvolume(other, 0o700)
    quotas = DirectoryQuotas()
    quotas.enforce([other], LIMIT, stopped=True)
    group = 1 << 48 | subvolume_of(other)
    make_subvolume_in_group(home, "escaped", group)
    assert written(home / "escaped/file", 6) == 6
    assert (quotas.read([other]).used or 0) > 5 * MIB
    assert quotas.adopt([home]) == 1
    assert (quotas.read([other]).used or 0) < MIB < 5 * MIB < (quotas.read([home]).used or 0)
    assert quotas.adopt([home]) == 0
    assert written(home / "escaped/more", 6) < 3


@pytest.mark.parametrize("shared", ["by a snapshot", "by a copy"])
@pytest.mark.parametrize("group", ["of nobody", "of another"])
def test_what_a_deleted_subvolume_has_left_counts(point: Path, home: Path, shared: str, group: str) -> None:
    """An agent that fills a subvolume outside of its group, and deletes it before it is found, pays for its files."""
    other = point / "bob"
    make_subvolume(other, 0o700)
    quotas = DirectoryQuotas()
    quotas.enforce([other], 100 * MIB, stopped=True)
    agents = {"ada": [home], "bob": [other]}
    assert quotas.claim(agents) == []
    make_subvolume_in_group(home, "brief", None if group == "of nobody" else 1 << 48 | subvolume_of(other))
    assert written(home / "brief/file", 20) == 20
    if shared == "by a snapshot":
        make_snapshot(home / "brief", home, "kept")
    else:
        subprocess.run(["cp", "--reflink=always", home / "brief/file", home / "kept"], check=True)
    (home / "brief/file").unlink()
    (home / "brief").rmdir()
    assert quotas.adopt([home]) == 0
    assert quotas.claim(agents) == ["ada"]
    assert quotas.claim(agents) == []
    assert (quotas.read([other]).used or 0) < MIB
    assert (quotas.read([home]).used or 0) > 19 * MIB
    with pytest.raises(OSError, match="quota"):
        (home / "more").write_bytes(os.urandom(MIB))


def test_a_file_that_is_still_open_hides_nothing(point: Path, home: Path) -> None:
    """Space that is shared only later, from an open file of the deleted subvolume, counts from then on."""
    quotas = DirectoryQuotas()
    make_subvolume_in_group(home, "brief", None)
    assert written(home / "brief/file", 20) == 20
    with (home / "brief/file").open("rb") as file, (home / "kept").open("wb") as kept:
        (home / "brief/file").unlink()
        (home / "brief").rmdir()
        for _ in range(3):
            assert quotas.claim({"ada": [home]}) == []
        fcntl.ioctl(kept, FICLONE, file.fileno())
        os.fsync(kept)
        with open_directory(point) as directory:
            fcntl.ioctl(directory, SYNC)
        assert "ada" in [name for _ in range(70) for name in quotas.claim({"ada": [home]})]
    assert (quotas.read([home]).used or 0) > 19 * MIB


def test_what_others_have_deleted_counts_for_no_agent(point: Path, home: Path) -> None:
    """Space that the operator's files use is looked at once."""
    make_subvolume(point / "mine", 0o700)
    written(point / "mine/file", 5)
    make_snapshot(point / "mine", point, "kept")
    (point / "mine/file").unlink()
    (point / "mine").rmdir()
    quotas = DirectoryQuotas()
    assert quotas.claim({"ada": [home]}) == []
    assert [known.settled for known in quotas._strays._known.values()] == [{subvolume_of(home) + 1}]


def test_a_limit_changes_and_ends(home: Path) -> None:
    """A limit can be raised while it is reached, taken away, and removed together with the group."""
    quotas = DirectoryQuotas()
    written(home / "file", 20)
    assert quotas.enforce([home], 4 * LIMIT, stopped=False).limit == 4 * LIMIT
    assert written(home / "more", 10) == 10
    assert quotas.enforce([home], None, stopped=False).limit is None
    assert written(home / "even more", 30) == 30
    quotas.forget([home])
    assert quotas.read([home]).used is None


async def test_a_plain_directory_becomes_a_subvolume(point: Path) -> None:
    """Content, links, modes, owners and times stay; links to the outside are not followed; no second tree is left."""
    home = point / "ada"
    (home / "state").mkdir(parents=True, mode=0o750)
    (home / "state/file").write_bytes(b"x" * 100_000)
    os.link(home / "state/file", home / "state/same")
    (home / "state/link").symlink_to("/etc/shadow")
    os.mkfifo(home / "state/fifo")
    os.chown(home / "state/file", 1234, 1234)
    os.setxattr(home / "state/file", "user.note", b"kept")
    before = (home / "state/file").stat()
    quotas = DirectoryQuotas()
    assert quotas.to_convert([home]) == [home]
    assert "ada was made before" in quotas.enforce([home], LIMIT, stopped=False).problem
    await become_subvolume(home)
    assert is_subvolume(home)
    after = (home / "state/file").stat()
    for name in ("st_mode", "st_uid", "st_size", "st_mtime_ns", "st_nlink"):
        assert getattr(after, name) == getattr(before, name)
    assert os.getxattr(home / "state/file", "user.note") == b"kept"
    assert (home / "state/link").readlink() == Path("/etc/shadow")
    assert (home / "state/fifo").is_fifo()
    assert os.listdir(point) == ["ada"]  # noqa: PTH208 - a coroutine
    assert quotas.enforce([home], LIMIT, stopped=True).problem == ""
    assert written(home / "state/new", 20) <= 8


async def test_an_interrupted_conversion_is_begun_again(point: Path) -> None:
    """A copy that a killed daemon has left is thrown away, and the directory is whole."""
    home = point / "ada"
    home.mkdir()
    (home / "file").write_text("mine")
    make_subvolume(point / ".ada.subvolume", 0o700)
    (point / ".ada.subvolume/half").write_text("old")
    await become_subvolume(home)
    assert is_subvolume(home)
    assert os.listdir(home) == ["file"]  # noqa: PTH208 - a coroutine


def test_without_simple_quotas_directories_are_plain() -> None:
    """On a btrfs without quotas nothing changes, and the reason is told."""
    with mounted_btrfs(quotas=False) as point:
        assert not make_subvolume(point / "ada", 0o700)
        (point / "ada").mkdir()
        quotas = DirectoryQuotas()
        found = quotas.enforce([point / "ada"], LIMIT, stopped=True)
        assert found.limit is None
        assert "simple quotas are switched off" in found.problem
        assert quotas.to_convert([point / "ada"]) == []
        enable_quotas(point)
        assert quotas.to_convert([point / "ada"]) == [point / "ada"]


async def test_read_only_subvolumes_are_deleted(point: Path, home: Path) -> None:
    """A purge removes subvolumes in which their agent has forbidden all changes, and nothing next to them."""
    fill_with_read_only(home)
    fill_with_read_only(point)
    await Trash(Layout(point, point)).delete(home)
    assert sorted(os.listdir(point)) == ["frozen", "own"]  # noqa: PTH208 - a coroutine
    with pytest.raises(OSError, match="Read-only"):
        (point / "own/file").write_text("y")


async def test_the_other_tree_of_a_conversion_is_removed(point: Path) -> None:
    """Subvolumes that were made read-only before there was a quota stay nowhere, and neither does what a kill left."""
    home = point / "ada"
    home.mkdir()
    fill_with_read_only(home)
    await become_subvolume(home)
    assert is_subvolume(home)
    assert os.listdir(point) == ["ada"]  # noqa: PTH208 - a coroutine
    make_subvolume(other_tree(home), 0o700)
    fill_with_read_only(other_tree(home))
    await DiskQuotas().enforce("ada", [home], Limits(), stopped=True)
    assert os.listdir(point) == ["ada"]  # noqa: PTH208 - a coroutine


def test_a_group_that_others_join_holds_nothing_up(point: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A purge goes on if another agent puts a subvolume into the group at the wrong moment."""
    other = point / "bob"
    make_subvolume(other, 0o700)
    group = 1 << 48 | subvolume_of(home)
    assign = btrfs.Group.members

    def joined_after(self: btrfs.Group) -> list[int]:
        found = assign(self)
        make_subvolume_in_group(other, "late", group)
        return found

    monkeypatch.setattr(btrfs.Group, "members", joined_after)
    DirectoryQuotas().forget([home])
    assert (other / "late").exists()
