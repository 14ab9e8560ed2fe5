"""Writing an object as a file of its own, without a process, so that it survives a power cut."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from secrets import token_hex
from typing import Literal

from hive_core.infra.files import refusing, sync

TEMPORARY = "tmp_obj_"
"""How the names of unfinished objects begin: git's own clean-up knows it too."""


def write(objects: Path, kind: Literal["blob", "tree", "commit", "tag"], content: bytes) -> str:
    """Store an object below a repository's `objects` directory and give its sha; on disk when this returns.

    gitdb's own `store` neither syncs nor renews the age of an object that is there already, which a clean-up may
    then take for an old one; so gitdb only does the encoding here. Raises HiveError `disk_full`.
    """
    with refusing("store an object"), _temporary(objects) as (descriptor, path):
        sha = _encode(descriptor, kind, content)
        directory = objects / sha[:2]
        target = directory / sha[2:]
        if _renewed(target):
            sync(target)
        else:
            os.fsync(descriptor)
            with suppress(FileExistsError):
                directory.mkdir()
                sync(objects)
            path.rename(target)
        sync(directory)
    return sha


def _encode(descriptor: int, kind: str, content: bytes) -> str:
    from gitdb.base import IStream  # type: ignore[import-untyped] # noqa: PLC0415
    from gitdb.db import LooseObjectDB  # type: ignore[import-untyped] # noqa: PLC0415
    from gitdb.stream import FDCompressedSha1Writer  # type: ignore[import-untyped] # noqa: PLC0415

    database = LooseObjectDB("")
    # It closes the descriptor that it is given.
    writer = FDCompressedSha1Writer(os.dup(descriptor))
    try:
        database.set_ostream(writer)
        database.store(IStream(kind, len(content), io.BytesIO(content)))
    finally:
        writer.close()
    return str(writer.sha(as_hex=True))


def _renewed(target: Path) -> bool:
    """Whether the object is there already; it counts as new then. An empty file is what a power cut left of one."""
    try:
        if target.stat().st_size == 0:
            return False
        os.utime(target)
    except FileNotFoundError:
        return False
    return True


@contextmanager
def _temporary(directory: Path) -> Iterator[tuple[int, Path]]:
    path = directory / f"{TEMPORARY}{token_hex(8)}"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o444)
    try:
        yield descriptor, path
    finally:
        os.close(descriptor)
        path.unlink(missing_ok=True)
