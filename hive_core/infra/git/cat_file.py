"""Reading objects of a repository through one `git cat-file` process.

There are two readers, because their callers differ: `CatFileProcess` streams objects from the daemon's own
repositories in a thread; `ObjectReader` asks a confined git one question after another on the event loop.
"""

from __future__ import annotations

import os
import re
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from hive_core.errors import HiveError
from hive_core.infra.git.command import SECONDS, RunningGit, run_in_background
from hive_core.infra.processes import Process, readable

_MAX_LINE_BYTES = 8_192
"""A line without an object repeats what was asked for: a commit and a path, of which Linux takes 4,096 bytes."""
_MAX_HEADER_BYTES = 1_024
"""Limit of a line from a confined git, which is asked for ids only."""
_HEADER = re.compile(rb"([0-9a-f]{40}) ([a-z]+) ([0-9]+)")


@dataclass(frozen=True)
class ObjectHeader:
    """An object's id, its kind (commit, tree, blob or tag) and its size in bytes."""

    sha: str
    kind: str
    size: int


def _parse_header(line: bytes) -> ObjectHeader | None:
    """Return the header of an object, None if git has no such object. Raises ValueError for any other line."""
    if line.endswith(b" missing"):
        return None
    header = _HEADER.fullmatch(line)
    if header is None:
        raise ValueError(line)
    return ObjectHeader(header[1].decode(), header[2].decode(), int(header[3]))


class CatFileProcess:
    """The objects of one request, in its order: call `header`, then read all of `content` or call `read`."""

    def __init__(self, command: RunningGit) -> None:
        self._command = command
        self._chunks = command.chunks()
        self._buffer = b""

    def header(self) -> ObjectHeader | None:
        """Return the header of the next object; None if the object does not exist and so has no content."""
        line = self._read_line()
        try:
            return _parse_header(line)
        except ValueError:
            raise _git_failed(f"answered {line[:200]!r}") from None

    def content(self, header: ObjectHeader) -> Iterator[bytes]:
        """Yield the content after `header` in pieces. The caller must read all of it before the next header."""
        left = header.size
        while left:
            if not self._buffer:
                self._fill_buffer()
            piece, self._buffer = self._buffer[:left], self._buffer[left:]
            left -= len(piece)
            yield piece
        if not self._buffer:
            self._fill_buffer()
        self._buffer = self._buffer[1:]

    def read(self, header: ObjectHeader, limit: int) -> bytes:
        """Return the content after `header`. Raises HiveError `too_large`, before reading, beyond `limit` bytes."""
        if header.size > limit:
            why = f"the {header.kind} {header.sha} has {header.size} bytes, at most {limit} are read"
            raise HiveError("too_large", why, hint="make it smaller", status=413)
        return b"".join(self.content(header))

    def _read_line(self) -> bytes:
        while b"\n" not in self._buffer:
            if len(self._buffer) > _MAX_LINE_BYTES:
                raise _git_failed("answered with too long a line")
            self._fill_buffer()
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line

    def _fill_buffer(self) -> None:
        chunk = next(self._chunks, b"")
        if not chunk:
            self._command.check()
            raise _git_failed("ended too early")
        self._buffer += chunk


@contextmanager
def read_batch(repository: Path, names: Sequence[str], seconds: float = SECONDS) -> Iterator[CatFileProcess]:
    """Start reading objects, named by id or by `<commit>:<path>`. Raises ValueError for a newline in a name.

    All of them must have been read after `seconds`, or HiveError `git_slow` is raised.
    """
    if any("\n" in name for name in names):
        raise ValueError("a newline in an object's name")
    feed = "".join(f"{name}\n" for name in names).encode(errors="surrogateescape")
    with run_in_background(repository, "cat-file", "--batch", feed=feed, seconds=seconds) as command:
        yield CatFileProcess(command)


