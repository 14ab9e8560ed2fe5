"""Getting files onto the disk for good, and saying so when there is no room."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hive_core.errors import HiveError

_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})


def sync(path: Path) -> None:
    """Wait until a file's content, or a directory's entries, would survive a power cut. Links are not followed."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_all(top: Path) -> None:
    """The same for a directory and all in it; meant for a few dozen files."""
    for directory, _, files in os.walk(top):
        for name in files:
            path = Path(directory, name)
            if not path.is_symlink():
                sync(path)
        sync(Path(directory))


def disk_full(what: str) -> HiveError:
    """The refusal when there is no room left."""
    hint = "make room on the disk that holds the state directory, or raise its quota"
    return HiveError("disk_full", f"cannot {what}: no space left on the disk", hint=hint, status=507)


@contextmanager
def refusing(what: str) -> Iterator[None]:
    """Turn a full disk into a HiveError `disk_full`."""
    try:
        yield
    except OSError as error:
        if error.errno in _NO_ROOM:
            raise disk_full(what) from None
        raise
