"""The space that files take on a disk, measured where hostile programs may write at the same time."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from hive_core.infra.storage.files import open_directory

_BLOCK = 512
"""Bytes of a block in st_blocks, whatever the file system: stat(3type)."""
DEEPEST = 256
"""Directories in directories. Each level takes an open descriptor."""

_RESERVE_BYTES = 1024**3
_RESERVE_SHARE = 50
"""A fiftieth of a small file system is enough of a reserve."""


@dataclass(frozen=True)
class FreeSpace:
    """The bytes of a file system that every user can use, and its size."""

    available: int
    total: int

    @property
    def reserve(self) -> int:
        """The part that no build and no check may use: 1 GiB, or 2 % of the file system if that is less."""
        return min(_RESERVE_BYTES, self.total // _RESERVE_SHARE)


class NestedTooDeep(Exception):
    """There are more than `DEEPEST` directories in one another."""


def used_bytes(paths: Iterable[Path]) -> int:
    """Return the space that files and directories take on the disk. Follows no links: hostile programs write there.

    Blocks. Raises NestedTooDeep.
    """
    used = 0
    for path in paths:
        # A file may be removed meanwhile.
        with suppress(OSError):
            used += path.lstat().st_blocks * _BLOCK
            with open_directory(path) as directory:
                used += _used_below(directory, DEEPEST)
    return used


def _used_below(directory: int, depth: int) -> int:
    if depth == 0:
        raise NestedTooDeep
    used = 0
    with os.scandir(directory) as entries:
        for entry in entries:
            with suppress(OSError):
                used += entry.stat(follow_symlinks=False).st_blocks * _BLOCK
                if entry.is_dir(follow_symlinks=False):
                    with open_directory(entry.name, directory) as below:
                        used += _used_below(below, depth - 1)
    return used


def free_space(path: Path) -> FreeSpace:
    """Measure the file system of a path: statvfs(3)."""
    found = os.statvfs(path)
    return FreeSpace(found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize)