def read_file(repository: Path, commit: str, path: str, limit: int) -> bytes | None:
    """Return a file of a commit, None if the commit has no file at that path.

    A symbolic link is not followed: its own text is returned. Raises HiveError `too_large` beyond `limit` bytes.
    """
    # git takes a path that begins with dots as relative to the working directory, which a bare repository lacks.
    if "\n" in path or "\0" in path or not {"", ".", ".."}.isdisjoint(path.split("/")):
        return None
    with read_batch(repository, [f"{commit}:{path}"]) as process:
        header = process.header()
        if header is None or header.kind != "blob":
            return None
        return process.read(header, limit)


def _git_failed(problem: str) -> HiveError:
    return HiveError("git_failed", f"git cat-file {problem}", hint="see the repository with git fsck", status=500)


ARGUMENTS = ("cat-file", "--batch-command")
_BATCH_SIZE = 256
"""Requests sent before their answers are read. They fit into a pipe, so neither side waits for the other forever."""


class TooLarge(Exception):
    """An object is larger than the caller accepts. Its reader cannot be used any more."""


class ObjectReader:
    """Requests to a `git cat-file` that the caller has started with `ARGUMENTS` and ends itself.

    `requests` is the write end of the process's standard input.
    """

    def __init__(self, process: Process, requests: int) -> None:
        self._process = process
        self._requests = requests
        self._buffer = bytearray()

    async def headers(self, shas: Sequence[str]) -> list[ObjectHeader | None]:
        """Return the header of each object, None for one that does not exist."""
        headers: list[ObjectHeader | None] = []
        for start in range(0, len(shas), _BATCH_SIZE):
            batch = shas[start : start + _BATCH_SIZE]
            self._send("".join(f"info {sha}\n" for sha in batch))
            headers += [await self._read_header() for _ in batch]
        return headers

    async def read(self, sha: str, limit: int) -> tuple[str, bytes] | None:
        """Return kind and content of an object, None if it does not exist. Raises TooLarge beyond `limit` bytes."""
        self._send(f"contents {sha}\n")
        header = await self._read_header()
        if header is None:
            return None
        if header.size > limit:
            raise TooLarge(header.size)
        while len(self._buffer) <= header.size:
            await self._fill_buffer()
        content = bytes(self._buffer[: header.size])
        del self._buffer[: header.size + 1]
        return header.kind, content

    async def pieces(self, shas: Sequence[str]) -> AsyncIterator[tuple[int, bytes]]:
        """Yield the content of the objects in pieces, each with the index of its object; nothing of a missing one.

        An empty piece ends each object. The caller must read all pieces before the next request.
        """
        for start in range(0, len(shas), _BATCH_SIZE):
            batch = shas[start : start + _BATCH_SIZE]
            self._send("".join(f"contents {sha}\n" for sha in batch))
            for index in range(start, start + len(batch)):
                header = await self._read_header()
                left = header.size if header is not None else 0
                while left:
                    if not self._buffer:
                        await self._fill_buffer()
                    piece = bytes(self._buffer[:left])
                    del self._buffer[: len(piece)]
                    left -= len(piece)
                    yield index, piece
                if header is not None:
                    if not self._buffer:
                        await self._fill_buffer()
                    del self._buffer[:1]  # The newline behind the content.
                    yield index, b""

    def _send(self, text: str) -> None:
        with suppress(BrokenPipeError):
            # All earlier answers were read, so the pipe is empty and takes the text without blocking.
            os.write(self._requests, text.encode())

    async def _read_header(self) -> ObjectHeader | None:
        while (end := self._buffer.find(b"\n")) < 0:
            if len(self._buffer) > _MAX_HEADER_BYTES:
                raise _intake_failed(self._buffer)
            await self._fill_buffer()
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        try:
            return _parse_header(line)
        except ValueError:
            raise _intake_failed(line) from None

    async def _fill_buffer(self) -> None:
        await readable(self._process.output)
        with suppress(BlockingIOError):
            chunk = os.read(self._process.output, 65536)
            if not chunk:
                raise _intake_failed(self._buffer)
            self._buffer += chunk


def _intake_failed(output: bytes | bytearray) -> HiveError:
    line = bytes(output[:200]).decode(errors="replace").partition("\n")[0]
    why = f"git cat-file answered {line!r}" if line else "git cat-file ended before it answered"
    return HiveError("intake_failed", why, hint="see the daemon's log; git 2.36 or newer is needed", status=500)
