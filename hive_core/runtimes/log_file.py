"""An agent's rotating log: writing, and reading by cursor.

Agents are hostile: they can write without end, without newlines, and terminal escapes. So lines are cut, files are
rotated, and bytes are kept as they came; whoever shows a log escapes it.

A log is two files: the one written now and the one before it. Every line starts with its time to the microsecond, so
the first bytes of a file tell it from every other; a cursor is a mark made of those and the offset of the next
line. It therefore stays good when the file is rotated; after a second rotation reading goes on with the oldest line.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import re
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import structlog

from hive_core.errors import bad_request
from hive_core.infra.concurrency.threads import LOGS
from hive_core.infra.processes import LineCutter, readable

_log = structlog.get_logger(__name__)


MAX_LINE_BYTES = 16 * 1024
MAX_FILE_BYTES = 5 * 1024 * 1024
BYTES_PER_SECOND = 2 * 1024 * 1024
"""A harness that writes faster waits in its own write, so that copying its output leaves the daemon time for others."""
_CHUNK = 16 * 1024
_DRAIN_BYTES = 1024 * 1024
_CUT = b" [line cut]"


def _cut(line: bytes) -> bytes:
    return line if len(line) <= MAX_LINE_BYTES else line[:MAX_LINE_BYTES] + _CUT


class LogFile:
    """One agent's log. Lines are written in threads, so that a slow disk does not block the daemon."""

    def __init__(self, path: Path, max_bytes: int = MAX_FILE_BYTES) -> None:
        self.path = path
        self._older = path.with_name(path.name + ".1")
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._cutter = LineCutter(MAX_LINE_BYTES)
        self._descriptor: int | None = None
        self._size = 0
        self._failing = False
        self._closed = False
        self._news = asyncio.Event()
        self.last_line = ""
        """The last line with any text that was appended since the last `open`, also if the disk is full."""

    def open(self) -> None:
        """Create the file and its directory, private to the daemon. Raises OSError, also for a link in its place."""
        with self._lock:
            self.last_line = ""
            self._open()

    async def append(self, data: bytes) -> int:
        """Add output; returns the bytes written. A full disk loses lines, and says so once in the daemon's log."""
        written = await LOGS.run(self._append, data, False)
        self._wake()
        return written

    async def finish(self) -> None:
        """Write the last line if it has no newline, because the writer has ended."""
        await LOGS.run(self._append, b"", True)
        self._wake()

    async def read(self, lines: int, cursor: str | None, wait_seconds: float) -> tuple[list[str], str]:
        """Return the last `lines`, or the next after `cursor`, waiting up to `wait_seconds` for the first of these.

        The second value is the next cursor. Answers are limited in bytes, too, so they can hold fewer lines.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + wait_seconds
        since = None if cursor is None else parse_cursor(cursor)
        while True:
            news = self._news
            found, end = await LOGS.run(self._read, lines, since)
            if found or since is None or self._closed or loop.time() >= deadline:
                return [line.decode(errors="replace") for line in found], str(end)
            with suppress(TimeoutError):
                async with asyncio.timeout_at(deadline):
                    await news.wait()

    def close(self) -> None:
        """Close the file; reads that wait for lines return none."""
        self._closed = True
        self._wake()
        with self._lock:
            self._release()

    def _wake(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    def _read(self, lines: int, since: Cursor | None) -> tuple[list[bytes], Cursor]:
        # Locked, so that no rotation makes one file appear as both.
        with self._lock:
            files = [self._older, self.path]
            return last_lines(files, lines) if since is None else lines_after(files, since, lines)

    def _append(self, data: bytes, final: bool) -> int:
        with self._lock:
            lines = self._cutter.feed(data) + (self._cutter.finish() if final else [])
            last = next((line for line in reversed(lines) if line.strip()), None)
            if last is not None:
                self.last_line = _cut(last).decode(errors="replace").rstrip()
            stamp = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ ").encode()
            text = b"".join(stamp + _cut(line) + b"\n" for line in lines)
            if not text or self._closed:
                return 0
            try:
                self._write(text)
            except OSError as error:
                if not self._failing:
                    _log.warning("agent log lost lines", path=str(self.path), error=os.strerror(error.errno or 0))
                self._failing = True
                self._release()
                return 0
            self._failing = False
            return len(text)

    def _write(self, text: bytes) -> None:
        descriptor = self._open()
        if os.fstat(descriptor).st_nlink == 0:
            # The file was removed: create it again, so that it can be read.
            self._release()
            descriptor = self._open()
        if self._size and self._size + len(text) > self._max_bytes:
            self._release()
            self.path.replace(self._older)
            descriptor = self._open()
        while text:
            written = os.write(descriptor, text)
            self._size += written
            text = text[written:]

    def _open(self) -> int:
        if self._descriptor is not None:
            return self._descriptor
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        descriptor = os.open(self.path, flags, 0o600)
        try:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                raise OSError(errno.EINVAL, "not a regular file", str(self.path))
            self._size = found.st_size
            if self._size and os.pread(descriptor, 1, self._size - 1) != b"\n":
                # The daemon was killed while it wrote a line.
                self._size += os.write(descriptor, b"\n")
        except BaseException:
            os.close(descriptor)
            raise
        self._descriptor = descriptor
        return descriptor

    def _release(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


async def copy_output(descriptor: int, log: LogFile, ended: asyncio.Future[None]) -> None:
    """Copy a child's output into its log until `ended` is done and the pipe is empty.

    The pipe's end is not waited for: a process that outlived the child may hold it open, and may even go on writing.
    """
    left = _DRAIN_BYTES
    while left > 0:
        try:
            chunk = os.read(descriptor, _CHUNK)
        except BlockingIOError:
            if ended.done():
                break
            await readable(descriptor, unless=ended)
            continue
        if not chunk:
            break
        if ended.done():
            left -= len(chunk)
        written = await log.append(chunk)
        await asyncio.sleep(max(written, len(chunk)) / BYTES_PER_SECOND)
    await log.finish()


STAMP_BYTES = 27
"""Length of the time at the start of every line."""
ANSWER_BYTES = 1024 * 1024
"""The bytes of a log in one answer, for any number of lines."""
_BLOCK = 64 * 1024
_NO_MARK = "0"
_CURSOR = re.compile(r"(0|[0-9a-f]{16})-([0-9]{1,18})")


@dataclass(frozen=True)
class Cursor:
    """A position in a log: a file, by its mark, and the offset of the next line in it."""

    mark: str
    offset: int

    def __str__(self) -> str:
        return f"{self.mark}-{self.offset}"


def parse_cursor(text: str) -> Cursor:
    """Parse a cursor from an earlier answer; one of another form is refused."""
    found = _CURSOR.fullmatch(text)
    if found is None:
        raise _bad_cursor()
    return Cursor(found[1], int(found[2]))


def last_lines(files: list[Path], lines: int) -> tuple[list[bytes], Cursor]:
    """Return the last `lines` complete lines of a log, and the cursor after them. `files`: the older one first."""
    with _opened(files) as logs:
        found: list[bytes] = []
        budget = ANSWER_BYTES
        for log in reversed(logs):
            part = log.last(lines - len(found), budget)
            found = part + found
            budget -= sum(len(line) + 1 for line in part)
            if len(found) >= lines or budget <= 0:
                break
        return found, logs[-1].end() if logs else Cursor(_NO_MARK, 0)


def lines_after(files: list[Path], cursor: Cursor, lines: int) -> tuple[list[bytes], Cursor]:
    """Return the next `lines` complete lines after `cursor`, and the next cursor. `files`: the older one first."""
    with _opened(files) as logs:
        marks = [log.mark for log in logs]
        first, offset = (marks.index(cursor.mark), cursor.offset) if cursor.mark in marks else (0, 0)
        found: list[bytes] = []
        budget = ANSWER_BYTES
        for log in logs[first:]:
            part, offset = log.after(offset, lines - len(found), budget)
            found += part
            cursor = Cursor(log.mark, offset)
            budget -= sum(len(line) + 1 for line in part)
            if len(found) >= lines or budget <= 0 or offset < log.whole:
                break
            offset = 0
        return found, cursor


class LogReader:
    """One open log file. `whole` is the offset behind its last newline: what follows is still being written."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.whole = self._behind_newline(os.fstat(descriptor).st_size)
        head = os.pread(descriptor, STAMP_BYTES, 0)
        self.mark = hashlib.blake2s(head, digest_size=8).hexdigest()

    def end(self) -> Cursor:
        return Cursor(self.mark, self.whole)

    def last(self, lines: int, budget: int) -> list[bytes]:
        """Return the last `lines` lines, reading backwards, at most about `budget` bytes."""
        blocks: list[bytes] = []
        newlines, position = 0, self.whole
        floor = max(0, self.whole - budget)
        while position > floor and newlines <= lines:
            start = max(floor, position - _BLOCK)
            block = os.pread(self._descriptor, position - start, start)
            blocks.append(block)
            newlines += block.count(b"\n")
            position = start
        found = b"".join(reversed(blocks)).split(b"\n")[:-1]
        return (found if position == 0 else found[1:])[-lines:]

    def after(self, offset: int, lines: int, budget: int) -> tuple[list[bytes], int]:
        """Return up to `lines` lines from `offset` on, and the offset after them."""
        if offset > self.whole or (offset and os.pread(self._descriptor, 1, offset - 1) != b"\n"):
            raise _bad_cursor()
        data = os.pread(self._descriptor, min(budget, self.whole - offset), offset)
        found = data.split(b"\n")[:-1][:lines]
        return found, offset + sum(len(line) + 1 for line in found)

    def _behind_newline(self, size: int) -> int:
        position = size
        while position > 0:
            start = max(0, position - _BLOCK)
            newline = os.pread(self._descriptor, position - start, start).rfind(b"\n")
            if newline >= 0:
                return start + newline + 1
            position = start
        return 0


@contextmanager
def _opened(files: list[Path]) -> Iterator[list[LogReader]]:
    descriptors: list[int] = []
    try:
        for file in files:
            try:
                descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            except FileNotFoundError:
                continue
            descriptors.append(descriptor)
        regular = [item for item in descriptors if stat.S_ISREG(os.fstat(item).st_mode)]
        yield [log for log in map(LogReader, regular) if log.whole > 0]
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def _bad_cursor() -> Exception:
    return bad_request(
        "the cursor does not belong to this log", "use the cursor of an earlier answer as it is, or leave it out"
    )
