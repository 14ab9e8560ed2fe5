"""Small files in an agent's state directory, which the agent may tamper with.

No link is followed, what is no plain file is refused with an OSError, and what is read has a bound. A line that was
being written when the harness was killed is in no other line's way.

So a file that is not what it should be counts as missing, and no failure to write stops anything.
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
    """Add `line` (without its end) and return the file's size; `durable`: it is on disk when this returns."""
    with _plain_file(path, os.O_RDWR | os.O_APPEND | os.O_CREAT) as (file, size):
        torn = size > 0 and os.pread(file, 1, size - 1) != b"\n"
        content = b"%s%s\n" % (b"\n" if torn else b"", line)
        written = os.write(file, content)
        if written < len(content):
            raise OSError(errno.ENOSPC, "the line was written in part only", str(path))
        if durable:
            os.fdatasync(file)
        return size + written


def read_lines(path: Path, most: int) -> Iterator[bytes]:
    """The lines in the last `most` bytes, only whole ones; none if there is no file.

    They are made one by one: the memory that all at once would take is not had back from the allocator.
    """
    try:
        with _plain_file(path, os.O_RDONLY) as (file, size):
            start = max(0, size - most)
            content = os.pread(file, most, start)
    except FileNotFoundError:
        return iter(())
    return _split(content, content.find(b"\n") + 1 if start > 0 else 0)


def _split(content: bytes, begin: int) -> Iterator[bytes]:
    while (end := content.find(b"\n", begin)) >= 0:
        yield content[begin:end]
        begin = end + 1


def replace_lines(path: Path, lines: Iterable[bytes]) -> None:
    """Put a file with these lines into the place of what is there, at once and durably, for its owner only."""
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
    """The file opened, and its size in bytes."""
    file = os.open(path, flags | _SAFELY, 0o600)
    try:
        found = os.fstat(file)
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.EINVAL, "this is no plain file", str(path))
        yield file, found.st_size
    finally:
        os.close(file)


_MOST_BYTES = 16 * 1024


def load_model(path: Path, model: type[M]) -> M | None:
    """What `save` wrote; None if there is nothing like that."""
    try:
        content = b"\n".join(read_lines(path, _MOST_BYTES))
        return model.model_validate_json(content) if content else None
    except (OSError, ValidationError) as error:
        log.warning("%s cannot be read (%s), going on without it", path, type(error).__name__)
        return None


def save_model(path: Path, content: BaseModel) -> None:
    """Keep it in the place of what is there. If that fails, a restart forgets, and that is all."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        replace_lines(path, [content.model_dump_json().encode()])
    except OSError as error:
        log.error("%s cannot be written: %s", path, error)
