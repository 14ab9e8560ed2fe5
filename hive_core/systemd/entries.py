"""Entries of the journal as journalctl prints them (`--output=json`), made into lines of bounded length and number."""

from __future__ import annotations

import json
from collections import deque
from datetime import UTC, datetime

MAX_LINE_BYTES = 16 * 1024
ANSWER_BYTES = 1024 * 1024
"""One answer holds at most so much, whatever number of lines was asked for."""
_MAX_ENTRY_BYTES = 1024 * 1024
"""Of journalctl's output for one entry; what is longer is left out."""
_MAX_COMPLAINT = 500


class Entries:
    """At most `most` lines: the first that come, or the last of them if `newest` is set.

    `cursor` is that of the last of them, empty if there is none. `complaint` is what journalctl said beside them.
    """

    def __init__(self, most: int, *, newest: bool = False) -> None:
        self.cursor = ""
        self.complaint = ""
        self._most = most
        self._newest = newest
        self._lines: deque[str] = deque()
        self._bytes = 0
        self._rest = b""
        self._too_long = False

    @property
    def lines(self) -> list[str]:
        return list(self._lines)

    @property
    def full(self) -> bool:
        """Whether whatever comes is not wanted any more."""
        return not self._newest and (len(self._lines) >= self._most or self._bytes >= ANSWER_BYTES)

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the output."""
        *whole, rest = (self._rest + data).split(b"\n")
        for line in whole:
            if not self._too_long:
                self._take(line)
            self._too_long = False
        self._too_long = self._too_long or len(rest) > _MAX_ENTRY_BYTES
        self._rest = b"" if self._too_long else rest

    def _take(self, line: bytes) -> None:
        if self.full:
            return
        try:
            entry = json.loads(line)
            cursor, usec = str(entry["__CURSOR"]), int(entry["__REALTIME_TIMESTAMP"])
        except (ValueError, KeyError, TypeError):
            self.complaint = (self.complaint + line.decode(errors="replace") + " ")[:_MAX_COMPLAINT]
            return
        stamp = datetime.fromtimestamp(usec / 1_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        self._add(f"{stamp} {_text(entry.get('MESSAGE'))}")
        self.cursor = cursor

    def _add(self, line: str) -> None:
        self._lines.append(line)
        self._bytes += len(line.encode(errors="replace"))
        while len(self._lines) > 1 and (len(self._lines) > self._most or self._bytes > ANSWER_BYTES) and self._newest:
            self._bytes -= len(self._lines.popleft().encode(errors="replace"))


def _text(message: object) -> str:
    """A message as one line. journalctl gives what is no plain text as an array of its bytes."""
    if isinstance(message, list):
        numbers = all(isinstance(byte, int) and 0 <= byte < 256 for byte in message)
        message = bytes(message).decode(errors="replace") if numbers else ""
    if not isinstance(message, str):
        return ""
    line = " ".join(message.splitlines()).rstrip()
    data = line.encode(errors="replace")
    return line if len(data) <= MAX_LINE_BYTES else data[:MAX_LINE_BYTES].decode(errors="ignore") + " [line cut]"
