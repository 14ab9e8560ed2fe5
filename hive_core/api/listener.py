"""Unix sockets that listen only with the right mode, and that bound what their callers can use up."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
import struct
from pathlib import Path
from typing import cast

from aiohttp import web

from hive_core.errors import HiveError

_BACKLOG = 1024
"""Callers that wait to be accepted, above all limits of connections, as non-blocking connects fail when it is full."""
_STALLED_SECONDS = 30.0
"""Longest that a caller may leave an answer unread."""


class Listener:
    """One socket of a runner.

    It accepts a limited number of connections at a time; further ones are closed. A connection whose caller does not
    read its answer is closed after 30 s. So no agent can use up the daemon's descriptors or memory.
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
    ) -> None:
        """`mode` and `group` are the socket's; the directory that it lies in must be the daemon's own."""
        self.runner = runner
        self.connections = connections
        self.stalled_seconds = stalled_seconds
        self.open: set[_Connection] = set()
        self._path = path
        self._mode = mode
        self._group = group
        self._server: asyncio.Server | None = None

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


class _Connection(asyncio.Protocol):
    """A connection before aiohttp's handler, which forgets a connection that is closed but not yet written out."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._handler: web.RequestHandler | None = None
        self._transport: asyncio.Transport | None = None
        self._stalled: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        server = self._listener.runner.server
        if server is None or len(self._listener.open) >= self._listener.connections:
            self.abort()
            return
        self._listener.open.add(self)
        # So that pause_writing is called for every byte that the caller leaves unread.
        self._transport.set_write_buffer_limits(high=0)
        self._handler = server()
        self._handler.connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._listener.open.discard(self)
        self._written_out()
        if self._handler is not None:
            self._handler.connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._handler is not None:
            self._handler.data_received(data)

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
        if self._transport is not None:
            self._transport.abort()

    def _written_out(self) -> None:
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None


def bind(path: Path, mode: int, group: int | None) -> socket.socket:
    """Return a bound unix socket with this mode and group; an existing socket is replaced.

    Raises `cannot_listen`.
    """
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _remove_old(path)
        bound.bind(str(path))
        # Nobody can connect before it listens, which is later: until then its mode does not matter.
        if group is not None:
            os.chown(path, -1, group, follow_symlinks=False)
        path.chmod(mode)
    except OSError as error:
        bound.close()
        raise HiveError("cannot_listen", f"cannot listen on {path}: {os.strerror(error.errno or 0)}") from None
    except HiveError:
        bound.close()
        raise
    bound.setblocking(False)
    return bound


def _remove_old(path: Path) -> None:
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise HiveError("cannot_listen", f"{path} is there and no socket", hint="remove it")
        path.unlink()
    except FileNotFoundError:
        pass


def peer(request: web.BaseRequest) -> tuple[int, int]:
    """Return the process and user at the other end of a unix socket (SO_PEERCRED, unix(7))."""
    transport = request.transport
    connection = None if transport is None else transport.get_extra_info("socket")
    if connection is None:
        raise ConnectionResetError("the caller has hung up")
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    process, user, _ = struct.unpack("3i", credentials)
    return process, user
