"""Durable and atomic writes, and reads that follow no links."""

from __future__ import annotations

import errno
import os
import re
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def open_directory(path: Path | str | bytes, within: int | None = None, *, path_only: bool = False) -> Iterator[int]:
    """Open a directory, `path` being relative to the descriptor `within`, and yield its descriptor.

    `path_only` needs no permission to read the directory; its descriptor can only be used to reach entries below it.

    Raises:
        OSError: The last part of `path` is a link or no directory, or it cannot be opened.
    """
    access = os.O_PATH if path_only else os.O_RDONLY
    descriptor = os.open(path, access | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=within)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def has_mount_below(directory: Path) -> bool:
    """Return True if a file system is mounted below `directory`, or if that cannot be determined."""
    try:
        points = [point for point, _ in _mounts()]
    except OSError:
        return True
    below = os.fsencode(directory.resolve()) + b"/"
    return any(point.startswith(below) for point in points)


def filesystem_type(path: Path) -> str:
    """Return the type of the file system of `path`, such as `ext4`; "" if it cannot be determined."""
    try:
        mounts = _mounts()
    except OSError:
        return ""
    inside = os.fsencode(path.resolve()) + b"/"
    # The last of those with the longest path: it hides the others.
    around = [(len(point), number) for number, (point, _) in enumerate(mounts) if inside.startswith(point)]
    return mounts[max(around)[1]][1] if around else ""


def _mounts() -> list[tuple[bytes, str]]:
    """Return mount points, those of directories with a final slash, and the types of what is mounted there."""
    found = []
    for line in Path("/proc/self/mountinfo").read_bytes().splitlines():
        # The fifth field is the mount point, with spaces and the like in octal; the type is the first behind a field
        # that is only a hyphen (proc_pid_mountinfo(5)).
        fields = line.split()
        point = re.sub(rb"\\([0-7]{3})", lambda code: bytes([int(code[1], 8)]), fields[4])
        found.append((point.rstrip(b"/") + b"/", fields[fields.index(b"-") + 1].decode(errors="replace")))
    return found


def sync(path: Path) -> None:
    """Write a file's content or a directory's entries to the disk. Links are not followed."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_all(top: Path) -> None:
    """Sync a directory and all files in it; meant for a few dozen files."""
    for directory, _, files in os.walk(top):
        for name in files:
            path = Path(directory, name)
            if not path.is_symlink():
                sync(path)
        sync(Path(directory))


def make_readable(top: Path) -> None:
    """Make a directory of plain files readable for everyone and its files writable for nobody, whatever the umask."""
    for parent, _, files in os.walk(top):
        for name in files:
            path = Path(parent, name)
            path.chmod(0o555 if path.stat().st_mode & 0o100 else 0o444)
        Path(parent).chmod(0o755)


_MAX_TEXT_BYTES = 1024 * 1024


def read(path: Path) -> str | None:
    """Read a text file, at most 1 MiB of it; None if it does not exist. Raises OSError as `read_bytes` does."""
    try:
        return read_bytes(path, _MAX_TEXT_BYTES).decode(errors="replace")
    except FileNotFoundError:
        return None


def read_bytes(path: Path, most: int) -> bytes:
    """Read the first `most` bytes of a regular file. Raises OSError, also for a link or a special file."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        mode = os.fstat(descriptor).st_mode
        # Before `fdopen`, which refuses a directory and leaves its descriptor open.
        if not stat.S_ISREG(mode):
            number = errno.EISDIR if stat.S_ISDIR(mode) else errno.EINVAL
            raise OSError(number, os.strerror(number), str(path))
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return file.read(most)
    finally:
        os.close(descriptor)


def replace(path: Path, text: str, mode: int, *, durable: bool = False) -> bool:
    """Replace a file in an existing directory by one with `text` and exactly `mode`; return True if it was different.

    One that is so already is not touched: without any space, a change without effect fails, too. With `durable`, the
    file has the old or the new text after a power failure. Raises OSError.
    """
    if _is_so(path, text, mode):
        return False
    replace_bytes(path, text.encode(), mode, durable=durable)
    return True


def replace_bytes(path: Path, content: bytes, mode: int, *, durable: bool = False) -> None:
    """Replace a file in an existing directory by one with `content` and `mode`, whatever the umask.

    Raises OSError, and then the file is as it was. With `durable`, the file has the old or the new content after a
    power failure.
    """
    with open_directory(path.parent) as directory:
        temporary = f".{path.name}.{secrets.token_hex(8)}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(temporary, flags, mode, dir_fd=directory)
        try:
            with os.fdopen(descriptor, "wb") as file:
                os.fchmod(descriptor, mode)
                file.write(content)
                if durable:
                    file.flush()
                    os.fsync(file.fileno())
            os.replace(temporary, path.name, src_dir_fd=directory, dst_dir_fd=directory)
        except BaseException:
            with suppress(FileNotFoundError):
                os.unlink(temporary, dir_fd=directory)
            raise
        if durable:
            os.fsync(directory)


def _is_so(path: Path, text: str, mode: int) -> bool:
    try:
        return read(path) == text and stat.S_IMODE(path.lstat().st_mode) == mode
    except OSError:
        return False  # A link or a special file is replaced too.
