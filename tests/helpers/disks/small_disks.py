"""Small file systems and limits, on which tests run out of space."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

KINDS = ("tmpfs", "quota", "file size")
"""A full file system (ENOSPC), a quota (EDQUOT), and a limit of file sizes (EFBIG)."""
_MIB = 1024 * 1024


class SmallDisk:
    """A directory in which a few MiB can be written; with the kind `file size`, 1 MiB into each file."""

    def __init__(self, kind: str, path: Path) -> None:
        self.kind = kind
        self.path = path
        self._ballast = path / "ballast"

    def fill(self) -> None:
        """Take all space up. Takes the limit of this process's files into force for that kind."""
        if self.kind == "file size":
            largest = max(path.stat().st_size for path in self.path.rglob("*") if path.is_file())
            _limit_file_size(largest)
            return
        with self._ballast.open("ab", buffering=0) as ballast:
            for size in (_MIB, 65_536, 4_096, 512):
                try:
                    while True:
                        ballast.write(os.urandom(size))
                        os.fsync(ballast.fileno())
                except OSError:
                    continue

    def make_room(self) -> None:
        """End what `fill` did."""
        if self.kind == "file size":
            _limit_file_size(resource.RLIM_INFINITY)
        else:
            self._ballast.unlink(missing_ok=True)


@contextmanager
def small_disk(kind: str, path: Path) -> Iterator[SmallDisk]:
    """Make a small disk at `path`, and remove it after the block; skips the test where that is not allowed."""
    path.mkdir(exist_ok=True)
    if kind == "file size":
        disk = SmallDisk(kind, path)
        try:
            yield disk
        finally:
            disk.make_room()
        return
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small file system")
    mounting = _tmpfs(path) if kind == "tmpfs" else _btrfs_with_quota(path)
    with mounting as inside:
        yield SmallDisk(kind, inside)


@contextmanager
def _tmpfs(path: Path) -> Iterator[Path]:
    _run("mount", "-t", "tmpfs", "-o", "size=4M", "tmpfs", str(path))
    try:
        yield path
    finally:
        _run("umount", "--lazy", str(path))


@contextmanager
def _btrfs_with_quota(path: Path) -> Iterator[Path]:
    # The quotas of ext4, xfs and tmpfs are not in every kernel, and need more than a mount option.
    if shutil.which("mkfs.btrfs", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin") is None:
        pytest.skip("btrfs-progs are not installed")
    image = path.with_name(f"{path.name}.img")
    with image.open("wb") as file:
        file.truncate(128 * _MIB)
    _run("mkfs.btrfs", "-q", "--mixed", str(image))
    _run("mount", "-o", "loop", str(image), str(path))
    try:
        inside = path / "limited"
        _run("btrfs", "quota", "enable", str(path))
        _run("btrfs", "subvolume", "create", str(inside))
        _run("btrfs", "qgroup", "limit", "16M", str(inside))
        yield inside
    finally:
        _run("umount", "--lazy", str(path))
        image.unlink()


def _limit_file_size(size: int) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))


def _run(*command: str) -> None:
    environment = {**os.environ, "PATH": f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, f"{command}: {done.stderr}"
