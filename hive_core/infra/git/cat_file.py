"""Objects of a repository, read through one `git cat-file` process."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from hive_core.errors import HiveError
from hive_core.infra.git.command import RunningGit, run_in_background
from hive_core.infra.processes import Process, readable

_LINE_MOST = 8_192


@dataclass(frozen=True)
class BatchHeader:
    """What an object is, before its content; `size` in bytes."""

    sha: str
    kind: str
    size: int


class CatFileProcess:
    """The answers to one request, in its order: for each object `header`, then `content` or `whole` to its end."""

    def __init__(self, command: RunningGit) -> None:
        self._command = command
        self._chunks = command.chunks()
        self._buffer = b""

    def header(self) -> BatchHeader | None:
        """The next object's; None if there is no such object, which then has no content."""
        line = self._line()
        if line.endswith(b" missing"):
            return None
        parts = line.split(b" ")
        if len(parts) != 3 or not parts[2].isdigit():
            raise _strange(f"answered {line[:200]!r}")
        return BatchHeader(parts[0].decode(), parts[1].decode(), int(parts[2]))

    def content(self, header: BatchHeader) -> Iterator[bytes]:
        """The content of the object whose header came last, in pieces; read it all before the next header."""
        left = header.size
        while left:
            if not self._buffer:
                self._more()
            piece, self._buffer = self._buffer[:left], self._buffer[left:]
            left -= len(piece)
            yield piece
        if not self._buffer:
            self._more()
        self._buffer = self._buffer[1:]

    def whole(self, header: BatchHeader, most: int) -> bytes:
        """The whole content. Raises HiveError `too_large` without reading it if it is more than `most` bytes."""
        if header.size > most:
            why = f"the {header.kind} {header.sha} has {header.size} bytes, at most {most} are read"
            raise HiveError("too_large", why, hint="make it smaller", status=413)
        return b"".join(self.content(header))

    def _line(self) -> bytes:
        while b"\n" not in self._buffer:
            if len(self._buffer) > _LINE_MOST:
                raise _strange("answered with too long a line")
            self._more()
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line

    def _more(self) -> None:
        chunk = next(self._chunks, b"")
        if not chunk:
            self._command.check()
            raise _strange("ended too early")
        self._buffer += chunk


@contextmanager
def read_batch(repository: Path, names: Sequence[str]) -> Iterator[CatFileProcess]:
    """Ask for objects by sha, or by `<commit>:<path>`; no name may hold a newline."""
    if any("\n" in name for name in names):
        raise ValueError("a newline in an object's name")
    feed = "".join(f"{name}\n" for name in names).encode(errors="surrogateescape")
    with run_in_background(repository, "cat-file", "--batch", feed=feed) as command:
        yield CatFileProcess(command)


def read_file(repository: Path, commit: str, path: str, limit: int) -> bytes | None:
    """A file of a commit; None if the commit has none of that path. Raises HiveError `too_large` beyond `limit` bytes.

    A symbolic link gives the text of the link: nothing is followed.
    """
    # git takes a path that begins with dots as relative to a working directory, which there is not.
    if "\n" in path or "\0" in path or not {"", ".", ".."}.isdisjoint(path.split("/")):
        return None
    with read_batch(repository, [f"{commit}:{path}"]) as process:
        header = process.header()
        if header is None or header.kind != "blob":
            return None
        return process.whole(header, limit)


def _strange(what: str) -> HiveError:
    return HiveError("git_failed", f"git cat-file {what}", hint="see the repository with git fsck", status=500)


ARGUMENTS = ("cat-file", "--batch-command")
_HEADER = re.compile(rb"[0-9a-f]{40} ([a-z]+) ([0-9]+)")
_HEADER_MOST = 1_024
_AT_ONCE = 256
"""Questions sent before their answers are read: few enough to fit into a pipe, so that neither side waits forever."""


@dataclass(frozen=True)
class ObjectHeader:
    """An object's kind (commit, tree, blob or tag) and its size in bytes."""

    kind: str
    size: int


class TooLarge(Exception):
    """An object is larger than the caller wants to read; the conversation is over."""


class ObjectReader:
    """A conversation with a `cat-file` that was started with `ARGUMENTS`; its end is the caller's to see to."""

    def __init__(self, process: Process, questions: int) -> None:
        self._process = process
        self._questions = questions
        self._buffer = bytearray()

    async def headers(self, shas: Sequence[str]) -> list[ObjectHeader | None]:
        """Kind and size of each object, None for one that is not there."""
        found: list[ObjectHeader | None] = []
        for start in range(0, len(shas), _AT_ONCE):
            chunk = shas[start : start + _AT_ONCE]
            self._ask("".join(f"info {sha}\n" for sha in chunk))
            found += [await self._header() for _ in chunk]
        return found

    async def read(self, sha: str, most: int) -> tuple[str, bytes] | None:
        """Kind and content of an object, None if it is not there. Raises TooLarge beyond `most` bytes."""
        self._ask(f"contents {sha}\n")
        header = await self._header()
        if header is None:
            return None
        if header.size > most:
            raise TooLarge(header.size)
        while len(self._buffer) <= header.size:
            await self._more()
        content = bytes(self._buffer[: header.size])
        del self._buffer[: header.size + 1]
        return header.kind, content

    def _ask(self, text: str) -> None:
        with suppress(BrokenPipeError):
            # All earlier answers were read, so the pipe is empty and takes this without waiting.
            os.write(self._questions, text.encode())

    async def _header(self) -> ObjectHeader | None:
        while (end := self._buffer.find(b"\n")) < 0:
            if len(self._buffer) > _HEADER_MOST:
                raise _unexpected(self._buffer)
            await self._more()
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        if line.endswith(b" missing"):
            return None
        header = _HEADER.fullmatch(line)
        if header is None:
            raise _unexpected(line)
        return ObjectHeader(header[1].decode(), int(header[2]))

    async def _more(self) -> None:
        await readable(self._process.output)
        with suppress(BlockingIOError):
            chunk = os.read(self._process.output, 65536)
            if not chunk:
                raise _unexpected(self._buffer)
            self._buffer += chunk


def _unexpected(said: bytes | bytearray) -> HiveError:
    line = bytes(said[:200]).decode(errors="replace").partition("\n")[0]
    why = f"git cat-file said {line!r}" if line else "git cat-file ended before it had answered"
    return HiveError("intake_failed", why, hint="see the daemon's log; git 2.36 or newer is needed", status=500)
