"""Refs: what is to become of one, and reading them from their files, without a process and without an object."""

from __future__ import annotations

import errno
import mmap
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from hive_core.infra.git.names import TAGS

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
    with _packed(repository) as packed:
        found = {name[10:].decode(errors="replace"): sha.decode() for sha, name in _PACKED.findall(packed)}
    found.update(loose)
    return found


def resolve(repository: Path, ref: str) -> str | None:
    """What a full ref name holds; None if there is no such ref."""
    held = _read(str(repository / ref))
    if held is not None:
        return held
    with _packed(repository) as packed:
        return _find(packed, ref.encode())


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


@contextmanager
def _packed(repository: Path) -> Iterator[bytes | mmap.mmap]:
    """The packed refs. git never changes the file, but puts another one in its place."""
    try:
        file = (repository / "packed-refs").open("rb")
    except FileNotFoundError:
        yield b""
        return
    with file:
        if os.fstat(file.fileno()).st_size == 0:
            yield b""
            return
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as packed:
            yield packed


def _find(packed: bytes | mmap.mmap, ref: bytes) -> str | None:
    """What a packed ref holds: one record is `<sha> <ref>`, and after it may come `^<sha>` of what a tag points to."""
    first = packed.find(b"\n") + 1
    if not (packed[:1] == b"#" and b" sorted " in packed[:first]):
        at = packed.find(b" %b\n" % ref)
        return packed[at - 40 : at].decode() if at >= 40 else None
    low, high = first, len(packed)
    while low < high:
        start = packed.rfind(b"\n", low, (low + high) // 2) + 1 or low
        if packed[start : start + 1] == b"^":
            start = packed.rfind(b"\n", low, start - 1) + 1 or low
        end = packed.find(b"\n", start)
        if end < 0:
            break
        name = packed[start + 41 : end]
        if name == ref:
            return packed[start : start + 40].decode()
        if name > ref:
            high = start
            continue
        low = end + 1
        if packed[low : low + 1] == b"^":
            low = packed.find(b"\n", low) + 1 or high
    return None
