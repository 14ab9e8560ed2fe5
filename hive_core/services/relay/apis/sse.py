"""Server-sent events, read from a stream as it passes (https://html.spec.whatwg.org/multipage/server-sent-events.html).

Only the data of events is of interest here, and no event is kept longer than it takes to read it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

MOST_EVENT_BYTES = 8 * 1024 * 1024
"""Data of one event; that of a larger one is skipped."""
_LINE_END = re.compile(rb"\r\n|\n|\r")


class EventReader:
    """The events of one stream."""

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[bytes] = []
        self._size = 0
        self.skipped = False
        """True if an event was too large to be read."""

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """Return the data of each event that a chunk completes."""
        text = self._rest + chunk
        start = 0
        for end in _LINE_END.finditer(text):
            if end.group() == b"\r" and end.end() == len(text):
                break  # The other half of the end of this line may be in the next chunk.
            data = self._line(text[start : end.start()])
            start = end.end()
            if data is not None:
                yield data
        self._rest = text[start:]
        if len(self._rest) + self._size > MOST_EVENT_BYTES:
            # A line without an end: its beginning decides what it is, and that is lost now.
            self._rest = b":"
            self._skip()

    def finish(self) -> Iterator[bytes]:
        """Return the data of an event that the end of the stream has left without its empty line."""
        for data in (self._line(self._rest.rstrip(b"\r")), self._line(b"")):
            if data is not None:
                yield data

    def _line(self, line: bytes) -> bytes | None:
        if not line:
            data, self._data, self._size = b"\n".join(self._data), [], 0
            return data or None
        if line.startswith(b"data:"):
            self._data.append(line[6:] if line[5:6] == b" " else line[5:])
            self._size += len(line)
            if self._size > MOST_EVENT_BYTES:
                self._skip()
        return None

    def _skip(self) -> None:
        self._data, self._size, self.skipped = [], 0, True
