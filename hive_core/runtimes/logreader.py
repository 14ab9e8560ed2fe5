"""Reading an agent's log: its end without reading all of it, and what came after a cursor.

A log is two files: the one written now and the one before it. Every line starts with its time to the microsecond, so
the first bytes of a file tell it from every other; a cursor is a mark made of those and the offset of the next
line. It therefore stays good when the file is rotated; after a second rotation reading goes on with the oldest line.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from hive_core.errors import bad_request

STAMP_BYTES = 27
"""Length of the time at the start of every line."""
ANSWER_BYTES = 1024 * 1024
"""One answer holds at most so much of a log, whatever number of lines was asked for."""
_BLOCK = 64 * 1024
_NO_MARK = "0"
_CURSOR = re.compile(r"(0|[0-9a-f]{16})-([0-9]{1,18})")


@dataclass(frozen=True)
class Cursor:
    """Where to go on reading: a file, by its mark, and the offset of the next line in it."""

    mark: str
    offset: int

    def __str__(self) -> str:
        return f"{self.mark}-{self.offset}"


def parse_cursor(text: str) -> Cursor:
    """Read a cursor from an earlier answer; one of another form is refused."""
    found = _CURSOR.fullmatch(text)
    if found is None:
        raise _bad_cursor()
    return Cursor(found[1], int(found[2]))


def last_lines(files: list[Path], lines: int) -> tuple[list[bytes], Cursor]:
    """The last `lines` whole lines of a log, and the cursor behind them. `files`: the older one first."""
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
    """The next `lines` whole lines after `cursor`, and the cursor behind them. `files`: the older one first."""
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


class _Log:
    """One open log file. `whole` is the offset behind its last newline: what follows is still being written."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.whole = self._behind_newline(os.fstat(descriptor).st_size)
        head = os.pread(descriptor, STAMP_BYTES, 0)
        self.mark = hashlib.blake2s(head, digest_size=8).hexdigest()

    def end(self) -> Cursor:
        return Cursor(self.mark, self.whole)

    def last(self, lines: int, budget: int) -> list[bytes]:
        """The last `lines` lines, reading backwards, at most about `budget` bytes."""
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
        """Up to `lines` lines from `offset` on, and the offset behind them."""
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
def _opened(files: list[Path]) -> Iterator[list[_Log]]:
    descriptors: list[int] = []
    try:
        for file in files:
            try:
                descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            except FileNotFoundError:
                continue
            descriptors.append(descriptor)
        regular = [item for item in descriptors if stat.S_ISREG(os.fstat(item).st_mode)]
        yield [log for log in map(_Log, regular) if log.whole > 0]
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def _bad_cursor() -> Exception:
    return bad_request(
        "the cursor does not belong to this log", "use the cursor of an earlier answer as it is, or leave it out"
    )
