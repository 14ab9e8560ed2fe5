"""Files of the person who types, as a tar stream for an agent."""

from __future__ import annotations

import os
import stat
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

from hive_core.cli.access.frame_stream import FrameStream
from hive_core.protocol.access.frames import MOST_BYTES

_BLOCK = tarfile.BLOCKSIZE
_SMALL = 64 * 1024
_END = bytes(2 * _BLOCK)


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
        self._add(path, name, follow=True)
        pending = [(path, name, self._entries(path))] if path.is_dir() else []
        while pending and self._stream.end is None:
            directory, above, names = pending[-1]
            entry = next(names, None)
            if entry is None:
                pending.pop()
                continue
            below, inside = directory / entry, f"{above}/{entry}"
            try:
                if self._add(below, inside):
                    pending.append((below, inside, self._entries(below)))
            except OSError as error:
                self._leave_out(below, error.strerror or str(error))
        self._buffer += _END
        self._flush()

    def _entries(self, directory: Path) -> Iterator[str]:
        try:
            return iter(sorted(entry.name for entry in directory.iterdir()))
        except OSError as error:
            self._leave_out(directory, error.strerror or str(error))
            return iter(())

    def _add(self, path: Path, name: str, *, follow: bool = False) -> bool:
        """Add one entry; returns True if it is a directory."""
        found = path.stat() if follow else path.lstat()
        member = tarfile.TarInfo(name)
        member.mode = stat.S_IMODE(found.st_mode) & 0o777
        member.mtime = int(found.st_mtime)
        if stat.S_ISDIR(found.st_mode):
            member.type = tarfile.DIRTYPE
        elif stat.S_ISLNK(found.st_mode):
            member.type, member.linkname = tarfile.SYMTYPE, str(path.readlink())
        elif stat.S_ISREG(found.st_mode):
            self._add_file(path, member)
            return False
        else:
            self._leave_out(path, "it is a socket, a FIFO or a device")
            return False
        self._put(_header(member))
        return stat.S_ISDIR(found.st_mode)

    def _add_file(self, path: Path, member: tarfile.TarInfo) -> None:
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
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
        finally:
            os.close(file)
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
