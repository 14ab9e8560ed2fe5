"""Walks through trees of any depth that agents have written, which follow no links and open no files."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator

DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_MOST_WAITING = 500_000
"""Directories whose names are kept in memory at a time. A tree that needs more is not walked through."""

Enters = Callable[[int, os.DirEntry[str]], bool]
"""Returns True if a directory that lies on another device, given as its parent and its entry, is entered too."""


def stays(_directory: int, _entry: os.DirEntry[str]) -> bool:
    """Enter nothing on another device."""
    return False


def walk(top: int, enters: Enters = stays) -> Iterator[tuple[int, os.DirEntry[str]]]:
    """Yield every entry below an open directory together with a descriptor of its directory.

    One descriptor is enough for any depth, because the way back up is `..`. So nothing may be renamed meanwhile.
    Raises OSError.
    """
    current = os.open(".", DIRECTORY, dir_fd=top)
    levels: list[tuple[tuple[int, int], list[str]]] = []
    waiting = 0
    try:
        while True:
            device = os.fstat(current).st_dev
            subdirectories = []
            with os.scandir(current) as entries:  # One by one: a directory may have millions.
                for entry in entries:
                    yield current, entry
                    if not entry.is_dir(follow_symlinks=False):
                        continue
                    if entry.stat(follow_symlinks=False).st_dev == device or enters(current, entry):
                        subdirectories.append(entry.name)
                        waiting += 1
                        if waiting > _MOST_WAITING:
                            raise OSError(errno.EMLINK, "there are too many directories")
            levels.append((_identity(current), subdirectories))
            while not levels[-1][1]:
                levels.pop()
                if not levels:
                    return
                current = _replaced(current, "..")
                if _identity(current) != levels[-1][0]:
                    raise OSError(errno.ESTALE, "a directory was moved meanwhile")
            current = _replaced(current, levels[-1][1].pop())
            waiting -= 1
    finally:
        os.close(current)


def _identity(descriptor: int) -> tuple[int, int]:
    found = os.fstat(descriptor)
    return found.st_dev, found.st_ino


def _replaced(descriptor: int, name: str) -> int:
    """Open a directory next to or below an open one, which is closed."""
    opened = os.open(name, DIRECTORY, dir_fd=descriptor)
    os.close(descriptor)
    return opened
