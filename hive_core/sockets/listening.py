"""Listening on unix sockets: made with the right mode from the start, and bounded in connections."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
import struct
from pathlib import Path

from aiohttp import web

from hive_core.errors import HiveError

_BACKLOG = 128
_CONNECTIONS = 256
_CONNECTING_SECONDS = 1.0


class Listener:
    """One socket of a runner.

    It takes at most 256 connections at a time: a caller that opens more is hung up on, so that no agent can use up
    the daemon's file descriptors.
    """

    def __init__(self, runner: web.BaseRunner, path: Path, mode: int, group: int | None = None) -> None:
        self._runner = runner
        self._path = path
        self._mode = mode
        self._group = group
        self._accepted: dict[web.RequestHandler, float] = {}
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Bind and listen; a socket left by an earlier daemon is replaced."""
        bound = _bind(self._path, self._mode, self._group)
        loop = asyncio.get_running_loop()
        self._server = await loop.create_unix_server(self._accept, sock=bound, backlog=_BACKLOG)

    def stop(self) -> None:
        """Accept nothing more and remove the socket; open connections are the runner's to end."""
        if self._server is not None:
            self._server.close()
            self._server = None
            self._path.unlink(missing_ok=True)

    def hang_up(self) -> None:
        """Break off every connection."""
        for protocol in self._accepted:
            if protocol.transport is not None:
                protocol.transport.abort()

    def _accept(self) -> asyncio.Protocol:
        now = asyncio.get_running_loop().time()
        # A protocol has no transport before it is connected and after it is closed; the first takes but a moment.
        self._accepted = {
            protocol: made
            for protocol, made in self._accepted.items()
            if protocol.transport is not None or now - made < _CONNECTING_SECONDS
        }
        if self._runner.server is None or len(self._accepted) >= _CONNECTIONS:
            return _HangUp()
        protocol = self._runner.server()
        self._accepted[protocol] = now
        return protocol


class _HangUp(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.close()


def _bind(path: Path, mode: int, group: int | None) -> socket.socket:
    _remove_old(path)
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    # The mode is set by the umask at bind: a chmod afterwards would leave a moment in which everybody may connect.
    before = os.umask(0o777 & ~mode)
    try:
        bound.bind(str(path))
        if group is not None:
            os.chown(path, -1, group, follow_symlinks=False)
    except OSError as error:
        bound.close()
        raise HiveError("cannot_listen", f"cannot listen on {path}: {os.strerror(error.errno or 0)}") from None
    finally:
        os.umask(before)
    bound.setblocking(False)
    return bound


def _remove_old(path: Path) -> None:
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise HiveError("cannot_listen", f"{path} is there and no socket", hint="remove it")
        path.unlink()
    except FileNotFoundError:
        pass


def peer(request: web.Request) -> tuple[int, int]:
    """The process and user at the other end of a unix socket, as the kernel knows them (SO_PEERCRED, unix(7))."""
    transport = request.transport
    connection = None if transport is None else transport.get_extra_info("socket")
    if connection is None:
        raise ConnectionResetError("the caller has hung up")
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    process, user, _ = struct.unpack("3i", credentials)
    return process, user
