"""Unix sockets that listen only with the right mode, and that bound what their callers can use up."""

from __future__ import annotations

import asyncio
import socket
import struct
from http import HTTPStatus
from pathlib import Path
from typing import cast

from aiohttp import web

from hive_core.infra.unix_sockets import bind
from hive_core.protocol import ErrorAnswer, ErrorBody

_BACKLOG = 1024
"""Callers that wait to be accepted, above all limits of connections, as non-blocking connects fail when it is full."""
_STALLED_SECONDS = 30.0
"""Longest that a caller may leave an answer unread."""
_REQUEST_SECONDS = 20.0
"""Longest that a request may take to arrive, from its first byte on; a unix socket needs milliseconds."""
_UNFINISHED_BYTES = 8 * 1024 * 1024
"""Size of all requests of a caller that have not arrived completely: four of the largest."""


class Listener:
    """One socket of a runner, which bounds what its callers can use up.

    A connection is closed if its caller does not read an answer for 30 s, or does not complete a request within 20 s.
    If unfinished requests have more than 8 MiB together, the oldest of them is refused and closed, and nothing more is
    read from the others until it has given back its memory. The number of
    connections is limited: a new one takes the place of one that has no request, of an unfinished request or of a long
    poll, in this order and the oldest first, so that a program that opens many cannot keep others of its agent away.
    """

    def __init__(
        self,
        runner: web.BaseRunner,
        path: Path,
        mode: int,
        group: int | None = None,
        *,
        connections: int,
        stalled_seconds: float = _STALLED_SECONDS,
        request_seconds: float = _REQUEST_SECONDS,
        unfinished_bytes: int = _UNFINISHED_BYTES,
    ) -> None:
        """`mode` and `group` are the socket's; the directory that it lies in must be the daemon's own."""
        self.runner = runner
        self.connections = connections
        self.stalled_seconds = stalled_seconds
        self.unfinished = 0
        """Bytes of all requests that have not arrived completely."""
        self.open: set[_Connection] = set()
        self._leaving = 0
        """Bytes of unfinished requests whose connections are being closed, but whose memory is not free yet."""
        self._request_seconds = request_seconds
        self._most_unfinished = unfinished_bytes
        self._sweep: asyncio.TimerHandle | None = None
        self._path = path
        self._mode = mode
        self._group = group
        self._server: asyncio.Server | None = None

    @property
    def watches(self) -> bool:
        """Return True while a timer looks for requests that take too long to arrive."""
        return self._sweep is not None

    @property
    def waits_for_memory(self) -> bool:
        """Return True while nothing is read, as closed connections have not given back their memory."""
        return bool(self._leaving)

    async def start(self) -> None:
        """Bind and listen; a socket left by an earlier daemon is replaced. Raises `cannot_listen`."""
        bound = bind(self._path, self._mode, self._group)
        loop = asyncio.get_running_loop()
        self._server = await loop.create_unix_server(lambda: _Connection(self), sock=bound, backlog=_BACKLOG)

    def stop(self) -> None:
        """Accept nothing more and remove the socket; open connections are the runner's to end."""
        if self._server is not None:
            self._server.close()
            self._server = None
            self._path.unlink(missing_ok=True)

    def hang_up(self) -> None:
        """Close every connection at once."""
        for connection in list(self.open):
            connection.abort()

    def add(self, connection: _Connection) -> bool:
        """Take up a connection, in the place of another one if need be; returns whether there is a place."""
        if len(self.open) >= self.connections:
            replaceable = [other for other in self.open if other.rank is not None]
            if not replaceable:
                return False
            min(replaceable, key=lambda other: (other.rank, other.since)).abort()
        self.open.add(connection)
        return True

    def received(self, count: int) -> None:
        """Count bytes of an unfinished request, and close the oldest such request if they are too many."""
        self.unfinished += count
        if self._sweep is None:
            self._sweep = asyncio.get_running_loop().call_later(self._request_seconds / 4, self._end_slow_requests)
        if self.unfinished > self._most_unfinished:
            min((each for each in self.open if each.unfinished), key=lambda each: each.since).end(_TOO_MUCH)

    def leave(self, count: int) -> None:
        """Read nothing more until `left` is called with the same number: these bytes of a closed connection are kept.

        Without this a caller that sends on all its connections would have far more kept than it may: what one turn of
        the loop reads is freed in a later one.
        """
        if count and not self._leaving:
            for connection in self.open:
                connection.pause_reading()
        self._leaving += count

    def left(self, count: int) -> None:
        """Read on, as these bytes are free."""
        self._leaving -= count
        if count and not self._leaving:
            for connection in self.open:
                connection.resume_reading()

    def _end_slow_requests(self) -> None:
        loop = asyncio.get_running_loop()
        latest = loop.time() - self._request_seconds
        for connection in list(self.open):
            if connection.rank == _UNFINISHED and connection.since < latest:
                connection.end(_TIMED_OUT)
        # No timer while nothing is unfinished, so that an idle daemon sleeps.
        again = self._request_seconds / 4
        self._sweep = loop.call_later(again, self._end_slow_requests) if self.unfinished else None


_IDLE, _UNFINISHED, _WAITING = range(3)
"""Ranks of connections that may be closed for a new one: without a request, with a part of one, with a long poll."""
_connections: dict[object, _Connection] = {}
"""Every open connection, by aiohttp's handler for it, as a request knows that."""


