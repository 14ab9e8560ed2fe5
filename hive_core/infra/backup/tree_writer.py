"""The files of agents in an archive. Agents can change these while they are read, so no link is followed.

Every entry is opened with O_PATH first, relative to the descriptor of its directory, and its content is read through
that descriptor only if it is a regular file: opening a device or a FIFO would have effects.
"""

from __future__ import annotations

import os
import stat
import tarfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import NamedTuple

PATH_MAX = 4_096
"""Longest path in an archive. What lies deeper could be opened by no program by its path, and is left out."""
_MOST_LEVELS = 500
"""Deepest directory in an archive: each level takes a descriptor."""
MODE_BITS = 0o1777
"""The bits of a mode that are kept. Setuid and setgid are not: root of a container can set them on files of root's."""
_LEAST_SPARSE = 64 * 1024
_MOST_SEGMENTS = 100_000
_MOST_LINKED = 200_000
_CHUNK = 1024 * 1024
_BLOCK = tarfile.BLOCKSIZE


class Segment(NamedTuple):
    """A part of a sparse file that is no hole."""

    offset: int
    size: int


class TreeWriter:
    """Writes trees of untrusted files to an archive. `leave_out` gets the path and the reason of what is not stored."""

    def __init__(self, archive: tarfile.TarFile, leave_out: Callable[[str, str], None]) -> None:
        self._archive = archive
        self._leave_out = leave_out
        self._linked: dict[tuple[int, int], str] = {}
        self.members = 0
        self.bytes = 0

    def add(self, within: int, name: str, path: str) -> None:
        """Add the entry `name` of the directory `within` as `path`, with everything below it."""
        pending: list[tuple[int, Iterator[str], str]] = []
        try:
            self._enter(within, name, path, pending)
            while pending:
                directory, names, parent = pending[-1]
                name = next(names, "")
                if name:
                    self._enter(directory, name, f"{parent}/{name}", pending)
                else:
                    os.close(directory)
                    pending.pop()
        finally:
            for directory, _, _ in pending:
                os.close(directory)

    def _enter(self, within: int, name: str, path: str, pending: list[tuple[int, Iterator[str], str]]) -> None:
        """Add an entry; put its own entries on `pending` if it is a directory."""
        if len(os.fsencode(path)) > PATH_MAX or len(pending) > _MOST_LEVELS:
            self._leave_out(path, "its path is too long")
            return
        try:
            entry = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=within)
        except FileNotFoundError:
            return
        except OSError as error:
            self._leave_out(path, os.strerror(error.errno or 0))
            return
        try:
            directory = self._add(entry, path)
            if directory is not None:
                pending.append((directory, iter(sorted(os.listdir(directory))), path))  # noqa: PTH208 - a descriptor
        except OSError as error:
            if isinstance(error, _ArchiveError):
                raise
            self._leave_out(path, os.strerror(error.errno or 0))
        finally:
            os.close(entry)

    def _add(self, entry: int, path: str) -> int | None:
        """Add an entry, and return a descriptor to read it if it is a directory."""
        found = os.fstat(entry)
        member = tarfile.TarInfo(path)
        member.mode = stat.S_IMODE(found.st_mode) & MODE_BITS
        member.uid, member.gid = found.st_uid, found.st_gid
        member.mtime = found.st_mtime
        if stat.S_ISDIR(found.st_mode):
            directory = os.open(f"/proc/self/fd/{entry}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            member.type = tarfile.DIRTYPE
            self._write(member)
            return directory
        if stat.S_ISLNK(found.st_mode):
            member.type = tarfile.SYMTYPE
            member.linkname = os.readlink("", dir_fd=entry)
            self._write(member)
        elif stat.S_ISREG(found.st_mode):
            self._add_file(entry, found, member)
        elif not stat.S_ISSOCK(found.st_mode):
            # Nothing is lost with a socket, and every agent that runs has some: to name them would hide the rest.
            self._leave_out(path, "it is a FIFO or a device")
        return None

    def _add_file(self, entry: int, found: os.stat_result, member: tarfile.TarInfo) -> None:
        if found.st_nlink > 1:
            key = (found.st_dev, found.st_ino)
            if key in self._linked:
                member.type, member.linkname = tarfile.LNKTYPE, self._linked[key]
                self._write(member)
                return
            if len(self._linked) < _MOST_LINKED:
                self._linked[key] = member.name
        file = os.open(f"/proc/self/fd/{entry}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            segments = [Segment(0, found.st_size)]
            head = b""
            if found.st_size > _LEAST_SPARSE and found.st_blocks * 512 < found.st_size:
                segments = read_segments(file, found.st_size)
                head = _sparse_map(member, segments, found.st_size)
            member.size = len(head) + sum(segment.size for segment in segments)
            content = _Content(file, head, segments)
            self._write(member, content)
            if content.short:
                self._leave_out(member.name, "it became shorter while it was read; zeros are in place of the rest")
        except _TooManySegments:
            self._leave_out(member.name, f"it has more than {_MOST_SEGMENTS} holes")
        finally:
            os.close(file)

    def _write(self, member: tarfile.TarInfo, content: _Content | None = None) -> None:
        try:
            self._archive.addfile(member, content)  # type: ignore[arg-type]
        except OSError as error:
            raise _ArchiveError(error.errno, error.strerror) from error
        self._archive.members.clear()  # type: ignore[attr-defined]  # Otherwise all of them would be kept in memory.
        self.members += 1
        self.bytes += member.size


class _ArchiveError(OSError):
    """The archive cannot be written, in contrast to an error of the file that is read."""


class _TooManySegments(Exception):
    pass


def read_segments(file: int, size: int) -> list[Segment]:
    """Return the parts of a file that are no holes (lseek(2)), in order."""
    segments: list[Segment] = []
    end = 0
    with suppress(OSError):  # ENXIO: there is only a hole from `end` on.
        while end < size:
            start = os.lseek(file, end, os.SEEK_DATA)
            end = min(os.lseek(file, start, os.SEEK_HOLE), size)
            if start >= size:
                break
            if len(segments) == _MOST_SEGMENTS:
                raise _TooManySegments
            segments.append(Segment(start, end - start))
    return segments


def _sparse_map(member: tarfile.TarInfo, segments: list[Segment], size: int) -> bytes:
    """Make `member` a sparse file in GNU's format 1.0, and return the map that precedes the data.

    See https://www.gnu.org/software/tar/manual/html_section/Sparse-Formats.html
    """
    member.pax_headers = {
        "GNU.sparse.major": "1",
        "GNU.sparse.minor": "0",
        "GNU.sparse.name": member.name,
        "GNU.sparse.realsize": str(size),
    }
    listed = [*segments, Segment(size, 0)]
    text = "".join(f"{number}\n" for number in (len(listed), *(number for segment in listed for number in segment)))
    return text.encode().ljust(-(-len(text) // _BLOCK) * _BLOCK, b"\0")


class _Content:
    """The content of a file as the archive stores it, of exactly the size that was announced."""

    def __init__(self, file: int, head: bytes, segments: list[Segment]) -> None:
        self.short = False
        self._parts = self._read(file, head, segments)
        self._rest = b""

    def read(self, size: int) -> bytes:
        """Return `size` bytes."""
        parts = [self._rest]
        length = len(self._rest)
        while length < size and (part := next(self._parts, b"")):
            parts.append(part)
            length += len(part)
        content = b"".join(parts)
        self._rest = content[size:]
        return content[:size]

    def _read(self, file: int, head: bytes, segments: list[Segment]) -> Iterator[bytes]:
        if head:
            yield head
        for offset, size in segments:
            done = 0
            while done < size:
                wanted = min(_CHUNK, size - done)
                try:
                    part = os.pread(file, wanted, offset + done)
                except OSError:
                    part = b""
                if not part:
                    self.short = True
                    part = bytes(wanted)
                yield part
                done += len(part)
