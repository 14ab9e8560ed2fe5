"""The files of a tar stream that an agent has made, on disk. Nothing is written outside of the target.

The stream is the agent's word, so it is taken apart here, and not by a library that resolves paths: every directory is
opened relative to the one above it, without following links, and every file is created anew. Devices, FIFOs and links
that lead out of what is copied are left out; owners, setuid and setgid are not taken over.
"""

from __future__ import annotations

import errno
import os
import stat
import tarfile
from collections.abc import Callable, Sequence
from contextlib import suppress

from hive_core.cli.access.frame_stream import FrameStream

_BLOCK = tarfile.BLOCKSIZE
_CHUNK = 256 * 1024
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NAME_MAX = 255
_PATH_MAX = 4_095
_MOST_LEVELS = 200
_MOST_LEFT_OUT = 20
_LOOK_BYTES = 64 * 1024 * 1024
"""Bytes that are written between two looks at the free space."""
_MEMBER_BYTES = 16 * 1024
"""An entry counts for so many bytes at least, as it takes an inode and memory."""
_RESERVE_BYTES = 1024**3
_RESERVE_SHARE = 50
_LONG_NAMES = (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)


class BadStream(Exception):
    """The agent sent what is no tar stream of the copied path; the text says what."""


class TarReader:
    """Writes the members of a stream into a directory. Use as a context manager."""

    def __init__(
        self, stream: FrameStream, top: int, first: str, target: str, progress: Callable[[int], None] = lambda _: None
    ) -> None:
        """Members are written below the descriptor `top`, as `target` in place of the `first` part of their names.

        `progress` gets the number of bytes of each part of a file that is written.
        """
        self._stream = stream
        self._top = top
        self._first = first
        self._target = target
        self._progress = progress
        # Used again and again: fresh memory for every part would cost more than copying it.
        self._buffer = memoryview(bytearray(_CHUNK))
        self._open: list[tuple[str, int]] = []
        self._directories: dict[tuple[str, ...], tuple[int, float]] = {}
        """Those that were made, with their modes and times: one that was there before keeps its own."""
        self._until_look = 0
        self._umask = os.umask(0)
        os.umask(self._umask)
        self.files = 0
        self.left_out: list[str] = []
        """The first twenty entries that were not written, each with the reason."""
        self.left_out_count = 0

    def __enter__(self) -> TarReader:
        return self

    def __exit__(self, *_: object) -> None:
        self._close_to(0)

    def read_all(self) -> None:
        """Write all members. Raises BadStream, OSError and Failure."""
        name = link = None
        while (header := self._next_header()) is not None:
            if header.type in _LONG_NAMES:
                text = self._read_text(header.size)
                name, link = (text, link) if header.type == tarfile.GNUTYPE_LONGNAME else (name, text)
                continue
            if name is not None:
                header.name = name
            if link is not None:
                header.linkname = link
            name = link = None
            self._write(header)
        self._finish_directories()

    def _next_header(self) -> tarfile.TarInfo | None:
        block = self._stream.read_exactly(_BLOCK)
        if len(block) != _BLOCK:
            raise BadStream("a tar stream that is cut off")
        if not any(block):
            return None
        try:
            header = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        except (tarfile.HeaderError, ValueError, OverflowError):
            raise BadStream("what is no tar stream") from None
        if header.size < 0:
            raise BadStream("a member of a negative size")
        return header

    def _write(self, header: tarfile.TarInfo) -> None:
        parts = self._parts(header.name)
        self._look_at_space(_MEMBER_BYTES)
        try:
            if header.type in (tarfile.REGTYPE, tarfile.AREGTYPE):
                self._write_file(header, parts)
                return
            if header.size:
                self._skip(header.size)
            if header.isdir():
                self._make_directory(header, parts)
            elif header.issym():
                self._make_link(header, parts)
            elif header.islnk():
                self._link_file(header, parts)
            else:
                self._leave_out(parts, "it is a device, a FIFO or of an unknown kind")
        except OSError as error:
            if error.errno not in (errno.ENOTDIR, errno.ENOENT, errno.ELOOP):
                raise
            raise BadStream(f"{header.name!r}, which does not fit the members before it") from None

    def _parts(self, path: str) -> Sequence[str]:
        """Return the parts of a member's path below `top`. Raises BadStream if it could lead elsewhere."""
        first, *others = path.rstrip("/").split("/")
        bad = first != self._first or len(others) >= _MOST_LEVELS or len(os.fsencode(path)) > _PATH_MAX
        for part in others:
            if part in ("", ".", "..") or "\0" in part or len(os.fsencode(part)) > _NAME_MAX:
                bad = True
        if bad:
            raise BadStream(f"the member {path[:200]!r}, which is no path of what is copied")
        return [self._target, *others]

    def _write_file(self, header: tarfile.TarInfo, parts: Sequence[str]) -> None:
        *above, name = parts
        parent = self._enter(above)
        self._remove_old(name, parent)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        file = os.open(name, flags, 0o600, dir_fd=parent)
        try:
            left = header.size
            while left:
                count = self._stream.read_into(self._buffer[:left])
                if not count:
                    raise BadStream("a tar stream that is cut off")
                left -= count
                self._progress(count)
                self._look_at_space(count)
                rest = self._buffer[:count]
                while rest:
                    rest = rest[os.write(file, rest) :]
            os.fchmod(file, header.mode & 0o777 & ~self._umask)
            _set_time(file, header.mtime)
        finally:
            os.close(file)
        self._skip_padding(header.size)
        self.files += 1

    def _look_at_space(self, count: int) -> None:
        """Raise OSError when so much has come that the file system of the person is nearly full."""
        self._until_look -= count
        if self._until_look >= 0:
            return
        self._until_look = _LOOK_BYTES
        found = os.fstatvfs(self._top)
        # A fiftieth of a small file system is enough.
        reserve = min(_RESERVE_BYTES, found.f_blocks * found.f_frsize // _RESERVE_SHARE)
        if found.f_bavail * found.f_frsize < reserve or found.f_favail < found.f_files // _RESERVE_SHARE:
            raise OSError(errno.ENOSPC, "the rest was not copied, as it would fill the disk")

    def _make_directory(self, header: tarfile.TarInfo, parts: Sequence[str]) -> None:
        *above, name = parts
        key = tuple(parts)
        try:
            os.mkdir(name, 0o700, dir_fd=self._enter(above))
            is_made = True
        except FileExistsError:  # A link in its place is found when it is entered.
            is_made = key in self._directories
        self._enter(parts)
        if is_made:
            self._directories[key] = header.mode & 0o777 & ~self._umask, header.mtime

    def _make_link(self, header: tarfile.TarInfo, parts: Sequence[str]) -> None:
        *above, name = parts
        if not _stays_within(header.linkname, len(above)):
            self._leave_out(parts, "it is a link that leads out of what is copied")
            return
        parent = self._enter(above)
        self._remove_old(name, parent)
        os.symlink(header.linkname, name, dir_fd=parent)

    def _link_file(self, header: tarfile.TarInfo, parts: Sequence[str]) -> None:
        *place, original = self._parts(header.linkname)
        source = os.dup(self._enter(place))
        try:
            # Not a link: at another depth it could lead out of what is copied.
            if not stat.S_ISREG(os.stat(original, dir_fd=source, follow_symlinks=False).st_mode):
                self._leave_out(parts, "it is a link to something that is no file")
                return
            *above, name = parts
            parent = self._enter(above)
            if list(parts) == [*place, original]:
                return
            self._remove_old(name, parent)
            os.link(original, name, src_dir_fd=source, dst_dir_fd=parent, follow_symlinks=False)
        finally:
            os.close(source)
        self.files += 1

    def _remove_old(self, name: str, parent: int) -> None:
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=parent)

    def _leave_out(self, parts: Sequence[str], why: str) -> None:
        self.left_out_count += 1
        if len(self.left_out) < _MOST_LEFT_OUT:
            self.left_out.append(f"{'/'.join(parts)}: {why}")

    def _finish_directories(self) -> None:
        """Set the modes and times of the directories, which their content must not find in its way."""
        for parts, (mode, moment) in reversed(self._directories.items()):
            directory = self._enter(parts)
            os.fchmod(directory, mode | 0o700)
            _set_time(directory, moment)

    def _enter(self, parts: Sequence[str]) -> int:
        """Return the descriptor of a directory; it stays open while its entries follow each other."""
        common = 0
        while common < min(len(parts), len(self._open)) and parts[common] == self._open[common][0]:
            common += 1
        self._close_to(common)
        for part in parts[common:]:
            self._open.append((part, os.open(part, _DIRECTORY, dir_fd=self._deepest())))
        return self._deepest()

    def _deepest(self) -> int:
        return self._open[-1][1] if self._open else self._top

    def _close_to(self, depth: int) -> None:
        while len(self._open) > depth:
            os.close(self._open.pop()[1])

    def _read_text(self, size: int) -> str:
        if size > _PATH_MAX + 1:
            raise BadStream("a path that is too long")
        text = self._stream.read_exactly(size)
        self._skip_padding(size)
        return text.partition(b"\0")[0].decode("utf-8", "surrogateescape")

    def _skip(self, size: int) -> None:
        left = size + -size % _BLOCK
        while left:
            data = self._stream.read(min(left, _CHUNK))
            if not data:
                raise BadStream("a tar stream that is cut off")
            left -= len(data)

    def _skip_padding(self, size: int) -> None:
        if len(self._stream.read_exactly(-size % _BLOCK)) != -size % _BLOCK:
            raise BadStream("a tar stream that is cut off")


def _stays_within(target: str, depth: int) -> bool:
    """Return True if a link in a directory `depth` levels below the top leads to what is copied.

    One at the top, which is all that is copied, leads to something of the person who copies. A `..` may only be at the
    beginning: behind another link it would not lead back to where it seems to.
    """
    if not target or target.startswith("/") or "\0" in target or len(os.fsencode(target)) > _PATH_MAX:
        return False
    parts = [part for part in target.split("/") if part not in ("", ".")]
    upward = 0
    while upward < len(parts) and parts[upward] == "..":
        upward += 1
    return upward < depth and ".." not in parts[upward:]


def _set_time(file: int, moment: float) -> None:
    with suppress(OSError, OverflowError, ValueError):
        os.utime(file, (moment, moment))
