"""An agent's log: what its harness wrote to standard output and error, one line per line, never more than two files.

Agents are hostile: they can write without end, without newlines, and terminal escapes. So lines are cut, files are
rotated, and bytes are kept as they came; whoever shows a log escapes it.
"""

from __future__ import annotations

import asyncio
import errno
import os
import stat
import threading
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import structlog

from hive_core.infra.processes import readable
from hive_core.runtimes.logreader import Cursor, last_lines, lines_after, parse_cursor

MAX_LINE_BYTES = 16 * 1024
MAX_FILE_BYTES = 5 * 1024 * 1024
BYTES_PER_SECOND = 2 * 1024 * 1024
"""A harness that writes faster waits in its own write: the daemon has better things to do than copying its noise."""
_CHUNK = 16 * 1024
_DRAIN_BYTES = 1024 * 1024
_CUT = b" [line cut]"

_log = structlog.get_logger(__name__)


class LineCutter:
    """Makes lines of at most `MAX_LINE_BYTES` from chunks; holds back an unfinished line, of bounded size."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        *whole, rest = (self._rest + data).split(b"\n")
        # One byte more than may be kept: enough to know later that the line was too long.
        self._rest = rest[: MAX_LINE_BYTES + 1]
        return [_cut(line) for line in whole]

    def finish(self) -> list[bytes]:
        """The line that was never ended, if there is one."""
        rest, self._rest = self._rest, b""
        return [_cut(rest)] if rest else []


def _cut(line: bytes) -> bytes:
    return line if len(line) <= MAX_LINE_BYTES else line[:MAX_LINE_BYTES] + _CUT


class LogFile:
    """One agent's log. Lines are written in threads, so that a slow disk does not hold up the daemon."""

    def __init__(self, path: Path, max_bytes: int = MAX_FILE_BYTES) -> None:
        self.path = path
        self._older = path.with_name(path.name + ".1")
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._cutter = LineCutter()
        self._descriptor: int | None = None
        self._size = 0
        self._failing = False
        self._closed = False
        self._news = asyncio.Event()

    def open(self) -> None:
        """Make the file and its directory, private to the daemon. Raises OSError, also where a link lies in the way."""
        with self._lock:
            self._open()

    async def append(self, data: bytes) -> int:
        """Add output; returns the bytes written. A full disk loses lines, and says so once in the daemon's log."""
        written = await asyncio.to_thread(self._append, data, False)
        self._wake()
        return written

    async def finish(self) -> None:
        """The writer has ended: what it left without a newline is a line, too."""
        await asyncio.to_thread(self._append, b"", True)
        self._wake()

    async def read(self, lines: int, cursor: str | None, wait_seconds: float) -> tuple[list[str], str]:
        """The last `lines`, or the next after `cursor`, waiting up to `wait_seconds` for the first of these.

        Returns them with the cursor to go on with. Answers are limited in bytes, too, so they can hold fewer lines.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + wait_seconds
        since = None if cursor is None else parse_cursor(cursor)
        while True:
            news = self._news
            found, end = await asyncio.to_thread(self._read, lines, since)
            if found or since is None or self._closed or loop.time() >= deadline:
                return [line.decode(errors="replace") for line in found], str(end)
            with suppress(TimeoutError):
                async with asyncio.timeout_at(deadline):
                    await news.wait()

    def close(self) -> None:
        """Release the file; whoever waits for lines gets none."""
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
            stamp = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ ").encode()
            text = b"".join(stamp + line + b"\n" for line in lines)
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
            # Somebody removed it: begin anew, where it can be read.
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
