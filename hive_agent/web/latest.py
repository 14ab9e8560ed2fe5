"""What the turn that was told of last has said, for readers that come in its middle."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping


class LatestTurn:
    """The last entries of the turn that was told of last, for readers that come in its middle."""

    MOST = 200
    MOST_BYTES = 512 * 1024

    def __init__(self) -> None:
        self._turn: object = None
        self._entries: deque[bytes] = deque()
        self._bytes = 0
        self._partial = False

    def add(self, data: Mapping[str, object], content: bytes) -> None:
        if data.get("turn") != self._turn:
            self._turn = data.get("turn")
            self._entries.clear()
            self._bytes = 0
            # It may have begun in an earlier life of the harness.
            self._partial = data.get("n") != 1
        self._entries.append(content)
        self._bytes += len(content)
        while len(self._entries) > self.MOST or self._bytes > self.MOST_BYTES:
            self._bytes -= len(self._entries.popleft())
            self._partial = True

    def as_json(self) -> bytes:
        """`{"entries": [...], "partial": ...}`; partial: the turn has earlier entries, too."""
        return b'{"entries":[%s],"partial":%s}' % (b",".join(self._entries), b"true" if self._partial else b"false")
