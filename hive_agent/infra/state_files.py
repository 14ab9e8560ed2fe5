"""Small files in an agent's state directory, which the agent can change.

Symbolic links are not followed, anything but a regular file is refused with an OSError, and reads are bounded. A line
that was only partly written when the harness was killed does not damage the next one.
"""

from __future__ import annotations

import errno
import logging
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

log = logging.getLogger(__name__)
M = TypeVar("M", bound=BaseModel)


# Without O_NONBLOCK, opening a named pipe would wait for ever.
_SAFELY = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def append_line(path: Path, line: bytes, *, durable: bool = False) -> int:
    """Append `line` (without newline) and return the file's size; `durable`: it is on disk when this returns."""
    with _plain_file(path, os.O_RDWR | os.O_APPEND | os.O_CREAT) as (file, size):
        torn = size > 0 and os.pread(file, 1, size - 1) != b"\n"
        content = b"%s%s\n" % (b"\n" if torn else b"", line)
        written = os.write(file, content)
        if written < len(content):
            raise OSError(errno.ENOSPC, "the line was only partly written", str(path))
        if durable:
            os.fdatasync(file)
        return size + written


def read_lines(path: Path, most: int) -> Iterator[bytes]:
    """Yield the complete lines in the last `most` bytes; none if there is no file.

    They are produced one by one, because the allocator does not return the memory of all of them at once.
    """
    content, is_whole = _read_end(path, most)
    return _split(content, 0 if is_whole else content.find(b"\n") + 1)


def read_text(path: Path, most: int) -> str:
    """Read a text file, or its last `most` bytes without a line that they begin within; empty if there is no file."""
    content, is_whole = _read_end(path, most)
    return content[0 if is_whole else content.find(b"\n") + 1 :].decode(errors="replace")


def _read_end(path: Path, most: int) -> tuple[bytes, bool]:
    """Read the last `most` bytes, and whether that is the whole file."""
    try:
        with _plain_file(path, os.O_RDONLY) as (file, size):
            start = max(0, size - most)
            return os.pread(file, most, start), start == 0
    except FileNotFoundError:
        return b"", True


def _split(content: bytes, begin: int) -> Iterator[bytes]:
    while (end := content.find(b"\n", begin)) >= 0:
        yield content[begin:end]
        begin = end + 1


def replace_lines(path: Path, lines: Iterable[bytes]) -> None:
    """Replace the file by one with these lines, atomically and durably; only its owner can read it."""
    fresh = path.with_name(path.name + ".new")
    fresh.unlink(missing_ok=True)
    file = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _SAFELY, 0o600)
    with os.fdopen(file, "wb") as stream:
        stream.writelines(b"%s\n" % line for line in lines)
        stream.flush()
        os.fsync(stream.fileno())
    fresh.replace(path)


@contextmanager
def _plain_file(path: Path, flags: int) -> Iterator[tuple[int, int]]:
    """Open a regular file; yields its descriptor and its size in bytes."""
    file = os.open(path, flags | _SAFELY, 0o600)
    try:
        found = os.fstat(file)
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        yield file, found.st_size
    finally:
        os.close(file)


_MOST_BYTES = 16 * 1024


def load_model(path: Path, model: type[M], most: int = _MOST_BYTES) -> M | None:
    """Read a file of at most `most` bytes that `save_model` wrote; None if it is missing or not valid."""
    try:
        content = b"\n".join(read_lines(path, most))
        return model.model_validate_json(content) if content else None
    except (OSError, ValidationError) as error:
        log.warning("%s cannot be read (%s), continuing without it", path, type(error).__name__)
        return None


def save_model(path: Path, content: BaseModel) -> None:
    """Replace the file by one with `content`. A failure is logged; the content is then lost with a restart."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        replace_lines(path, [content.model_dump_json().encode()])
    except OSError as error:
        log.error("%s cannot be written: %s", path, error)
