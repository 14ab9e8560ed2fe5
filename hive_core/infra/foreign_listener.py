"""Connections accepted on a listening socket that somebody else holds, too, and may turn against whoever accepts.

Duplicates of a socket share its flags (fcntl(2), O_NONBLOCK) and its options. The other holder can make the socket
blocking, and take the connection that has just been announced: accept(2) then waits, for ever if it likes. So the event
loop only learns that a connection is there, and a thread of this listener alone accepts it. Nothing else ever waits for
that thread.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from hive_core.infra.concurrency.closing import NO_LINGER, close_apart

_AT_ONCE = 16
"""Connections accepted before the event loop is asked again whether there are more."""
_SHORTAGES = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_PAUSE_SECONDS = 0.5
"""After a shortage, before the next attempt; meanwhile callers wait in the kernel's queue."""
_GONE = (errno.ECONNABORTED, errno.EPROTO, errno.ENETDOWN, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EPERM)
"""Errors of a connection that ended before it was accepted (accept(2)): the next one may be fine."""


_SO_COOKIE = 57
"""The number of a socket, which all its duplicates have, and no other (socket(7), Linux 4.12)."""


class ForeignListener:
    """Accepts the connections of one listener, until it is closed or was made unusable by its other holder."""

    def __init__(
        self, listener: socket.socket, accepted: Callable[[socket.socket], None], ended: Callable[[], None]
    ) -> None:
        """Take `listener` over.

        On the event loop, `accepted` is called with each connection, which does not block and which it must close, and
        `ended` once if the listener cannot be used any more.
        """
        self._listener = listener
        self._accepted = accepted
        self._ended = ended
        self._loop = asyncio.get_running_loop()
        self._worker: ThreadPoolExecutor | None = None
        self._closed = False
        self._leaving = False
        self._idle = asyncio.Event()
        """Set while the thread accepts nothing."""
        listener.setblocking(False)
        self._watch()

    def is_same(self, other: socket.socket) -> bool:
        """Return True if a socket is a duplicate of this listener."""
        return _cookie(self._listener) == _cookie(other)

    def close(self) -> None:
        """Accept no more connections, and end the listener for its other holders, too."""
        if self._closed:
            return
        self._closed = True
        self._loop.remove_reader(self._listener)
        # A thread that waits in accept(2) wakes up by this; it would not by a close alone.
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        if self._worker is None:
            self._end_listener()
        else:
            self._worker.submit(self._end_listener)
            self._worker.shutdown(wait=False)

    async def leave(self, seconds: float = 0.5) -> None:
        """Accept no more connections, and let callers wait for whoever accepts next.

        If the other holder makes an accept wait for longer than `seconds`, the listener is ended for it, too.
        """
        if self._closed:
            return
        self._leaving = True
        self._loop.remove_reader(self._listener)
        try:
            async with asyncio.timeout(seconds):
                await self._idle.wait()
        except TimeoutError:
            self.close()
        else:
            if not self._closed:
                self._closed = True
                self._end_listener()

    def _end_listener(self) -> None:
        """Close the listener, of which its other holder may have made a connection that lingers."""
        close_apart(self._listener.detach())

    def _watch(self) -> None:
        self._idle.set()
        if not self._closed and not self._leaving:
            self._loop.add_reader(self._listener, self._readable)

    def _readable(self) -> None:
        self._loop.remove_reader(self._listener)
        self._idle.clear()
        if self._worker is None:  # An agent that never connects costs no thread.
            self._worker = ThreadPoolExecutor(1, "accept")
        self._worker.submit(self._accept)

    def _accept(self) -> None:
        """Accept what there is; runs on the listener's thread."""
        follow: Callable[[], object] = self._watch
        for _ in range(_AT_ONCE):
            try:
                connection, _ = self._listener.accept()
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno in _GONE:
                    continue
                follow = self._rest if error.errno in _SHORTAGES else self._end
                break
            with suppress(OSError):  # It is inherited: with it, a close would wait.
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
            connection.setblocking(False)
            if not self._call(lambda connection=connection: self._deliver(connection)):  # type: ignore[misc]
                connection.close()
                return
        self._call(follow)

    def _call(self, function: Callable[[], object]) -> bool:
        """Call a function on the event loop; returns False if that has ended."""
        try:
            self._loop.call_soon_threadsafe(function)
        except RuntimeError:
            return False
        return True

    def _deliver(self, connection: socket.socket) -> None:
        if self._closed:
            connection.close()
        else:
            self._accepted(connection)

    def _rest(self) -> None:
        self._idle.set()
        self._loop.call_later(_PAUSE_SECONDS, self._watch)

    def _end(self) -> None:
        if not self._closed:
            self.close()
            self._ended()


def _cookie(listener: socket.socket) -> bytes:
    return listener.getsockopt(socket.SOL_SOCKET, _SO_COOKIE, 8)
