"""The files of an archive on disk again. Nothing is written outside of the directory, whatever the archive holds."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress

from hive_core.infra.backup.tree_writer import MODE_BITS
from hive_core.infra.storage.files import open_directory

_CHUNK = 1024 * 1024
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NAME_MAX = 255


class UnexpectedMember(Exception):
    """The archive holds something that a backup does not; the text says what."""


def check_member(member: tarfile.TarInfo) -> Sequence[str]:
    """Return the parts of a member's path. Raises UnexpectedMember if no backup has such a member."""
    if not (member.isreg() or member.isdir() or member.issym() or member.islnk()):
        raise UnexpectedMember(f"{member.name!r} is no file, directory or link")
    if member.islnk():
        check_path(member.linkname)
    return check_path(member.name)


def check_path(path: str) -> Sequence[str]:
    """Return the parts of a path in an archive. Raises UnexpectedMember if it could lead elsewhere."""
    parts = path.split("/")
    for part in parts:
        if part in ("", ".", "..") or "\0" in part or len(os.fsencode(part)) > _NAME_MAX:
            raise UnexpectedMember(f"{path!r} is no path of a backup")
    return parts


class TreeReader:
    """Writes the members of an archive below a new, empty directory. Use as a context manager.

    Every directory is opened relative to the one above it, without following links, and every file is created anew.
    """

    def __init__(self, top: int) -> None:
        """`top` is the descriptor of the directory."""
        self._top = top
        self._open: list[tuple[str, int]] = []
        self._directories: list[tarfile.TarInfo] = []
        self._privileged = os.geteuid() == 0
        self.other_owners = 0
        """Members whose owner could not be restored."""

    def __enter__(self) -> TreeReader:
        return self

    def __exit__(self, *_: object) -> None:
        self._close_to(0)

    def write(self, archive: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        """Write one member. Raises UnexpectedMember and OSError."""
        try:
            self._write(archive, member)
        except (FileExistsError, FileNotFoundError, NotADirectoryError):
            raise UnexpectedMember(f"{member.name!r} does not fit the members before it") from None

    def _write(self, archive: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        *above, name = check_member(member)
        parent = self._enter(above)
        if member.isdir():
            os.mkdir(name, 0o700, dir_fd=parent)
            self._directories.append(member)
        elif member.issym():
            os.symlink(member.linkname, name, dir_fd=parent)
            self._own(member, name, parent)
        elif member.islnk():
            *place, original = check_path(member.linkname)
            with self._reached(place) as source:
                os.link(original, name, src_dir_fd=source, dst_dir_fd=parent, follow_symlinks=False)
        else:
            self._write_file(archive, member, name, parent)

    def finish(self) -> None:
        """Give the directories their owners, modes and times, which their content must not find in its way."""
        for member in reversed(self._directories):
            *above, name = check_path(member.name)
            parent = self._enter(above)
            self._own(member, name, parent)
            os.chmod(name, member.mode & MODE_BITS, dir_fd=parent)
            _set_time(member, name, parent)

    def _write_file(self, archive: tarfile.TarFile, member: tarfile.TarInfo, name: str, parent: int) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(name, flags, 0o600, dir_fd=parent)
        with os.fdopen(descriptor, "wb") as file:
            for offset, part in content(archive, member):
                file.seek(offset)
                file.write(part)
            file.truncate(member.size)
            file.flush()
            if self._privileged:
                os.fchown(descriptor, member.uid, member.gid)
            os.fchmod(descriptor, member.mode & MODE_BITS)
        self._note_owner(member)
        _set_time(member, name, parent)

    def _own(self, member: tarfile.TarInfo, name: str, parent: int) -> None:
        if self._privileged:
            os.chown(name, member.uid, member.gid, dir_fd=parent, follow_symlinks=False)
        self._note_owner(member)

    def _note_owner(self, member: tarfile.TarInfo) -> None:
        if not self._privileged and member.uid != os.geteuid():
            self.other_owners += 1

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

    @contextmanager
    def _reached(self, parts: Sequence[str]) -> Iterator[int]:
        with ExitStack() as opened:
            descriptor = self._top
            for part in parts:
                descriptor = opened.enter_context(open_directory(part, descriptor))
            yield descriptor


def content(archive: tarfile.TarFile, member: tarfile.TarInfo) -> Iterator[tuple[int, bytes]]:
    """Yield the content of a file with its offsets, without the holes of a sparse one. Raises UnexpectedMember."""
    # `extractfile` would yield the holes too, and terabytes of them do not end.
    stream = archive.fileobj
    assert stream is not None
    stream.seek(member.offset_data)
    segments: list[tuple[int, int]] = getattr(member, "sparse", None) or [(0, member.size)]
    for offset, size in segments:
        if offset < 0 or size < 0 or offset + size > member.size:
            raise UnexpectedMember(f"{member.name!r} has data behind its end")
        done = 0
        while done < size:
            part = stream.read(min(_CHUNK, size - done))
            if not part:
                raise UnexpectedMember(f"{member.name!r} is cut off")
            yield offset + done, part
            done += len(part)


def _set_time(member: tarfile.TarInfo, name: str, parent: int) -> None:
    moment = int(float(member.mtime) * 1_000_000_000)
    with suppress(OSError, OverflowError):
        os.utime(name, ns=(moment, moment), dir_fd=parent, follow_symlinks=False)
