"""Putting a commit's files into a directory, without a checkout."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from hive_core.errors import HiveError
from hive_core.infra.files import refusing, sync_all
from hive_core.infra.git.cat_file import reading
from hive_core.infra.git.trees import check_path, entries

_MOST = 100_000
_MODES = {"100644": 0o644, "100755": 0o755}


def extract(repository: Path, commit: str, into: Path) -> None:
    """Write the files of a commit below `into`, which is made and must not exist; on the disk when this returns.

    No attribute, filter or line ending is applied: a file holds what its blob holds. Modes are 0644 and 0755, less
    the umask. Raises HiveError `bad_tree` before anything is written if there is more than plain files with plain
    names, `too_many_files`, `disk_full`. What was written before a failure is the caller's to remove.
    """
    found = entries(repository, commit, _MOST)
    plans: list[tuple[list[bytes], int]] = []
    for entry in found:
        if entry.mode not in _MODES:
            why = f"{entry.path[:200]!r} is not a plain file"
            raise HiveError("bad_tree", why, hint="propose plain files only", status=400)
        plans.append((check_path(entry.path), _MODES[entry.mode]))
    with refusing("write the files of a commit"):
        into.mkdir()
        top = os.open(into, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            with reading(repository, [entry.sha for entry in found]) as batch:
                for (parts, mode), entry in zip(plans, found, strict=True):
                    header = batch.header()
                    if header is None:
                        raise HiveError("repository_damaged", f"the object {entry.sha} is missing", status=500)
                    _write(top, parts, mode, batch.content(header))
        finally:
            os.close(top)
        sync_all(into)


def _write(top: int, parts: Sequence[bytes], mode: int, content: Iterable[bytes]) -> None:
    """Make one file; no part of the way to it may be a link, nor the file exist."""
    *directories, name = parts
    here = os.dup(top)
    try:
        for directory in directories:
            with suppress(FileExistsError):
                os.mkdir(directory, dir_fd=here)
            below = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=here)
            os.close(here)
            here = below
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        file = os.open(name, flags, mode, dir_fd=here)
    finally:
        os.close(here)
    with os.fdopen(file, "wb") as stream:
        for piece in content:
            stream.write(piece)