class _Connection(asyncio.Protocol):
    """A connection before aiohttp's handler, which forgets a connection that is closed but not yet written out.

    `rank` is None while a request is carried out; `since` is the time from which on the rank holds. `unfinished` is the
    number of bytes that have arrived since the last complete request.
    """

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._loop = asyncio.get_running_loop()
        self._handler: web.RequestHandler | None = None
        self._transport: asyncio.Transport | None = None
        self._stalled: asyncio.TimerHandle | None = None
        self.rank: int | None = _IDLE
        self.since = self._loop.time()
        self.unfinished = 0
        self._leaving = 0
        self._complete = False
        self._streams = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        server = self._listener.runner.server
        if server is None or not self._listener.add(self):
            self._transport.abort()
            return
        # So that pause_writing is called for every byte that the caller leaves unread.
        self._transport.set_write_buffer_limits(high=0)
        self._handler = server()
        _connections[self._handler] = self
        self._handler.connection_made(transport)
        if self._listener.waits_for_memory:
            self.pause_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget()
        self._written_out()
        if self._handler is not None:
            self._handler.connection_lost(exc)
        if self._leaving:  # After the request's task, which has just been cancelled and holds the bytes.
            self._loop.call_soon(self._listener.left, self._leaving)
            self._leaving = 0

    def data_received(self, data: bytes) -> None:
        if self._handler is None or self not in self._listener.open:
            return  # It is being closed.
        if self._streams:  # The handler reads it as it comes, and aiohttp stops the caller until then.
            self._handler.data_received(data)
            return
        if not self.unfinished and self.rank == _IDLE:
            self.rank, self.since = _UNFINISHED, self._loop.time()
        self.unfinished += len(data)
        self._listener.received(len(data))
        if self in self._listener.open:
            self._handler.data_received(data)

    def begin(self, *, waits: bool, complete: bool, streams: bool) -> None:
        """Note that a request is carried out; `waits` if it is a long poll, `streams` if its body is read meanwhile."""
        self._settle()
        self._streams = streams and not complete
        self._complete = complete
        self.rank, self.since = _WAITING if waits else None, self._loop.time()

    def finish(self, *, complete: bool) -> None:
        """Note that a request is answered. What has arrived behind it is the next one.

        `complete`: the request has arrived as a whole, which `begin` did not know if it was refused before, or if its
        body is not read.
        """
        if complete and not self._complete:
            self._settle()
        self._complete = self._streams = False
        self.rank, self.since = _UNFINISHED if self.unfinished else _IDLE, self._loop.time()

    def end(self, answer: bytes) -> None:
        """Close the connection, whose request has not arrived, and tell the caller why.

        At once if the caller leaves earlier answers unread: what has arrived is kept until the connection has ended.
        """
        self._forget()
        if self._transport is not None:
            self._transport.write(answer)
            if self._transport.get_write_buffer_size():
                self._transport.abort()
            else:
                self._transport.close()

    def eof_received(self) -> None:
        if self._handler is not None:
            self._handler.eof_received()

    def pause_writing(self) -> None:
        loop = asyncio.get_running_loop()
        self._stalled = loop.call_later(self._listener.stalled_seconds, self.abort)
        if self._handler is not None:
            self._handler.pause_writing()

    def resume_writing(self) -> None:
        self._written_out()
        if self._handler is not None:
            self._handler.resume_writing()

    def abort(self) -> None:
        # At once, as the loop reports the end of the connection only later.
        self._forget()
        if self._transport is not None:
            self._transport.abort()

    def pause_reading(self) -> None:
        """Let nothing more arrive, unless a handler reads it as it comes."""
        if self._transport is not None and not self._streams and not self._transport.is_closing():
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Let more arrive."""
        if self._transport is not None and not self._streams and not self._transport.is_closing():
            self._transport.resume_reading()

    def _forget(self) -> None:
        self._listener.open.discard(self)
        self._leaving += self.unfinished
        self._listener.leave(self.unfinished)
        self._settle()
        if self._handler is not None:
            _connections.pop(self._handler, None)

    def _settle(self) -> None:
        self._listener.unfinished -= self.unfinished
        self.unfinished = 0

    def _written_out(self) -> None:
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None


def request_begins(request: web.BaseRequest, *, waits: bool, streams: bool = False) -> None:
    """Note that the request is carried out; `waits` if it is a long poll, `streams` if its body is read meanwhile."""
    if (connection := _connections.get(request.protocol)) is not None:
        connection.begin(waits=waits, complete=request.content.is_eof(), streams=streams)


def request_ends(request: web.BaseRequest) -> None:
    """Note that the request is answered, though the caller may not have read the answer."""
    if (connection := _connections.get(request.protocol)) is not None:
        connection.finish(complete=request.content.is_eof())


def _final_answer(code: str, status: HTTPStatus, why: str, hint: str) -> bytes:
    body = ErrorAnswer(error=ErrorBody(code=code, message=why, hint=hint)).as_json().encode()
    head = (
        f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    )
    return head.encode() + b"Connection: close\r\n\r\n" + body


_TIMED_OUT = _final_answer(
    "request_timeout",
    HTTPStatus.REQUEST_TIMEOUT,
    "the request did not arrive completely in time",
    "send each request as a whole",
)
_TOO_MUCH = _final_answer(
    "too_much_unfinished",
    HTTPStatus.TOO_MANY_REQUESTS,
    "the requests under way are too large together",
    "send large requests one after another",
)


def peer(request: web.BaseRequest) -> tuple[int, int]:
    """Return the process and user at the other end of a unix socket (SO_PEERCRED, unix(7))."""
    transport = request.transport
    connection = None if transport is None else transport.get_extra_info("socket")
    if connection is None:
        raise ConnectionResetError("the caller has hung up")
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    process, user, _ = struct.unpack("3i", credentials)
    return process, user
