"""The files that processes have open and no directory names: what was deleted, and files in memory only.

They take space that no walk through directories finds: memfd_create(2), and files that are deleted while they are open.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache

_BLOCK = 512
"""Bytes of a block in st_blocks, whatever the file system: stat(3type)."""
MOST_OPEN = 8_192
"""Open files that are looked at in one measurement; it takes about a twentieth of a second then."""


class TooManyOpenFiles(Exception):
    """The processes have more than `MOST_OPEN` files open."""


@dataclass
class UnnamedFiles:
    """The findings: bytes in memory by inode, bytes on disks, and processes whose files cannot be seen."""

    in_memory: dict[int, int] = field(default_factory=dict)
    on_disk: int = 0
    hidden: set[str] = field(default_factory=set)


def find_unnamed(proc: int, numbers: Iterable[str]) -> UnnamedFiles:
    """Look through the open files of processes below `proc`, an open /proc. Blocks. Raises TooManyOpenFiles.

    A file counts once, however many processes have it open. Descriptors on their way through a socket, and those that
    one thread has for itself, are not seen.
    """
    found, left = UnnamedFiles(), MOST_OPEN
    seen: set[tuple[int, int]] = set()
    for number in numbers:
        try:
            directory = os.open(f"{number}/fd", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=proc)
        except PermissionError:
            found.hidden.add(number)
            continue
        except OSError:  # It has ended.
            continue
        try:
            with suppress(OSError):
                for name in os.listdir(directory):  # noqa: PTH208 - a descriptor
                    left -= 1
                    if left < 0:
                        raise TooManyOpenFiles
                    _add(found, seen, directory, name)
        finally:
            os.close(directory)
    return found


def _add(found: UnnamedFiles, seen: set[tuple[int, int]], directory: int, name: str) -> None:
    with suppress(OSError):
        file = os.stat(name, dir_fd=directory)
        key = (file.st_dev, file.st_ino)
        if file.st_nlink or not stat.S_ISREG(file.st_mode) or key in seen:
            return
        seen.add(key)
        if file.st_dev == memory_device():
            found.in_memory[file.st_ino] = file.st_blocks * _BLOCK
        else:
            found.on_disk += file.st_blocks * _BLOCK


@cache
def memory_device() -> int:
    """Return the device number of files in memory: of memfds, and of memory that processes share without a file."""
    descriptor = os.memfd_create("device", os.MFD_CLOEXEC)
    try:
        return os.fstat(descriptor).st_dev
    finally:
        os.close(descriptor)
