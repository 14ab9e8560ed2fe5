"""The passing on of bytes between two sockets, without more copies than the two of the kernel.

The event loop's transports would add a copy and several calls to each piece. One large buffer serves all connections:
what a socket does not take at once is kept apart, and no more is read from the other one meanwhile.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

_BUFFER = memoryview(bytearray(64 * 1024))
"""Buffer into which all connections are read; what was read is sent or set aside before the next read.

Its size bounds what is set aside for each direction of a connection, of which an agent can have many.
"""


class Tunnel:
    """Two sockets that are connected with each other until both have said their last, or one fails."""

    def __init__(
        self,
        client: socket.socket,
        server: socket.socket,
        count_sent: Callable[[int], None],
        count_received: Callable[[int], None],
    ) -> None:
        loop = asyncio.get_running_loop()
        self._done: asyncio.Future[None] = loop.create_future()
        self._open = 2
        self._up = _Direction(loop, client, server, count_sent, self._end)
        self._down = _Direction(loop, server, client, count_received, self._end)

    @property
    def last_byte(self) -> float:
        """Return the time of the event loop at which the last byte was read."""
        return max(self._up.last_byte, self._down.last_byte)

    async def run(self) -> None:
        """Pass bytes on until both ends have ended, or one has failed. The sockets stay open."""
        try:
            self._up.start()
            self._down.start()
            await self._done
        finally:
            self._up.stop()
            self._down.stop()

    def _end(self, sink: socket.socket | None) -> None:
        """Take note that a direction has ended: at the end of its source, or because it has failed (no `sink`)."""
        self._open -= 1
        if sink is not None and self._open:
            try:
                sink.shutdown(socket.SHUT_WR)  # No more comes; the other end may still answer.
                return
            except OSError:
                pass
        if not self._done.done():
            self._done.set_result(None)


class _Direction:
    """One of the two directions of a tunnel."""

    __slots__ = ("_count", "_ended", "_loop", "_rest", "_sink", "_source", "last_byte")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        source: socket.socket,
        sink: socket.socket,
        count: Callable[[int], None],
        ended: Callable[[socket.socket | None], None],
    ) -> None:
        self._loop = loop
        self._source = source
        self._sink = sink
        self._count = count
        self._ended = ended
        self._rest = b""
        self.last_byte = loop.time()

    def start(self) -> None:
        self._loop.add_reader(self._source, self._read)

    def stop(self) -> None:
        self._loop.remove_reader(self._source)
        self._loop.remove_writer(self._sink)

    def _read(self) -> None:
        try:
            size = self._source.recv_into(_BUFFER)
        except BlockingIOError:
            return
        except OSError:
            self._end(failed=True)
            return
        if not size:
            self._end(failed=False)
            return
        self.last_byte = self._loop.time()
        self._count(size)
        try:
            sent = self._sink.send(_BUFFER[:size])
        except BlockingIOError:
            sent = 0
        except OSError:
            self._end(failed=True)
            return
        if sent < size:
            self._rest = bytes(_BUFFER[sent:size])
            self._loop.remove_reader(self._source)
            self._loop.add_writer(self._sink, self._write)

    def _write(self) -> None:
        try:
            sent = self._sink.send(self._rest)
        except BlockingIOError:
            return
        except OSError:
            self._end(failed=True)
            return
        self.last_byte = self._loop.time()
        self._rest = self._rest[sent:]
        if not self._rest:
            self._loop.remove_writer(self._sink)
            self._loop.add_reader(self._source, self._read)

    def _end(self, *, failed: bool) -> None:
        self.stop()
        self._ended(None if failed else self._sink)
