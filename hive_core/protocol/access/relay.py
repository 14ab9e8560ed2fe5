"""Bytes passed on between pairs of stream sockets, in both directions: for connections to a port of an agent."""

from __future__ import annotations

import selectors
import socket
from collections.abc import Callable
from contextlib import suppress

_CHUNK = 64 * 1024


class _Direction:
    """The bytes from one socket to the other: at most one chunk is kept while the other one takes none."""

    def __init__(self, source: socket.socket, target: socket.socket) -> None:
        self.source = source
        self.target = target
        self.kept = b""
        self.ended = False

    def move(self) -> None:
        """Pass on what has arrived. Raises OSError if one of both sockets is broken."""
        if self.kept:
            self._send(self.kept)
        # Small answers need one turn; large ones leave the other pairs theirs.
        elif not self.ended:
            try:
                arrived = self.source.recv(_CHUNK)
            except BlockingIOError:
                return
            if arrived:
                self._send(arrived)
            else:
                self.ended = True
        if self.ended and not self.kept:
            with suppress(OSError):  # It is closed already.
                self.target.shutdown(socket.SHUT_WR)

    def _send(self, data: bytes) -> None:
        try:
            sent = self.target.send(data, socket.MSG_NOSIGNAL)
        except BlockingIOError:
            sent = 0
        self.kept = data[sent:]

    @property
    def is_over(self) -> bool:
        return self.ended and not self.kept


class Relay:
    """Passes bytes on between pairs of sockets, on one thread. It closes both of a pair when it has ended."""

    def __init__(self) -> None:
        self.selector = selectors.DefaultSelector()
        self._pairs: dict[socket.socket, tuple[_Direction, _Direction]] = {}

    def __len__(self) -> int:
        return len(self._pairs) // 2

    def add(self, one: socket.socket, other: socket.socket) -> None:
        """Pass bytes on between two sockets from now on."""
        pair = (_Direction(one, other), _Direction(other, one))
        for each in (one, other):
            each.setblocking(False)
            self._pairs[each] = pair
        self._watch(pair)

    def watch(self, waiting: socket.socket, called: Callable[[], None]) -> None:
        """Call `called` whenever the socket, which belongs to no pair, has something to read."""
        self.selector.register(waiting, selectors.EVENT_READ, called)

    def run_once(self, timeout: float | None = None) -> None:
        """Wait until something has arrived, or can be sent, and pass it on."""
        for key, _ in self.selector.select(timeout):
            if key.data is not None:
                key.data()
            elif (pair := self._pairs.get(key.fileobj)) is not None:  # type: ignore[call-overload]
                self._move(pair)

    def close(self) -> None:
        """Close all pairs."""
        for pair in list(self._pairs.values()):
            self._end(pair)
        self.selector.close()

    def _move(self, pair: tuple[_Direction, _Direction]) -> None:
        try:
            for direction in pair:
                direction.move()
        except OSError:
            self._end(pair)
            return
        if all(direction.is_over for direction in pair):
            self._end(pair)
        else:
            self._watch(pair)

    def _watch(self, pair: tuple[_Direction, _Direction]) -> None:
        wanted = {pair[0].source: 0, pair[1].source: 0}
        for direction in pair:
            if direction.kept:
                wanted[direction.target] |= selectors.EVENT_WRITE
            elif not direction.ended:
                wanted[direction.source] |= selectors.EVENT_READ
        for each, events in wanted.items():
            known = self.selector.get_map().get(each)
            if known is None and events:
                self.selector.register(each, events)
            elif known is not None and not events:
                self.selector.unregister(each)
            elif known is not None and known.events != events:
                self.selector.modify(each, events)

    def _end(self, pair: tuple[_Direction, _Direction]) -> None:
        for direction in pair:
            if self._pairs.pop(direction.source, None) is not None:
                if self.selector.get_map().get(direction.source) is not None:
                    self.selector.unregister(direction.source)
                direction.source.close()
