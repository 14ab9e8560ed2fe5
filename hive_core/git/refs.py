"""Refs: what is to become of one, and reading them from their files, without a process and without an object."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from hive_core.git.refnames import TAGS

_PACKED = re.compile(rb"^([0-9a-f]{40}) (refs/tags/[^\n]+)$", re.MULTILINE)
_SHA = re.compile(rb"[0-9a-f]{40}")
_DEPTH = 8
# ELOOP: a link, which only somebody else can have put there.
_NO_REF = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})


@dataclass(frozen=True)
class RefChange:
    """Set `ref` (its full name) to the object `new`. `old` is what it has to hold now; None: it must not exist."""

    ref: str
    new: str
    old: str | None = None


def tags(repository: Path) -> dict[str, str]:
    """Every name under `refs/tags/` with what it holds: the tag object's sha."""
    # Packing writes the packed file before it removes the loose ones, so reading them in this order misses none.
    loose = dict(_loose(str(repository / "refs/tags"), "", _DEPTH))
    packed = {name[10:].decode(errors="replace"): sha.decode() for sha, name in _PACKED.findall(_packed(repository))}
    packed.update(loose)
    return packed


def resolve(repository: Path, ref: str) -> str | None:
    """What a full ref name holds; None if there is no such ref."""
    return _read(str(repository / ref)) or _find(_packed(repository), ref)


def count_loose(repository: Path, most: int) -> int:
    """How many tags lie in files of their own; counting stops at `most`."""
    count = 0
    for _, _, files in os.walk(repository / TAGS):
        count += len(files)
        if count >= most:
            break
    return count


def _loose(directory: str, prefix: str, depth: int) -> Iterator[tuple[str, str]]:
    try:
        found = list(os.scandir(directory))
    except (FileNotFoundError, NotADirectoryError):
        return
    for entry in found:
        if entry.is_dir(follow_symlinks=False):
            if depth:
                yield from _loose(entry.path, f"{prefix}{entry.name}/", depth - 1)
        elif not entry.name.endswith(".lock"):
            sha = _read(entry.path)
            if sha is not None:
                yield prefix + entry.name, sha


def _read(path: str) -> str | None:
    # The plain system calls: with thousands of loose refs, Python's file objects cost more than the disk.
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in _NO_REF:
            return None
        raise
    try:
        text = os.read(descriptor, 64)
    except IsADirectoryError:
        return None
    finally:
        os.close(descriptor)
    sha = text.rstrip(b"\n")
    return sha.decode() if _SHA.fullmatch(sha) else None


def _packed(repository: Path) -> bytes:
    try:
        return (repository / "packed-refs").read_bytes()
    except FileNotFoundError:
        return b""


def _find(packed: bytes, ref: str) -> str | None:
    at = packed.find(b" %b\n" % ref.encode())
    return packed[at - 40 : at].decode() if at >= 40 else None
