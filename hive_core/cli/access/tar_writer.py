"""Files of the person who types, as a tar stream for an agent.

An agent may be able to write in what is copied, such as a directory that it is offered. So only the named path is
resolved; everything below it is opened relative to its directory, without following links.
"""

from __future__ import annotations

import os
import stat
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from hive_core.cli.access.frame_stream import FrameStream
from hive_core.protocol.access.frames import MOST_BYTES

_BLOCK = tarfile.BLOCKSIZE
_SMALL = 64 * 1024
_END = bytes(2 * _BLOCK)


@dataclass
class _Directory:
    """A directory whose entries are added. Without a descriptor entries are paths that are resolved."""

    descriptor: int | None
    path: Path
    name: str
    entries: Iterator[str]

    @property
    def follows(self) -> bool:
        return self.descriptor is None

    def close(self) -> None:
        if self.descriptor is not None:
            os.close(self.descriptor)


class TarWriter:
    """Writes a tree to a stream. Links are stored as links, special files are left out."""

    def __init__(self, stream: FrameStream, progress: Callable[[int], None] = lambda _: None) -> None:
        """`progress` gets the number of bytes of each part of a file that is sent."""
        self._stream = stream
        self._progress = progress
        self._buffer = bytearray()
        self.files = 0
        self.left_out: list[str] = []
        self.left_out_count = 0

    def write(self, path: Path, name: str) -> None:
        """Write `path` as `name`, with everything below it, and the end of the stream. Raises OSError and Failure."""
        pending: list[_Directory] = []
        try:
            self._add(pending, _Directory(None, Path(), "", iter(())), os.fspath(path), name)
            while pending and self._stream.end is None:
                above = pending[-1]
                entry = next(above.entries, None)
                if entry is None:
                    pending.pop().close()
                    continue
                try:
                    self._add(pending, above, entry, f"{above.name}/{entry}")
                except OSError as error:
                    self._leave_out(above.path / entry, error.strerror or str(error))
        finally:
            for directory in pending:
                directory.close()
        self._buffer += _END
        self._flush()

    def _add(self, pending: list[_Directory], above: _Directory, entry: str, name: str) -> None:
        """Add one entry of a directory; if it is a directory, its entries are `pending` then. Raises OSError."""
        path = above.path / entry
        found = os.stat(entry, dir_fd=above.descriptor, follow_symlinks=above.follows)
        member = tarfile.TarInfo(name)
        if stat.S_ISLNK(found.st_mode):
            member.mode, member.mtime = stat.S_IMODE(found.st_mode) & 0o777, int(found.st_mtime)
            member.type, member.linkname = tarfile.SYMTYPE, os.readlink(entry, dir_fd=above.descriptor)
            self._put(_header(member))
            return
        if not (stat.S_ISDIR(found.st_mode) or stat.S_ISREG(found.st_mode)):
            self._leave_out(path, "it is a socket, a FIFO or a device")
            return
        # It can be another one by now: not a link, and what is opened says of which kind it is.
        flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | (0 if above.follows else os.O_NOFOLLOW)
        opened = os.open(entry, flags, dir_fd=above.descriptor)
        try:
            found = os.fstat(opened)
            member.mode, member.mtime = stat.S_IMODE(found.st_mode) & 0o777, int(found.st_mtime)
            if stat.S_ISDIR(found.st_mode):
                member.type = tarfile.DIRTYPE
                entries = iter(sorted(os.listdir(opened)))  # noqa: PTH208 - a descriptor, not a path
                self._put(_header(member))
                pending.append(_Directory(os.dup(opened), path, name, entries))
            elif stat.S_ISREG(found.st_mode):
                self._add_file(opened, member)
            else:
                self._leave_out(path, "it is a socket, a FIFO or a device")
        finally:
            os.close(opened)

    def _add_file(self, file: int, member: tarfile.TarInfo) -> None:
        size = member.size = os.fstat(file).st_size
        self._put(_header(member))
        if size <= _SMALL:
            self._put(_read(file, size))
            self._progress(size)
        else:
            self._flush()
            offset = 0
            while offset < size and self._stream.end is None:
                sent = self._stream.write_file(file, offset, size - offset)
                self._progress(sent)
                offset += sent
        self._put(bytes(-size % _BLOCK))
        self.files += 1

    def _put(self, data: bytes) -> None:
        self._buffer += data
        if len(self._buffer) >= MOST_BYTES - _SMALL - 4 * _BLOCK:
            self._flush()

    def _flush(self) -> None:
        if self._buffer:
            self._stream.write(bytes(self._buffer))
            self._buffer.clear()

    def _leave_out(self, path: Path, why: str) -> None:
        self.left_out_count += 1
        if len(self.left_out) < 20:
            self.left_out.append(f"{path}: {why}")


def _header(member: tarfile.TarInfo) -> bytes:
    return member.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape")


def _read(file: int, size: int) -> bytes:
    """Read `size` bytes; zeros are in place of what is no longer there."""
    parts = bytearray()
    while len(parts) < size and (part := os.read(file, size - len(parts))):
        parts += part
    return bytes(parts.ljust(size, b"\0"))
