"""A btrfs with quotas in a file, mounted for tests where they may do so."""

from __future__ import annotations

import fcntl
import os
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hive_core.infra.disk_quota import btrfs
from tests.helpers.memory import MEMORY

_QUOTA_CTL = 0xC0109428
_ENABLE_SIMPLE = 4
_SIZE = 512 * 1024**2


def _run(*line: str | Path) -> None:
    subprocess.run(line, check=True, capture_output=True)


def why_no_btrfs() -> str:
    """Say why no btrfs with simple quotas can be mounted here; empty if one can."""
    if os.geteuid() != 0:
        return "only root can mount a file system"
    if shutil.which("mkfs.btrfs") is None:
        return "mkfs.btrfs is not installed (Debian package btrfs-progs)"
    try:
        with mounted_btrfs():
            return ""
    except (OSError, subprocess.CalledProcessError) as error:
        return f"no btrfs with quotas can be mounted: {error}"


@contextmanager
def mounted_btrfs(*, quotas: bool = True) -> Iterator[Path]:
    """Mount an empty btrfs, with simple quotas unless told otherwise."""
    # In memory, where a sync is quick.
    with tempfile.TemporaryDirectory(prefix="hb", dir=MEMORY) as directory:
        image, point = Path(directory, "image"), Path(directory, "m")
        with image.open("wb") as file:
            file.truncate(_SIZE)
        _run("mkfs.btrfs", "--quiet", "--metadata", "single", image)
        point.mkdir()
        _run("mount", "-o", "loop", image, point)
        try:
            if quotas:
                enable_quotas(point)
            yield point
        finally:
            _run("umount", point)


def enable_quotas(point: Path) -> None:
    """Switch simple quotas on, as `btrfs quota enable --simple` does (btrfs-progs 6.7)."""
    descriptor = os.open(point, os.O_RDONLY)
    try:
        fcntl.ioctl(descriptor, _QUOTA_CTL, bytearray(struct.pack("=2Q", _ENABLE_SIMPLE, 0)))
    finally:
        os.close(descriptor)


def is_subvolume(path: Path) -> bool:
    """Say whether a directory of a btrfs is a subvolume."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return btrfs.is_subvolume(descriptor)
    finally:
        os.close(descriptor)
