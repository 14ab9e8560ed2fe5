"""Reading many objects of an applied repository with one process, in pieces: memory does not depend on their size."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from hive_core.errors import HiveError
from hive_core.infra.git.command import Running, running

_LINE_MOST = 8_192


@dataclass(frozen=True)
class Header:
    """What an object is, before its content; `size` in bytes."""

    sha: str
    kind: str
    size: int


class Batch:
    """The answers to one request, in its order: for each object `header`, then `content` or `whole` to its end."""

    def __init__(self, command: Running) -> None:
        self._command = command
        self._chunks = command.chunks()
        self._buffer = b""

    def header(self) -> Header | None:
        """The next object's; None if there is no such object, which then has no content."""
        line = self._line()
        if line.endswith(b" missing"):
            return None
        parts = line.split(b" ")
        if len(parts) != 3 or not parts[2].isdigit():
            raise _strange(f"answered {line[:200]!r}")
        return Header(parts[0].decode(), parts[1].decode(), int(parts[2]))

    def content(self, header: Header) -> Iterator[bytes]:
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

    def whole(self, header: Header, most: int) -> bytes:
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
def reading(repository: Path, names: Sequence[str]) -> Iterator[Batch]:
    """Ask for objects by sha, or by `<commit>:<path>`; no name may hold a newline."""
    if any("\n" in name for name in names):
        raise ValueError("a newline in an object's name")
    feed = "".join(f"{name}\n" for name in names).encode(errors="surrogateescape")
    with running(repository, "cat-file", "--batch", feed=feed) as command:
        yield Batch(command)


def read(repository: Path, commit: str, path: str, limit: int) -> bytes | None:
    """A file of a commit; None if the commit has none of that path. Raises HiveError `too_large` beyond `limit` bytes.

    A symbolic link gives the text of the link: nothing is followed.
    """
    # git takes a path that begins with dots as relative to a working directory, which there is not.
    if "\n" in path or "\0" in path or not {"", ".", ".."}.isdisjoint(path.split("/")):
        return None
    with reading(repository, [f"{commit}:{path}"]) as batch:
        header = batch.header()
        if header is None or header.kind != "blob":
            return None
        return batch.whole(header, limit)


def _strange(what: str) -> HiveError:
    return HiveError("git_failed", f"git cat-file {what}", hint="see the repository with git fsck", status=500)
