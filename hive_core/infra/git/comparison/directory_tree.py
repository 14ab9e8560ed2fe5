"""The id that git gives a tree, computed from a directory on disk, to compare the files of a build with their commit.

No git runs, so no attribute, filter or setting has an effect. The formats are those of gitformat-pack(5), "Loose
objects", and of git-fast-import(1), "filemodify".
"""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

from hive_core.infra.storage.files import open_directory

_CHUNK = 1024 * 1024
_DEEPEST = 256
"""Directories in directories. Each level takes an open descriptor."""


class NotATreeError(ValueError):
    """A directory holds what no tree of plain files has; the text names the path."""


def tree_id(directory: Path) -> str:
    """Return the id of the tree with the files below `directory`: their names, contents and executable bits. Blocks.

    Raises NotATreeError for links, special files and empty directories, which no commit that passed intake has, and
    OSError.
    """
    with open_directory(directory) as descriptor:
        return _level(descriptor, [])


def _level(directory: int, above: list[str]) -> str:
    lines: list[tuple[bytes, bytes]] = []
    if len(above) > _DEEPEST:
        raise NotATreeError("the directories are too deep")
    for name in os.listdir(directory):
        path = [*above, name]
        mode = os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode
        key = os.fsencode(name)
        if stat.S_ISDIR(mode):
            with open_directory(name, directory) as below:
                lines.append((key + b"/", b"40000 " + key + b"\0" + bytes.fromhex(_level(below, path))))
        elif stat.S_ISREG(mode):
            kind = b"100755 " if mode & stat.S_IXUSR else b"100644 "
            lines.append((key, kind + key + b"\0" + _blob(directory, name, path)))
        else:
            raise NotATreeError(f"{'/'.join(path)[:200]!r} is neither a plain file nor a directory")
    if not lines:
        raise NotATreeError(f"the directory {'/'.join(above)[:200]!r} is empty")
    # git sorts a directory as if its name ended in a slash.
    content = b"".join(line for _, line in sorted(lines))
    return hashlib.sha1(b"tree %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def _blob(directory: int, name: str, path: list[str]) -> bytes:
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    with os.fdopen(os.open(name, flags, dir_fd=directory), "rb") as file:
        size = os.fstat(file.fileno()).st_size
        digest = hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
        left = size
        while chunk := file.read(_CHUNK):
            left -= len(chunk)
            digest.update(chunk)
    if left:
        raise NotATreeError(f"{'/'.join(path)[:200]!r} changed while it was read")
    return digest.digest()
