"""The directory of one transfer: helper files to read, and a place for what is received."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from hive_core.errors import HiveError
from hive_core.infra.git.quarantine import create_bare_repository
from hive_core.infra.storage.disk_space import disk_full_as_error
from hive_core.work.repositories.upstream.access import UpstreamAccess

PREFIX = "upstream-"
_ANYBODY = 0o777
"""Mode of the directories that the user of a unit writes, below one that only the daemon can enter."""


def memory_file(content: bytes) -> int | None:
    """Return a descriptor from which `content` can be read, None if there is none."""
    if not content:
        return None
    descriptor = os.memfd_create("refs", os.MFD_CLOEXEC)
    with os.fdopen(os.dup(descriptor), "wb") as file:
        file.write(content)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def prepare(directory: Path, access: UpstreamAccess) -> None:
    """Make the helper files, an empty repository, and a directory for objects, which the transfer writes."""
    with disk_full_as_error("fetch a repository"):
        directory.chmod(0o755)
        for name, (text, mode) in access.files().items():
            (directory / name).write_text(text)
            (directory / name).chmod(mode)
        bare = create_bare_repository(directory / "bare")
        for path in (bare, bare / "objects", bare / "refs"):
            path.chmod(0o755)
        for path in (bare / "HEAD", bare / "config"):
            path.chmod(0o644)
        for path in (directory / "objects", directory / "objects/pack", directory / "objects/info"):
            path.mkdir()
            path.chmod(_ANYBODY)


def open_pack(directory: Path) -> int | None:
    """Open the pack in a directory that the transfer has written; None if there is none.

    The transfer has ended. What it has left may be links. Raises HiveError `bad_upstream`.
    """
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        within = os.open(directory, flags | os.O_DIRECTORY)
    except OSError:
        raise HiveError("bad_upstream", "the transfer has left no directory of packs", status=502) from None
    try:
        names = sorted(name for name in os.listdir(within) if name.endswith(".pack"))  # noqa: PTH208 - a descriptor
        if not names:
            return None
        if len(names) > 1:
            raise HiveError("bad_upstream", "upstream has sent more than one pack", status=502)
        descriptor = os.open(names[0], flags | os.O_NONBLOCK, dir_fd=within)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise HiveError("bad_upstream", "the pack is no plain file", status=502)
        return descriptor
    except OSError as error:
        raise HiveError("bad_upstream", f"the pack cannot be opened: {error.strerror}", status=502) from None
    finally:
        os.close(within)
