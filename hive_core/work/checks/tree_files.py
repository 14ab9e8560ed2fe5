"""The files of a tree, written for a check.

No attribute, filter, hook or setting has an effect: each file has the content of its blob, whatever a checkout by git
would make of it, and nothing is left out, as `export-ignore` would have an archive do. Links are made and never
followed: every file is created below an open directory, of which no part of the path is a link.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from itertools import takewhile
from pathlib import Path

from hive_core.errors import HiveError
from hive_core.infra.git.cat_file import read_batch
from hive_core.infra.git.trees import Entry, check_path, entries
from hive_core.infra.storage.disk_space import disk_full_as_error
from hive_core.infra.storage.files import open_directory
from hive_core.text import shown

MOST_FILES = 200_000
_SECONDS = 600.0
_MODES = {"100644": 0o644, "100664": 0o644, "100755": 0o755}
_LINK, _SUBMODULE = "120000", "160000"
_LONGEST_TARGET = 4_095
"""Bytes of a link's target: PATH_MAX of Linux less its NUL."""
_DIRECTORY_MODE = 0o755
_BLOCK = 4_096
"""Bytes that a directory takes up, and by which files grow, on most file systems."""
_UNUSABLE = (errno.ENAMETOOLONG, errno.EEXIST, errno.ENOTDIR, errno.ELOOP, errno.EISDIR, errno.EINVAL, errno.EILSEQ)
"""Errors that the names of a tree cause: too long for the file system, or the same to it."""


def write_tree_files(repository: Path, tree: str, into: Path, most_bytes: int) -> None:
    """Write the files of a tree below the new directory `into`. Blocks.

    Links become links, submodules empty directories; executable bits are kept. Raises HiveError `too_large` beyond
    `most_bytes`, `too_many_files`, `bad_tree` for what the file system cannot hold, `disk_full`. After a failure the
    caller must remove `into`.
    """
    found = entries(repository, tree, MOST_FILES)
    total = _size_on_disk(found, most_bytes)
    if total > most_bytes:
        why = f"the files take up {total:,} bytes or more, and a check may use {most_bytes:,} on the disk"
        raise HiveError("too_large", why, hint="raise checks.disk in the hive's settings")
    files = [entry for entry in found if entry.mode != _SUBMODULE]
    with disk_full_as_error("write the files of a check"):
        into.mkdir(mode=_DIRECTORY_MODE)
        with open_directory(into) as top, _Writer(top) as writer:
            with read_batch(repository, [entry.sha for entry in files], _SECONDS) as process:
                for entry in files:
                    header = process.header()
                    if header is None or header.kind != "blob":
                        raise HiveError("repository_damaged", f"the object {entry.sha} is missing", status=500)
                    if entry.mode == _LINK:
                        if header.size > _LONGEST_TARGET:
                            raise _unusable(entry, "it is a link with too long a target")
                        writer.link(entry, process.read(header, _LONGEST_TARGET))
                    else:
                        writer.file(entry, process.content(header))
            for entry in found:
                if entry.mode == _SUBMODULE:
                    writer.directory(entry)


def _size_on_disk(found: Iterable[Entry], most: int) -> int:
    """Return about the bytes that files and their directories take up, or a part that is above `most`.

    A few trees that name each other can make any number of directories, which have no size in git.
    """
    total = 0
    before: list[bytes] = []
    for entry in found:
        *directories, _ = os.fsencode(entry.path).split(b"/")
        # They come in git's order, so a directory is new if it differs from that of the file before.
        same = (one == other for one, other in zip(directories, before, strict=False))
        known = sum(1 for _ in takewhile(bool, same))
        total += _BLOCK * (len(directories) - known) + -(-entry.size // _BLOCK) * _BLOCK
        if total > most:
            break
        before = directories
    return total


class _Writer:
    """Writes entries below the directory `top`. The directories of the last path stay open, as the next are in them."""

    def __init__(self, top: int) -> None:
        self._top = top
        self._path: list[bytes] = []
        self._descriptor = os.dup(top)

    def __enter__(self) -> _Writer:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)

    def file(self, entry: Entry, content: Iterable[bytes]) -> None:
        mode = _MODES.get(entry.mode)
        if mode is None:
            raise _unusable(entry, f"it has the mode {entry.mode}")
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            name = self._enter(entry)
            file = os.open(name, flags, mode, dir_fd=self._descriptor)
        except OSError as error:
            raise _refused(entry, error) from None
        with os.fdopen(file, "wb") as stream:
            os.fchmod(file, mode)  # Whatever the umask.
            for piece in content:
                stream.write(piece)

    def link(self, entry: Entry, target: bytes) -> None:
        if not target or b"\0" in target:
            raise _unusable(entry, "it is a link to nothing")
        try:
            name = self._enter(entry)
            os.symlink(target, name, dir_fd=self._descriptor)
        except OSError as error:
            raise _refused(entry, error) from None

    def directory(self, entry: Entry) -> None:
        try:
            name = self._enter(entry)
            os.mkdir(name, _DIRECTORY_MODE, dir_fd=self._descriptor)
        except OSError as error:
            raise _refused(entry, error) from None

    def _enter(self, entry: Entry) -> bytes:
        """Open the directory of a path, creating what is missing; returns the last part of the path."""
        *directories, name = check_path(entry.path)
        if directories != self._path:
            self._open(directories)
        return name

    def _open(self, directories: Sequence[bytes]) -> None:
        parent = os.dup(self._top)
        try:
            for directory in directories:
                with suppress(FileExistsError):
                    os.mkdir(directory, _DIRECTORY_MODE, dir_fd=parent)
                    os.chmod(directory, _DIRECTORY_MODE, dir_fd=parent)
                # Only one directory of the path is open at a time, however deep it is. A link is refused.
                below = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
                os.close(parent)
                parent = below
        except BaseException:
            os.close(parent)
            raise
        os.close(self._descriptor)
        self._descriptor, self._path = parent, list(directories)


def _refused(entry: Entry, error: OSError) -> Exception:
    """Return the error for a path that could not be created; that of a full disk as it is."""
    return _unusable(entry, error.strerror or "it cannot be made") if error.errno in _UNUSABLE else error


def _unusable(entry: Entry, why: str) -> HiveError:
    why = f"{shown(entry.path[:200])} cannot be written: {why}"
    return HiveError("bad_tree", why, hint="rename it, or leave it out")
