"""Reading objects through one `git cat-file --batch-command`: no process per object, and never more than asked for."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from hive_core.errors import HiveError
from hive_core.infra.processes import Process, readable

ARGUMENTS = ("cat-file", "--batch-command")
_HEADER = re.compile(rb"[0-9a-f]{40} ([a-z]+) ([0-9]+)")
_HEADER_MOST = 1_024
_AT_ONCE = 256
"""Questions sent before their answers are read: few enough to fit into a pipe, so that neither side waits forever."""


@dataclass(frozen=True)
class Header:
    """An object's kind (commit, tree, blob or tag) and its size in bytes."""

    kind: str
    size: int


class TooLarge(Exception):
    """An object is larger than the caller wants to read; the conversation is over."""


class Objects:
    """A conversation with a `cat-file` that was started with `ARGUMENTS`; its end is the caller's to see to."""

    def __init__(self, process: Process, questions: int) -> None:
        self._process = process
        self._questions = questions
        self._buffer = bytearray()

    async def headers(self, shas: Sequence[str]) -> list[Header | None]:
        """Kind and size of each object, None for one that is not there."""
        found: list[Header | None] = []
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

    async def _header(self) -> Header | None:
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
        return Header(header[1].decode(), int(header[2]))

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
